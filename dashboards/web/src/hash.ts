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

const NAMES = new Set(["s", "f", "i", "t", "p", "z", "gateway"]);

/** Reads the part of an address behind `#`. What is not known is left out, or at its default; `leftOut` tells it as it stood there. */
export function readHash(hash: string): { view: View; leftOut: string[] } {
  const fields = new URLSearchParams(hash.replace(/^#/, ""));
  const leftOut = [...new Set(fields.keys())].filter((name) => !NAMES.has(name));
  /** The value of a field, where it is there and `read` knows it. */
  const one = <T>(name: string, read: (text: string) => T | undefined): T | undefined => {
    const text = fields.get(name);
    const value = text === null ? undefined : read(text);
    if (text !== null && value === undefined) leftOut.push(`${name}=${text}`);
    return value;
  };
  /** What is known of a list; `undefined` where there is no list, or nothing of it is known. */
  const several = <T extends string>(name: string, isKnown: (part: string) => part is T): T[] | undefined => {
    const all = fields.get(name)?.split(",").filter((part) => part !== "");
    const unknown = all?.filter((part) => !isKnown(part)) ?? [];
    if (unknown.length > 0) leftOut.push(`${name}=${unknown.join(",")}`);
    return all === undefined || (all.length > 0 && all.length === unknown.length) ? undefined : [...new Set(all.filter(isKnown))];
  };
  const all = several("s", (part): part is string => isSymbol(part)) ?? [];
  if (all.length > ROWS_MAX) leftOut.push(`${all.length - ROWS_MAX} symbols beyond ${ROWS_MAX}`);
  const symbols = all.slice(0, ROWS_MAX);
  const panels = several("p", (part): part is Panel => (PANELS as readonly string[]).includes(part));
  const view: View = {
    symbols,
    focus: one("f", (text) => (isSymbol(text) ? text : undefined)) ?? symbols[0] ?? "",
    interval_s: one("i", (text) => INTERVALS_S.find((seconds) => seconds === Number(text))) ?? 1,
    theme: one("t", (text) => (text === "dark" || text === "light" ? text : undefined)),
    panels: PANELS.filter((panel) => panels?.includes(panel) ?? true),
    sizeMin: one("z", (text) => (Number(text) >= 0 && Number(text) < Infinity ? Number(text) : undefined)) ?? 0,
  };
  return { view, leftOut };
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
  return faultOf(text) === undefined;
}

/** Why a text is no symbol of a watchlist, in words that go on behind "as"; `undefined` where it is one. */
export function faultOf(text: string): string | undefined {
  if (text === "") return "it is empty";
  if (text.includes("*")) return "* stands for many symbols, and a row shows one";
  if (text.includes(",")) return "a symbol has no comma";
  if (text.length > 64) return "a symbol has at most 64 characters";
  // eslint-disable-next-line no-control-regex -- control characters are what is refused
  return /[\u0000-\u001f\u007f]/.test(text) ? "a symbol has no control characters" : undefined;
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
