/** What the page is set to, as signals; and its address, which follows. */

import { effect, signal } from "@preact/signals-core";
import { faultOf, readHash, type Theme, type View, writeHash } from "./hash.js";
import type { Health, Looking } from "./messages.js";
import { ROWS_MAX } from "./rows.js";

const { view, leftOut } = readHash(location.hash);
const prefersLight = matchMedia("(prefers-color-scheme: light)");
const isSystemLight = signal(prefersLight.matches);
// Many systems change theirs with the time of the day.
prefersLight.addEventListener("change", () => (isSystemLight.value = prefersLight.matches));

export const symbols = signal(view.symbols);
export const focus = signal(view.focus);
export const interval_s = signal(view.interval_s);
export const chosenTheme = signal(view.theme);
export const panels = signal(view.panels);
export const sizeMin = signal(view.sizeMin);
export const isSlow = signal(false);
export const directory = signal<string[]>([]);
export const connection = signal<Health["state"]>("connecting");
/** Names of the gateway's feeds that bring nothing, comma-separated. */
export const feedsDown = signal("");
export const feedsStale = signal("");
export const looking = signal<Looking>("no");
export const motionReduced = matchMedia("(prefers-reduced-motion: reduce)");

/** The theme that is shown. */
export function theme(): Theme {
  return chosenTheme.value ?? (isSystemLight.value ? "light" : "dark");
}

/** Adds a symbol and looks at it; says why it could not. */
export function add(symbol: string): string | undefined {
  const fault = faultOf(symbol);
  if (fault !== undefined) return fault;
  if (symbols.value.length >= ROWS_MAX && !symbols.value.includes(symbol)) return `the watchlist is full with ${ROWS_MAX} symbols`;
  if (!symbols.value.includes(symbol)) symbols.value = [...symbols.value, symbol];
  focus.value = symbol;
  return undefined;
}

/** Removes a symbol; its neighbour comes into focus. */
export function remove(symbol: string): void {
  const at = symbols.value.indexOf(symbol);
  if (at < 0) return;
  symbols.value = symbols.value.filter((other) => other !== symbol);
  if (focus.value === symbol) focus.value = symbols.value[Math.min(at, symbols.value.length - 1)] ?? "";
}

/** Keeps the address in step, both ways. `left` is told what of it is not known, and left out. */
export function followAddress(left: (out: string[]) => void): void {
  /** A gateway for development stays in the address. */
  const gateway = new URLSearchParams(location.hash.slice(1)).get("gateway");
  let own = location.hash;
  if (leftOut.length > 0) left(leftOut);
  const write = (): void => {
    const now: View = {
      symbols: symbols.value,
      focus: focus.value,
      interval_s: interval_s.value,
      theme: chosenTheme.value,
      panels: panels.value,
      sizeMin: sizeMin.value,
    };
    const text = [writeHash(now), ...(gateway === null ? [] : [`gateway=${encodeURIComponent(gateway)}`])].filter((part) => part !== "").join("&");
    own = text === "" ? "" : `#${text}`;
    // Not a step of the history for each symbol.
    if (own !== location.hash) history.replaceState(null, "", own === "" ? location.pathname + location.search : own);
  };
  effect(write);
  addEventListener("hashchange", () => {
    if (location.hash === own) return;
    const { view: next, leftOut } = readHash(location.hash);
    if (leftOut.length > 0) left(leftOut);
    symbols.value = next.symbols;
    focus.value = next.focus;
    interval_s.value = next.interval_s;
    chosenTheme.value = next.theme;
    panels.value = next.panels;
    sizeMin.value = next.sizeMin;
    // Also where nothing of it counts.
    write();
  });
}
