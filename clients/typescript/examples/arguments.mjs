/** What every example takes and says: `--url`, `--seconds` and `--symbols`; a WebSocket where the runtime has none; a word when nothing comes. */

import { parseArgs } from "node:util";
import { isMarketEvent } from "tickgate";

const { values } = parseArgs({
  options: {
    url: { type: "string", default: "ws://127.0.0.1:8080/v1/stream" },
    seconds: { type: "string", default: "10" },
    symbols: { type: "string", default: "*" },
  },
});

export const url = String(values.url);
export const seconds = Number(values.seconds);
export const symbols = String(values.symbols).split(",");
/** Node has a WebSocket of its own from version 22 on. @type {{ WebSocket?: any }} */
export const runtime = "WebSocket" in globalThis ? {} : { WebSocket: (await import("ws")).WebSocket };
/** When an example ends, by `performance.now()`. */
export const endMs = performance.now() + seconds * 1_000;

/** How long nothing may come before that is told. */
const QUIET_MS = 5_000;

/**
 * Closes a client when the time is over, or with Ctrl-C: its iterators end then, and what there is can be shown. Says when something has
 * come, what fails, and what may be wrong when nothing comes for a while; then the program ends with 1.
 *
 * @param {import("tickgate").Live} live @param {string} what
 */
export function follow(live, what) {
  process.exitCode = 1;
  let hasCome = false;
  let reason = "no answer";
  live.onEvent((event) => {
    if (event.type === "error") console.error(`${event.code}: ${event.message}. ${event.hint}`);
    else if (event.type === "gap") console.error("missing:", event);
    else if (event.type === "state") reason = event.reason ?? reason;
    else if (event.type === "ack") for (const { channel, symbol, message, hint } of event.results) if (hint !== undefined) console.error(`${channel} ${symbol}: ${message ?? hint}`);
    if (hasCome || !isMarketEvent(event)) return;
    hasCome = true;
    process.exitCode = 0;
    console.error(`${what} of ${symbols} for ${seconds} s; Ctrl-C ends it early`);
  });
  let told = "";
  const quiet = () => {
    if (hasCome) return;
    const where = "/symbols on the gateway's admin port lists what ticks: curl 'http://127.0.0.1:9090/symbols?top=20'";
    const [why, text] =
      live.state === "live"
        ? ["nothing", `no ${what} of ${symbols} yet. Are the symbols right, and has this market ${what}? ${where}`]
        : ["no connection", `no connection to ${url} yet, ${live.state}: ${reason}. Is a gateway there?`];
    if (why !== told) console.error(text);
    told = why;
  };
  const watching = setInterval(quiet, Math.min(QUIET_MS, seconds * 1_000 - 50));
  const over = setTimeout(() => live.close(), seconds * 1_000);
  const stop = () => live.close();
  process.once("SIGINT", stop);
  live.onEvent((event) => {
    if (event.type !== "state" || event.state !== "closed") return;
    clearTimeout(over);
    clearInterval(watching);
    process.off("SIGINT", stop);
  });
}
