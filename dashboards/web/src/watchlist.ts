/** The watchlist: an ARIA grid of which only the rows in sight are there, and of these only the cells that changed are painted. */

import { effect } from "@preact/signals-core";
import { byId, make, setText, size } from "./dom.js";
import { watchHint } from "./hint.js";
import { FOLLOWED_MAX, type Row } from "./messages.js";
import * as state from "./state.js";

export const ROW_PX = 28;
const COLUMNS = ["symbol", "bidSize", "bid", "ask", "askSize", "last", "change"] as const;
/** Silence after which a symbol is grey, in milliseconds. */
const STALE_MS = 10_000;
/** How long a symbol is marked after something of it was lost, in milliseconds. */
const GAP_MS = 60_000;
/** Between two flashes of a cell: never above 3 Hz. */
const FLASH_EVERY_MS = 400;
const FLASH_MS = 250;

const SVG = "http://www.w3.org/2000/svg";
const SPARK_PX = [60, 20] as const;
const NO_SPARK: readonly number[] = [];

interface Line {
  element: HTMLElement;
  cells: HTMLElement[];
  /** A line of prices. Elements, not a canvas: each of those would be a layer of its own to the browser. */
  spark: SVGPolylineElement;
  drawn: readonly number[] | undefined;
  symbol: string;
  flashed_ms: number;
  unflash_ms: number;
}

export class Watchlist {
  readonly #viewport = byId("rows");
  readonly #grid = byId("watchlist");
  readonly #space = byId("rows-space");
  readonly #rows = new Map<string, Row>();
  readonly #dirty = new Set<string>();
  readonly #lines: Line[] = [];
  /** Lines by the symbol that they show. */
  readonly #shown = new Map<string, Line>();
  readonly #see: (symbols: string[]) => void;
  #seen = "";
  #isLayoutNew = true;
  #lastStale_ms = 0;

  /** `see` is called with the symbols in sight when they are others, `changed` when there is something to paint. */
  constructor(see: (symbols: string[]) => void, changed: () => void) {
    this.#see = see;
    const moved = (): void => {
      this.#isLayoutNew = true;
      changed();
    };
    effect(() => {
      const wanted = new Set(state.symbols.value);
      for (const symbol of this.#rows.keys()) if (!wanted.has(symbol)) this.#rows.delete(symbol);
      state.focus.value; // the row in focus looks different
      this.#isLayoutNew = true;
    });
    effect(() => {
      const hint = watchHint(state.connection.value, { down: state.feedsDown.value, stale: state.feedsStale.value }, state.looking.value, state.symbols.value.length === 0);
      setText(byId("watch-hint"), hint);
      byId("watch-hint").hidden = hint === "";
    });
    this.#viewport.addEventListener("scroll", moved, { passive: true });
    new ResizeObserver(moved).observe(this.#viewport);
    this.#viewport.addEventListener("click", (event) => {
      const row = (event.target as HTMLElement).closest<HTMLElement>("[data-symbol]");
      if (row?.dataset.symbol !== undefined) state.focus.value = row.dataset.symbol;
    });
    this.#grid.addEventListener("keydown", (event) => this.#key(event));
  }

  take(rows: readonly Row[]): void {
    for (const row of rows) {
      const spark = row.spark ?? this.#rows.get(row.symbol)?.spark;
      if (spark !== undefined) row.spark = spark;
      this.#rows.set(row.symbol, row);
      this.#dirty.add(row.symbol);
    }
  }

