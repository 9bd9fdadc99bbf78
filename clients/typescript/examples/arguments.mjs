/** What every example takes: `--url`, `--seconds` and `--symbols`; a WebSocket where the runtime has none. */

import { parseArgs } from "node:util";
import { connect, TickgateError } from "tickgate";

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
    wrong(String(/** @type {Error} */ (error).message).replace(/\.\s.*/s, ""));
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
  if (!(top === Infinity || (Number.isSafeInteger(top) && top > 0))) wrong("--top is a whole number above 0");
  return { url: String(values.url), symbols, seconds, top, values };
}

/** @param {string} text @returns {never} */
const wrong = (text) => refuse(`${text}; see --help`);

/** What cannot work ends before anything is captured. @param {string} text @returns {never} */
export function refuse(text) {
  console.error(text);
  process.exit(2);
}

/** Node has a WebSocket of its own from version 22 on; where there is none at all `connect` says so. @type {{ WebSocket?: any }} */
const runtime = "WebSocket" in globalThis ? {} : await import("ws").then(({ WebSocket }) => ({ WebSocket }), () => ({}));

/** A client of the gateway that was asked for. @param {Arguments} args @param {import("tickgate").ConnectOptions} [options] */
export function open({ url }, options = {}) {
  try {
    return connect(url, { ...runtime, ...options });
  } catch (error) {
    if (!(error instanceof TickgateError)) throw error;
    return refuse(`${error.code === "bad_url" ? "--url: " : ""}${error.message}. ${error.hint}`);
  }
}
