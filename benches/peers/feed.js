// What the servers for Node share: ticks from a TCP connection, one record per line, and the end of the process.
"use strict";

const net = require("node:net");

const SYMBOL = '"symbol":"';
const SYMBOLS = '"symbols":[';

/** The value of `--name value`. */
exports.option = (name) => process.argv[process.argv.indexOf(`--${name}`) + 1];

/** Host and port of `host:port`. */
exports.address = (text) => {
  const at = text.lastIndexOf(":");
  return [text.slice(0, at), Number(text.slice(at + 1))];
};

/** The symbols that a subscribe request names. */
exports.symbolsOf = (request) => {
  const start = request.indexOf(SYMBOLS) + SYMBOLS.length;
  return JSON.parse(`[${request.slice(start, request.indexOf("]", start))}]`);
};

/** Calls `publish(symbol, record)` for every record that comes. */
exports.listen = (text, publish) => {
  const [host, port] = exports.address(text);
  net
    .createServer((socket) => {
      let rest = Buffer.alloc(0);
      socket.on("data", (bytes) => {
        const all = rest.length > 0 ? Buffer.concat([rest, bytes]) : bytes;
        let start = 0;
        for (let end = all.indexOf(10); end >= 0; end = all.indexOf(10, start)) {
          const record = all.subarray(start, end);
          const from = record.indexOf(SYMBOL) + SYMBOL.length;
          publish(record.toString("latin1", from, record.indexOf(34, from)), record);
          start = end + 1;
        }
        rest = all.subarray(start);
      });
    })
    .listen(port, host);
};

// Nothing outlives whoever started it.
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