  /** What is known of the symbols, in their order. */
  get rows(): (Row | { symbol: string })[] {
    return state.symbols.value.map((symbol) => this.#rows.get(symbol) ?? { symbol });
  }

  /** Whether the trades of a symbol are followed, and the last price that is known of it is thus the last. */
  isFollowed(symbol: string): boolean {
    return state.symbols.value.length <= FOLLOWED_MAX || symbol === state.focus.value || this.#shown.has(symbol);
  }

  /** Puts the keyboard's focus here. */
  focus(): void {
    this.#grid.focus();
  }

  paint(now_ms: number): void {
    if (this.#isLayoutNew) this.#layOut();
    for (const symbol of this.#dirty) {
      const line = this.#shown.get(symbol);
      if (line !== undefined) this.#paintLine(line, now_ms, true);
    }
    this.#dirty.clear();
    for (const line of this.#shown.values()) {
      if (line.unflash_ms !== 0 && now_ms >= line.unflash_ms) {
        line.unflash_ms = 0;
        line.element.classList.remove("up", "down");
      }
    }
    if (now_ms - this.#lastStale_ms > 1_000) {
      this.#lastStale_ms = now_ms;
      for (const line of this.#shown.values()) this.#paintAge(line);
    }
  }

  #key(event: KeyboardEvent): void {
    const all = state.symbols.value;
    const at = all.indexOf(state.focus.value);
    const page = Math.max(1, Math.floor(this.#viewport.clientHeight / ROW_PX) - 1);
    const steps: Record<string, number> = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -all.length, End: all.length };
    const step = steps[event.key];
    if (step !== undefined && all.length > 0) {
      const next = all[Math.max(0, Math.min(all.length - 1, at + step))];
      if (next !== undefined) state.focus.value = next;
      this.#scrollToFocus();
    } else if (event.key === "Delete" && at >= 0) {
      state.remove(state.focus.value);
      this.#scrollToFocus();
    } else {
      return;
    }
    event.preventDefault();
  }

  #scrollToFocus(): void {
    const top = state.symbols.value.indexOf(state.focus.value) * ROW_PX;
    const view = this.#viewport;
    if (top < view.scrollTop) view.scrollTop = top;
    else if (top + ROW_PX > view.scrollTop + view.clientHeight) view.scrollTop = top + ROW_PX - view.clientHeight;
  }

  #layOut(): void {
    this.#isLayoutNew = false;
    const all = state.symbols.value;
    this.#space.style.height = `${all.length * ROW_PX}px`;
    this.#grid.setAttribute("aria-rowcount", String(all.length + 1));
    const first = Math.max(0, Math.floor(this.#viewport.scrollTop / ROW_PX) - 2);
    const last = Math.min(all.length, first + Math.ceil(this.#viewport.clientHeight / ROW_PX) + 4);
    while (this.#lines.length < last - first) this.#lines.push(this.#makeLine());
    this.#shown.clear();
    this.#lines.forEach((line, at) => {
      const symbol = all[first + at];
      line.element.hidden = symbol === undefined || first + at >= last;
      if (symbol === undefined || first + at >= last) return;
      line.element.style.top = `${(first + at) * ROW_PX}px`;
      line.element.setAttribute("aria-rowindex", String(first + at + 2));
      const isFocus = symbol === state.focus.value;
      line.element.classList.toggle("focus", isFocus);
      line.element.setAttribute("aria-selected", String(isFocus));
      if (isFocus) this.#grid.setAttribute("aria-activedescendant", line.element.id);
      if (line.symbol !== symbol) {
        line.symbol = symbol;
        line.element.dataset.symbol = symbol;
        line.element.classList.remove("up", "down");
        line.unflash_ms = 0;
      }
      this.#shown.set(symbol, line);
      this.#paintLine(line, 0, false);
    });
    const seen = [...this.#shown.keys()];
    if (seen.join() !== this.#seen) {
      this.#seen = seen.join();
      this.#see(seen);
    }
    if (all.length === 0) this.#grid.removeAttribute("aria-activedescendant");
  }

  #makeLine(): Line {
    const element = make("div", "row", { role: "row", id: `row-${this.#lines.length}` });
    const cells = COLUMNS.map((column, at) => {
      const cell = make("div", `cell ${column}`, { role: at === 0 ? "rowheader" : "gridcell", "aria-colindex": String(at + 1) });
      element.append(cell);
      return cell;
    });
    const holder = make("div", "cell spark", { role: "gridcell", "aria-colindex": String(COLUMNS.length + 1), "aria-label": "last minute" });
    const picture = document.createElementNS(SVG, "svg");
    picture.setAttribute("viewBox", `0 0 ${SPARK_PX[0]} ${SPARK_PX[1]}`);
    const spark = document.createElementNS(SVG, "polyline");
    picture.append(spark);
    holder.append(picture);
    element.append(holder);
    this.#space.append(element);
    return { element, cells, spark, drawn: undefined, symbol: "", flashed_ms: 0, unflash_ms: 0 };
  }

  #paintLine(line: Line, now_ms: number, mayFlash: boolean): void {
    const row = this.#rows.get(line.symbol);
    let isNewPrice = false;
    COLUMNS.forEach((column, at) => {
      const isChanged = setText(line.cells[at] as HTMLElement, textOf(row, line.symbol, column));
      if (isChanged && column === "last") isNewPrice = true;
    });
    const change = line.cells[6] as HTMLElement;
    change.classList.toggle("rise", (row?.change ?? 0) > 0);
    change.classList.toggle("fall", (row?.change ?? 0) < 0);
    if (mayFlash && isNewPrice && row !== undefined && row.direction !== 0 && now_ms - line.flashed_ms >= FLASH_EVERY_MS && !state.motionReduced.matches) {
      line.flashed_ms = now_ms;
      line.unflash_ms = now_ms + FLASH_MS;
      line.element.classList.toggle("up", row.direction > 0);
      line.element.classList.toggle("down", row.direction < 0);
    } else if (isNewPrice && line.unflash_ms !== 0 && row !== undefined && line.element.classList.contains(row.direction > 0 ? "down" : "up")) {
      // It has turned meanwhile: the colour would say what the sign does not.
      line.unflash_ms = 0;
      line.element.classList.remove("up", "down");
    }
    this.#paintAge(line);
    drawSpark(line, row?.spark ?? NO_SPARK);
  }

  #paintAge(line: Line): void {
    const row = this.#rows.get(line.symbol);
    const now_ms = Date.now();
    const isStale = row === undefined || row.changed_ms === 0 || now_ms - row.changed_ms > STALE_MS;
    line.element.classList.toggle("stale", isStale);
    line.element.classList.toggle("gap", row !== undefined && now_ms - row.gap_ms < GAP_MS);
  }
}

function textOf(row: Row | undefined, symbol: string, column: (typeof COLUMNS)[number]): string {
  if (column === "symbol") return row?.state !== undefined && row.state !== "trading" ? `${symbol} ${row.state}` : symbol;
  if (row === undefined) return "";
  // The direction by a sign too, not by colour alone.
  if (column === "last") return row.last === undefined ? "" : `${row.direction > 0 ? "▲" : row.direction < 0 ? "▼" : ""} ${row.last}`;
  if (column === "change") return row.change === undefined ? "" : `${row.change > 0 ? "+" : ""}${row.change.toFixed(2)}%`;
  // A price is never rounded, a size may be.
  if (column === "bidSize" || column === "askSize") return size(row[column] ?? "");
  return row[column] ?? "";
}

function drawSpark(line: Line, values: readonly number[]): void {
  // The worker sends a list anew where it has gone on.
  if (line.drawn === values) return;
  line.drawn = values;
  const [width, height] = SPARK_PX;
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const points = values.map((value, at) => {
    // The newest is at the right.
    const x = ((at + 60 - values.length) / 59) * (width - 2) + 1;
    const y = most === least ? height / 2 : height - 2 - ((value - least) / (most - least)) * (height - 4);
    return `${x.toFixed(1)},${y.toFixed(1)}`;
  });
  line.spark.setAttribute("points", values.length < 2 ? "" : points.join(" "));
  line.spark.setAttribute("class", (values.at(-1) ?? 0) >= (values[0] ?? 0) ? "rise" : "fall");
}
