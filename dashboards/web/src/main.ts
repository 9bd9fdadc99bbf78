/** The page: what the worker says is put into the panels, and one `requestAnimationFrame` paints what has changed. */

import "./style.css";
import "uplot/dist/uPlot.min.css";
import { effect } from "@preact/signals-core";
import { INTERVALS_S } from "./candles.js";
import { Chart } from "./chart.js";
import { tapeCsv, watchlistCsv } from "./csv.js";
import { announce, byId } from "./dom.js";
import { gatewayUrl, type Panel, PANELS } from "./hash.js";
import { HealthPanel } from "./health.js";
import { Ladder } from "./ladder.js";
import type { Command, Frame } from "./messages.js";
import { Search } from "./search.js";
import * as state from "./state.js";
import { Tape } from "./tape.js";
import { Watchlist } from "./watchlist.js";

const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
/** Characters that are shown of what the address has in vain. */
const LEFT_OUT_MAX = 200;
let isScheduled = false;
const tell = (command: Command): void => worker.postMessage(command);

effect(() => {
  document.documentElement.dataset.theme = state.theme();
});
const watchlist = new Watchlist((symbols) => tell({ do: "view", symbols }), schedule);
const ladder = new Ladder();
const tape = new Tape();
const chart = new Chart();
const health = new HealthPanel();
const search = new Search(
  () => tell({ do: "discover" }),
  () => watchlist.focus(),
  (why) => health.notice({ time_ms: Date.now(), kind: "info", text: why }),
);
const help = byId<HTMLDialogElement>("help");
const tokenDialog = byId<HTMLDialogElement>("token");
const url = gatewayUrl(location);

state.followAddress((out) => {
  const text = out.join(" · ");
  health.notice({ time_ms: Date.now(), kind: "info", text: `Left out of the address, as the page does not know it: ${text.length > LEFT_OUT_MAX ? `${text.slice(0, LEFT_OUT_MAX)}…` : text}` });
});
tell({ do: "connect", url });
effect(() => tell({ do: "watch", symbols: state.symbols.value }));
let looked = "";
effect(() => {
  const [symbol, interval_s] = [state.focus.value, state.interval_s.value];
  chart.clear();
  if (symbol !== looked) {
    ladder.clear();
    tape.clear();
    looked = symbol;
  }
  for (const title of document.querySelectorAll<HTMLElement>("[data-focus]")) title.textContent = symbol === "" ? "no symbol" : symbol;
  document.title = symbol === "" ? "Tickgate" : `${symbol} – Tickgate`;
  tell({ do: "focus", symbol, interval_s });
});
effect(() => tell({ do: "slow", isSlow: state.isSlow.value }));
effect(() => {
  for (const panel of PANELS) {
    const isShown = state.panels.value.includes(panel);
    byId(panel).hidden = !isShown;
    byId(`show-${panel}`).setAttribute("aria-pressed", String(isShown));
  }
});
effect(() => byId("slow").setAttribute("aria-pressed", String(state.isSlow.value)));
// Nobody has chosen anything: what is there is shown.
let isFirstVisit = state.symbols.value.length === 0;
if (isFirstVisit) tell({ do: "discover" });

let isAsked = false;
let hasAnswer = false;
worker.onmessage = ({ data }: { data: Frame }) => {
  isAsked = false;
  hasAnswer = true;
  if (data.isAnew) {
    tape.clear();
    ladder.clear();
  }
  watchlist.take(data.rows);
  for (const row of data.rows) if (row.symbol === state.focus.value) ladder.takeRow(row);
  // What was on its way while another symbol was chosen is not of that one.
  if (data.focus === state.focus.value) {
    tape.take(data.prints, data.printsSkipped);
    const newest = data.prints.at(-1);
    if (newest !== undefined) chart.digits(newest.price);
    if (data.ladder !== undefined) ladder.take(data.ladder);
    if (data.candles !== undefined && data.interval_s === state.interval_s.value) chart.take(data.candles);
  }
  for (const change of data.changes) health.change(change);
  if (data.health !== undefined) health.take(data.health);
  for (const notice of data.notices) health.notice(notice);
  // What is found fills the watchlist of a first visit alone.
  state.looking.value = isFirstVisit || data.looking === "refused" ? data.looking : "no";
  if (data.directory !== undefined) {
    state.directory.value = data.directory;
    if (isFirstVisit && state.symbols.value.length === 0 && data.directory.length > 0) {
      state.symbols.value = data.busiest ?? [];
      state.focus.value = data.busiest?.[0] ?? "";
      isFirstVisit = false;
    }
  }
  if (data.needsToken) askToken();
  schedule();
};

const trouble = (text: string): void => health.notice({ time_ms: Date.now(), kind: "error", text });
/** A worker that never answered has not begun: nothing comes. One that did has lost what it was about, and goes on. */
worker.onerror = ({ message }) => {
  trouble(`The page's worker: ${message || "it could not be loaded"}${hasAnswer ? "" : ". Load the page anew"}`);
  if (!hasAnswer) health.change({ state: "closed", attempt: 0 });
};
worker.onmessageerror = () => {
  trouble("The page could not read what its worker told");
  isAsked = false;
  schedule();
};

