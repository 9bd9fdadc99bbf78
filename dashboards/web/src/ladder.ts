/** The depth ladder: levels with bars for their sizes, the spread, and a mark where the last trade was. */

import { byId, make, setText } from "./dom.js";
import type { Ladder as Book, Row } from "./messages.js";
import * as state from "./state.js";

const LEVELS = 10;

interface Line {
  element: HTMLElement;
  bar: HTMLElement;
  price: HTMLElement;
  size: HTMLElement;
}

export class Ladder {
  readonly #asks = lines(byId("asks"), "ask");
  readonly #bids = lines(byId("bids"), "bid");
  readonly #spread = byId("spread");
  #book: Book | undefined;
  #row: Row | undefined;
  #isDirty = true;

  take(book: Book): void {
    this.#book = book;
    this.#isDirty = true;
  }

  /** The best bid and ask stand in where a feed has no book. */
  takeRow(row: Row): void {
    this.#row = row;
    if (this.#book === undefined || !this.#book.isComplete) this.#isDirty = true;
  }

  /** Another symbol. */
  clear(): void {
    this.#book = undefined;
    this.#row = undefined;
    this.#isDirty = true;
  }

  paint(): void {
    if (!this.#isDirty || !state.panels.value.includes("ladder")) return;
    this.#isDirty = false;
    const book = this.#book;
    const row = this.#row;
    const hasBook = book?.isComplete === true;
    const bids: [string, string][] = hasBook ? book.bids : row?.bid !== undefined && row.bidSize !== undefined ? [[row.bid, row.bidSize]] : [];
    const asks: [string, string][] = hasBook ? book.asks : row?.ask !== undefined && row.askSize !== undefined ? [[row.ask, row.askSize]] : [];
    const shown = [...bids.slice(0, LEVELS), ...asks.slice(0, LEVELS)];
    const most = Math.max(0, ...shown.map(([, size]) => Number(size)));
    const last = book?.last ?? row?.last;
    this.#bids.forEach((line, at) => paintLine(line, bids[at], most, last));
    // Best asks are next to the spread.
    this.#asks.forEach((line, at) => paintLine(line, asks[LEVELS - 1 - at], most, last));
    const [bid, ask] = [bids[0], asks[0]];
    const spread = bid === undefined || ask === undefined ? "" : spreadText(bid[0], ask[0]);
    setText(this.#spread, spread === "" ? "no quotes yet" : hasBook ? spread : `${spread}, best only`);
  }
}

function spreadText(bid: string, ask: string): string {
  const digits = Math.max(digitsOf(bid), digitsOf(ask));
  const spread = Number(ask) - Number(bid);
  const mid = (Number(ask) + Number(bid)) / 2;
  return `spread ${spread.toFixed(digits)} (${mid === 0 ? "–" : ((spread / mid) * 10_000).toFixed(1)} bps)`;
}

function digitsOf(text: string): number {
  const point = text.indexOf(".");
  return point < 0 ? 0 : text.length - point - 1;
}

function lines(parent: HTMLElement, side: "bid" | "ask"): Line[] {
  return Array.from({ length: LEVELS }, () => {
    const element = make("div", `level ${side}`, { role: "listitem" });
    const [bar, price, size] = [make("div", "bar", { "aria-hidden": "true" }), make("span", "price"), make("span", "size")];
    element.append(bar, price, size);
    element.hidden = true;
    parent.append(element);
    return { element, bar, price, size };
  });
}

function paintLine({ element, bar, price, size }: Line, level: [string, string] | undefined, most: number, last: string | undefined): void {
  element.hidden = level === undefined;
  if (level === undefined) return;
  const isLast = last !== undefined && Number(last) === Number(level[0]);
  setText(price, isLast ? `◆ ${level[0]}` : level[0]);
  setText(size, level[1]);
  element.classList.toggle("last", isLast);
  const width = `${most === 0 ? 0 : ((Number(level[1]) / most) * 100).toFixed(1)}% 100%`;
  if (bar.dataset.width !== width) bar.style.backgroundSize = bar.dataset.width = width;
}
