// A broadcast server with ws. Compression is off, as its documentation advises; a message is sent to each subscriber.
"use strict";

const { WebSocketServer } = require("ws");
const { address, listen, option, symbolsOf } = require("./feed.js");

/** Bytes that wait for a client before messages for it are dropped: the gateway's default. */
const WAITING_BYTES_MAX = 1 << 20;

const [host, port] = address(option("listen"));
const subscribers = new Map();
const server = new WebSocketServer({ host, port, perMessageDeflate: false, clientTracking: false, backlog: 4096 });
server.on("connection", (client) => {
  const mine = [];
  client.on("message", (data) => {
    for (const symbol of symbolsOf(data.toString())) {
      if (!subscribers.has(symbol)) subscribers.set(symbol, new Set());
      subscribers.get(symbol).add(client);
      mine.push(symbol);
    }
    client.send('{"op":"ack"}');
  });
  client.on("close", () => mine.forEach((symbol) => subscribers.get(symbol).delete(client)));
  client.on("error", () => client.terminate());
});

const text = { binary: false };
listen(option("feed"), (symbol, record) => {
  for (const client of subscribers.get(symbol) ?? []) {
    if (client.bufferedAmount < WAITING_BYTES_MAX) client.send(record, text);
  }
});
