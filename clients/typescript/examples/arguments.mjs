/** What every example takes: `--url`, `--seconds`, `--symbols`; and a WebSocket where the runtime has none. */

import { parseArgs } from "node:util";

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

/** Closes a client when the time is over. @param {{ close(): void }} live */
export function closeInTime(live) {
  setTimeout(() => live.close(), seconds * 1_000);
}
