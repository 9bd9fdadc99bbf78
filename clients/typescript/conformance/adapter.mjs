/**
 * Adapter of the conformance scenarios: commands come in, one JSON a line, and what the client hands out goes out. Its contract is
 * `clients/conformance/README.md`.
 */

import { createInterface } from "node:readline";
import { connect, TickgateError } from "tickgate";
import { WebSocket } from "ws";

/** The protocol's names of errors. What has none is the client's own, and the driver does not look for it. */
const CODES = new Set(
  ("bad_request unauthenticated forbidden unknown_channel unknown_symbol auth_timeout replay_aged_out subscription_limit rate_limited " +
    "connection_limit slow_consumer token_expired token_expiring internal source_down bad_frame").split(" "),
);
/** Fields of events that the contract has; others are left out. */
const FIELDS = {
  state: ["state"],
  ack: ["ok", "results"],
  auth: ["ok"],
  resync: ["channel", "symbol"],
  replay_done: ["channel", "symbol", "seq"],
  slow: ["action"],
  goaway: ["reason"],
  error: ["code", "fatal", "symbol", "hint"],
  feed: ["name", "state"],
};

/** @param {Record<string, unknown>} event */
function print(event) {
  process.stdout.write(`${JSON.stringify(event, (_, value) => (typeof value === "bigint" ? value.toString() : value))}\n`);
}

/** @param {import("tickgate").TickgateEvent} event */
function show(event) {
  const { type, ...rest } = event;
  // Results as on the wire: hints are this client's own.
  if (type === "ack") /** @type {any} */ (rest).results = event.results.map(({ hint: _, ...result }) => result);
  if (type === "error" && !CODES.has(event.code)) return;
  const names = /** @type {Record<string, string[]>} */ (FIELDS)[type];
  if (names === undefined) return print({ event: type, ...rest });
  // Which event of a bad frame is wrong the contract leaves to the text: a client that reads frames as a whole cannot tell.
  if (type === "error" && event.code === "bad_frame") delete /** @type {{ symbol?: string }} */ (rest).symbol;
  const fields = names.map((name) => [name, /** @type {Record<string, unknown>} */ (rest)[name]]).filter(([, value]) => value !== undefined);
  if (type === "state" && event.attempt !== undefined) fields.push(["attempt", event.attempt]);
  print({ event: type, ...Object.fromEntries(fields) });
}

/** @type {import("tickgate").Live | undefined} */
let live;

/** @param {any} command */
function handle(command) {
  const { cmd, ...rest } = command;
  if (cmd === "connect") {
    const { url, tokens } = rest;
    let calls = 0;
    const token = () => tokens[Math.min(calls++, tokens.length - 1)];
    live = connect(url, { WebSocket, ...(tokens === undefined ? {} : { token, tokenVia: "header" }) });
    live.onEvent(show);
    return;
  }
  if (live === undefined) throw new Error("connect comes first");
  switch (cmd) {
    case "subscribe": {
      const { channel, symbols, on_slow, conflate_ms, depth, snapshot, from } = rest;
      const options = Object.entries({ on_slow, conflate_ms, depth, snapshot, from }).filter(([, value]) => value !== undefined);
      live.subscribe(channel, symbols, Object.fromEntries(options));
      break;
    }
    case "unsubscribe":
      live.unsubscribe(rest.channel, rest.symbols);
      break;
    case "book": {
      const book = live.book(rest.symbol);
      print({ event: "levels", symbol: rest.symbol, is_complete: book.isComplete, bids: book.bids(), asks: book.asks() });
      break;
    }
    case "stats": {
      const { events, gaps, duplicates, unverified, unannounced, reconnects, badFrames } = live.stats();
      print({ event: "stats", events, gaps, duplicates, unverified, unannounced, reconnects, bad_frames: badFrames });
      break;
    }
    case "close":
      live.close();
      process.exitCode = 0;
      commands.close();
      break;
    default:
      throw new Error(`no such command: ${cmd}`);
  }
}

const commands = createInterface({ input: process.stdin });
commands.on("line", (line) => {
  if (line.trim() === "") return;
  try {
    handle(JSON.parse(line));
  } catch (error) {
    print({ event: "failed", message: error instanceof TickgateError ? `${error.code}: ${error.message}` : String(error) });
    live?.close();
    process.exitCode = 1;
    commands.close();
  }
});
commands.on("close", () => {
  live?.close();
  process.stdin.destroy();
});
