// A broadcast server with uWebSockets: its own publish and subscribe, no compression. What is published in one turn of its
// loop leaves with one write per client.
"use strict";

const uws = require("uwebsockets");
const { address, listen, option, symbolsOf } = require("./feed.js");

const [host, port] = address(option("listen"));
const app = uws.App();
app.ws("/*", {
  compression: 0,
  idleTimeout: 0,
  // Bytes that wait for a client before messages for it are dropped: the gateway's default.
  maxBackpressure: 1 << 20,
  message: (client, message) => {
    for (const symbol of symbolsOf(Buffer.from(message).toString())) client.subscribe(symbol);
    client.send('{"op":"ack"}');
  },
});
app.listen(host, port, (socket) => {
  if (!socket) process.exit(1);
});

listen(option("feed"), (symbol, record) => app.publish(symbol, record, false));