/** Paints in the next frame of the screen. Where nothing is to be painted, the page does nothing. */
function schedule(): void {
  if (isScheduled) return;
  isScheduled = true;
  requestAnimationFrame(paint);
}

function paint(now_ms: number): void {
  isScheduled = false;
  watchlist.paint(now_ms);
  ladder.paint();
  tape.paint();
  chart.paint();
  health.paint();
  // One question at a time: what the page has no time for is merged in the worker.
  if (!isAsked) {
    isAsked = true;
    tell({ do: "pull" });
  }
}
schedule();
// What a visitor does is not to wait for the worker.
effect(() => {
  for (const setting of [state.symbols, state.focus, state.panels, state.sizeMin]) setting.value;
  state.theme();
  schedule();
});

let hadToken = false;
/** Whoever leaves the question may come back to it. */
const askAgain = byId("ask-token");
function askToken(): void {
  askAgain.hidden = false;
  byId("token-refused").hidden = !hadToken;
  if (!tokenDialog.open) tokenDialog.showModal();
}
askAgain.addEventListener("click", askToken);
byId<HTMLFormElement>("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const input = byId<HTMLInputElement>("token-text");
  const token = input.value.trim();
  // It is kept nowhere: whoever loads the page anew is asked anew.
  input.value = "";
  tokenDialog.close();
  if (token === "") return;
  hadToken = true;
  askAgain.hidden = true;
  tell({ do: "connect", url, token });
  if (isFirstVisit) tell({ do: "discover" });
});

async function copy(what: string, text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    announce(`${what} copied`);
    health.notice({ time_ms: Date.now(), kind: "info", text: `${what} copied as CSV` });
  } catch {
    health.notice({ time_ms: Date.now(), kind: "error", text: `${what} not copied: the browser does not allow it here` });
  }
}
function copyWatchlist(): void {
  const unfollowed = state.symbols.value.filter((symbol) => !watchlist.isFollowed(symbol)).length;
  void copy(unfollowed > 0 ? `Watchlist, with last prices of ${unfollowed} symbols out of sight that are as old as last_time says,` : "Watchlist", watchlistCsv(watchlist.rows, (symbol) => watchlist.isFollowed(symbol)));
}
byId("copy").addEventListener("click", copyWatchlist);
byId("copy-tape").addEventListener("click", () => void copy("Tape", tapeCsv(state.focus.value, tape.prints)));

function togglePanel(panel: Panel): void {
  const shown = state.panels.value;
  state.panels.value = shown.includes(panel) ? shown.filter((other) => other !== panel) : PANELS.filter((other) => other === panel || shown.includes(other));
}
for (const panel of PANELS) byId(`show-${panel}`).addEventListener("click", () => togglePanel(panel));
const toggleTheme = (): void => void (state.chosenTheme.value = state.theme() === "dark" ? "light" : "dark");
const toggleSlow = (): void => void (state.isSlow.value = !state.isSlow.value);
const openHelp = (): void => (help.open ? help.close() : help.showModal());
byId("theme").addEventListener("click", toggleTheme);
byId("slow").addEventListener("click", toggleSlow);
byId("help-button").addEventListener("click", openHelp);
byId("help-close").addEventListener("click", () => help.close());
const sizeMin = byId<HTMLInputElement>("size-min");
const typedSize = (): number => Math.max(0, Number(sizeMin.value) || 0);
// What is typed stays as it was typed.
effect(() => {
  const { value } = state.sizeMin;
  if (value !== typedSize()) sizeMin.value = value > 0 ? String(value) : "";
});
sizeMin.addEventListener("input", () => (state.sizeMin.value = typedSize()));

function stepInterval(step: number): void {
  const at = INTERVALS_S.indexOf(state.interval_s.value as (typeof INTERVALS_S)[number]) + step;
  state.interval_s.value = INTERVALS_S[Math.max(0, Math.min(INTERVALS_S.length - 1, at))] as number;
}

const KEYS: Record<string, () => void> = {
  "/": () => search.focus(),
  "?": openHelp,
  t: toggleTheme,
  s: toggleSlow,
  c: copyWatchlist,
  "[": () => stepInterval(-1),
  "]": () => stepInterval(1),
  w: () => watchlist.focus(),
  1: () => togglePanel("chart"),
  2: () => togglePanel("ladder"),
  3: () => togglePanel("tape"),
  4: () => togglePanel("health"),
};
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (event.target instanceof HTMLInputElement || tokenDialog.open || (help.open && event.key !== "?")) return;
  const action = Object.hasOwn(KEYS, event.key) ? KEYS[event.key] : undefined;
  if (action === undefined) return;
  event.preventDefault();
  action();
});
