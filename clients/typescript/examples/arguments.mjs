/** What every example takes and says: `--url`, `--seconds` and `--symbols`; a WebSocket where the runtime has none; a word when nothing comes. */

import { parseArgs } from "node:util";
import { connect, isMarketEvent, TickgateError } from "tickgate";

/** Options by their name: what stands behind it, if anything does; its default; what it means. @typedef {Record<string, [string, string, string]>} Options */
/** @type {Options} */
const COMMON = {
  url: ["ADDRESS", "ws://127.0.0.1:8080/v1/stream", "a gateway"],
  symbols: ["A,B*", "*", "symbols and patterns, with commas between them"],
  seconds: ["N", "10", "how long; Ctrl-C ends it early"],
};
/** For examples that show something of each symbol. @type {Options} */
export const TOP = {
  top: ["N", "10", "how many symbols are shown"],
  all: ["", "", "show all of them"],
};
/** What a timer can wait for. */
const SECONDS_MAX = 2_000_000;
/** How long nothing may come before that is told. */
const QUIET_MS = 5_000;

/** @typedef {{ url: string, symbols: string[], seconds: number, top: number, values: Record<string, string | boolean | undefined> }} Arguments */

/**
 * The command line. What is wrong with it is told in a line, and ends the program with 2.
 *
 * @param {string} about what the example does @param {Options} more @returns {Arguments}
 */
export function commandLine(about, more = {}) {
  const all = { ...COMMON, ...more, help: ["", "", "this text"] };
  const options = Object.entries(all).map(([name, [what, value]]) => [name, what === "" ? { type: "boolean" } : { type: "string", default: value }]);
  /** @type {Arguments["values"]} */
  let values = {};
  try {
    values = /** @type {any} */ (parseArgs({ options: Object.fromEntries(options) }).values);
  } catch (error) {
    wrong(String(/** @type {Error} */ (error).message).replace(/\. .*/s, ""));
  }
  if (values.help) {
    const lines = Object.entries(all).map(([name, [what, value, text]]) => `  ${`--${name} ${what}`.padEnd(16)} ${text}${value === "" ? "" : `: ${value}`}`);
    console.log([about, "", ...lines].join("\n"));
    process.exit(0);
  }
  const symbols = String(values.symbols).split(",").map((symbol) => symbol.trim());
  const [seconds, top] = [Number(values.seconds), values.all ? Infinity : Number(values.top ?? Infinity)];
  if (symbols.includes("")) wrong("--symbols has an empty name");
  if (!(seconds > 0 && seconds <= SECONDS_MAX)) wrong(`--seconds is more than 0 and at most ${SECONDS_MAX}`);
  if (!(top > 0)) wrong("--top is a number above 0");
  return { url: String(values.url), symbols, seconds, top, values };
}

/** @param {string} text @returns {never} */
function wrong(text) {
  console.error(`${text}; see --help`);
  process.exit(2);
}

/** Node has a WebSocket of its own from version 22 on. @type {{ WebSocket?: any }} */
const runtime = "WebSocket" in globalThis ? {} : { WebSocket: (await import("ws")).WebSocket };

/** A client of the gateway that was asked for. @param {Arguments} args @param {import("tickgate").ConnectOptions} [options] */
export function open({ url }, options = {}) {
  try {
    return connect(url, { ...runtime, ...options });
  } catch (error) {
    if (!(error instanceof TickgateError)) throw error;
    console.error(`--url: ${error.message}. ${error.hint}`);
    process.exit(2);
  }
}

/**
 * Closes a client when the time is over, or with Ctrl-C: its iterators end then, and what there is can be shown. Says when something has
 * come, what fails, and what may be wrong when nothing comes for a while; then the program ends with 1.
 *
 * @param {import("tickgate").Live} live @param {Arguments} args @param {string} what
 * @returns Whether it was Ctrl-C that ended it.
 */
export function follow(live, { url, symbols, seconds }, what) {
  process.exitCode = 1;
  let [hasCome, isInterrupted] = [false, false];
  let [reason, failed, told] = ["no answer", "", ""];
  live.onEvent((event) => {
    if (event.type === "error") {
      const text = `${event.code}: ${event.message}. ${event.hint}`;
      // Of each attempt to connect the same.
      if (text !== failed) console.error(text);
      failed = text;
    } else if (event.type === "gap") console.error("missing:", event);
    else if (event.type === "state") reason = event.reason ?? reason;
    else if (event.type === "ack") for (const { channel, symbol, message, hint } of event.results) if (hint !== undefined) console.error(`${channel} ${symbol}: ${message ?? hint}`);
    if (hasCome || !isMarketEvent(event)) return;
    hasCome = true;
    process.exitCode = 0;
    console.error(`${what} of ${symbols} for ${seconds} s; Ctrl-C ends it early`);
  });
  const quiet = () => {
    if (hasCome) return;
    const where = "/symbols?top=20 on the gateway's admin port lists what ticks";
    const [why, text] =
      live.state === "live"
        ? ["nothing", `no ${what} of ${symbols} yet. Are the symbols right, and has this market ${what}? ${where}`]
        : ["no connection", `no connection to ${url} yet, ${live.state}: ${reason}. Is a gateway there?`];
    if (why !== told) console.error(text);
    told = why;
  };
  const watching = setInterval(quiet, Math.max(1, Math.min(QUIET_MS, seconds * 1_000 - 50)));
  const over = setTimeout(() => live.close(), seconds * 1_000);
  const stop = () => {
    isInterrupted = true;
    live.close();
  };
  process.once("SIGINT", stop);
  live.onEvent((event) => {
    if (event.type !== "state" || event.state !== "closed") return;
    clearTimeout(over);
    clearInterval(watching);
    process.off("SIGINT", stop);
  });
  return () => isInterrupted;
}

/** Events or batches, until they end. What ended them was told by {@link follow}, and what there is is shown. @template T @param {AsyncIterable<T>} events */
export async function* untilOver(events) {
  try {
    yield* events;
  } catch (error) {
    if (!(error instanceof TickgateError)) throw error;
    process.exitCode = 1;
  }
}

/** Prints a line for each of the first ones, and how many there are beside those. @template T @param {T[]} rows @param {Arguments} args @param {(row: T) => string} line */
export function show(rows, { top }, line) {
  for (const row of rows.slice(0, top)) console.log(line(row));
  if (rows.length > top) console.log(`… and ${rows.length - top} more (--all, or --top N)`);
}
