// Node `ws`: subscribes, takes events, pings, closes.
import WebSocket from "ws";

const [url, compression, wanted] = process.argv.slice(2);
const socket = new WebSocket(url, "tickgate.v1.json", { perMessageDeflate: compression === "deflate" });
const fail = (why) => {
  console.error(why);
  process.exit(1);
};
setTimeout(() => fail("nothing to be had within 30 s"), 30_000).unref();
let events = 0;
let isAnswered = false;
let isPonged = false;
let extensions = "";

socket.on("error", fail);
socket.on("open", () => {
  extensions = socket.extensions;
  const subscriptions = [{ channel: "quotes", symbols: ["*"] }];
  socket.send(JSON.stringify({ op: "subscribe", id: 1, subscriptions }));
  socket.ping("are you there");
});
socket.on("pong", (data) => {
  isPonged = data.toString() === "are you there";
});
socket.on("message", (data, isBinary) => {
  if (isBinary) fail("a binary message");
  const message = JSON.parse(data);
  if (Array.isArray(message)) {
    if (!isAnswered) fail("an event before the answer");
    events += message.length;
    if (events >= Number(wanted) && isPonged) socket.close(1000);
  } else if (message.op === "ack") {
    isAnswered = message.results.every((result) => result.ok);
  }
});
socket.on("close", (code) => {
  if (code !== 1000) fail(`closed with ${code}`);
  console.log(`ok ${events} events, extensions [${extensions}]`);
});
