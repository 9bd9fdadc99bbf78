/** What of the page stands in its address: symbols, focus, candles, theme, panels. Never a token. */

import { INTERVALS_S } from "./candles.js";
import { ROWS_MAX } from "./rows.js";

export const PANELS = ["chart", "ladder", "tape", "health"] as const;
export type Panel = (typeof PANELS)[number];
export type Theme = "dark" | "light";

/** What stands in the address. */
export interface View {
  symbols: string[];
  focus: string;
  interval_s: number;
  /** `undefined`: as the system has it. */
  theme: Theme | undefined;
  /** Panels that are shown. */
  panels: Panel[];
  /** Smallest size that the tape shows. */
  sizeMin: number;
}

/** Reads the part of an address behind `#`. What cannot be read is left at its default. */
export function readHash(hash: string): View {
  const fields = new URLSearchParams(hash.replace(/^#/, ""));
  const symbols = [...new Set((fields.get("s") ?? "").split(",").filter(isSymbol))].slice(0, ROWS_MAX);
  const focus = fields.get("f") ?? "";
  const interval_s = Number(fields.get("i"));
  const theme = fields.get("t");
  const panels = fields.get("p");
  const sizeMin = Number(fields.get("z"));
  return {
    symbols,
    focus: isSymbol(focus) ? focus : (symbols[0] ?? ""),
    interval_s: (INTERVALS_S as readonly number[]).includes(interval_s) ? interval_s : 1,
    theme: theme === "dark" || theme === "light" ? theme : undefined,
    panels: panels === null ? [...PANELS] : PANELS.filter((panel) => panels.split(",").includes(panel)),
    sizeMin: Number.isFinite(sizeMin) && sizeMin > 0 ? sizeMin : 0,
  };
}

/** Writes it, defaults left out. */
export function writeHash({ symbols, focus, interval_s, theme, panels, sizeMin }: View): string {
  const fields: [string, string][] = [];
  if (symbols.length > 0) fields.push(["s", symbols.join(",")]);
  if (focus !== "" && focus !== symbols[0]) fields.push(["f", focus]);
  if (interval_s !== 1) fields.push(["i", String(interval_s)]);
  if (theme !== undefined) fields.push(["t", theme]);
  if (panels.length < PANELS.length) fields.push(["p", panels.join(",")]);
  if (sizeMin > 0) fields.push(["z", String(sizeMin)]);
  return fields.map(([name, value]) => `${name}=${encodeURIComponent(value).replaceAll("%2C", ",")}`).join("&");
}

/** Whether a text may be a symbol: not a pattern, as the watchlist shows symbols. */
export function isSymbol(text: string): boolean {
  // eslint-disable-next-line no-control-regex -- control characters are what is refused
  return text.length > 0 && text.length <= 64 && !/[\u0000-\u001f\u007f*,]/.test(text);
}

const LOOPBACK = new Set(["localhost", "127.0.0.1", "[::1]"]);

/**
 * The gateway to connect to: the one that serves the page. For development `#gateway=ws://127.0.0.1:8080/v1/stream` names another one, which
 * counts only where both are this machine: otherwise a link could send a visitor, and his token, elsewhere.
 */
export function gatewayUrl(page: { protocol: string; host: string; hostname: string; hash: string }): string {
  const own = `${page.protocol === "https:" ? "wss:" : "ws:"}//${page.host}/v1/stream`;
  const named = new URLSearchParams(page.hash.replace(/^#/, "")).get("gateway");
  if (named === null || !LOOPBACK.has(page.hostname)) return own;
  try {
    const url = new URL(named);
    const isStream = (url.protocol === "ws:" || url.protocol === "wss:") && LOOPBACK.has(url.hostname);
    return isStream && url.search === "" && url.username === "" ? url.href : own;
  } catch {
    return own;
  }
}
