/** The watchlist as the worker knows it: the newest state of each symbol, and which of them have changed. */

import type { MarketEvent, Quote, Status, Trade } from "tickgate";
import type { Row } from "./messages.js";

/** Most symbols of a watchlist. */
export const ROWS_MAX = 1_000;
const SPARK_MAX = 60;

interface Known extends Omit<Row, "spark"> {
  first?: number;
}

/**
 * Since when an event is known, by our clock, in milliseconds. A snapshot says what was there before: a row is not fresh for having come into
 * sight. The gateway's clock is `skew_ms` ahead of ours; where nobody knows, it is taken for new.
 */
export function heard_ms({ snapshot, ingest_ns }: MarketEvent, now_ms: number, skew_ms: number | undefined): number {
  return snapshot === true && skew_ms !== undefined ? Math.min(now_ms, Number(ingest_ns / 1_000_000n) - skew_ms) : now_ms;
}

export class Rows {
  readonly #rows = new Map<string, Known>();
  readonly #sparks = new Map<string, number[]>();
  readonly #dirty = new Set<string>();
  readonly #sparksDirty = new Set<string>();
  #view: readonly string[] = [];

  /** The symbols that are watched: others are forgotten. */
  watch(symbols: readonly string[]): void {
    const wanted = new Set(symbols.slice(0, ROWS_MAX));
    for (const symbol of this.#rows.keys()) if (!wanted.has(symbol)) this.#forget(symbol);
    for (const symbol of wanted) {
      if (!this.#rows.has(symbol)) this.#rows.set(symbol, { symbol, direction: 0, changed_ms: 0, gap_ms: 0 });
      this.#dirty.add(symbol);
    }
  }

  /** The symbols that somebody sees: theirs is what `take` gives. */
  see(symbols: readonly string[]): void {
    this.#view = symbols;
  }

  get(symbol: string): Omit<Row, "spark"> | undefined {
    return this.#rows.get(symbol);
  }

  quote({ symbol, bid_price, bid_size, ask_price, ask_size }: Quote, now_ms: number): void {
    const row = this.#rows.get(symbol);
    if (row === undefined) return;
    row.bid = bid_price;
    row.bidSize = bid_size;
    row.ask = ask_price;
    row.askSize = ask_size;
    this.#changed(row, now_ms);
  }

  trade({ symbol, price, event_ns }: Trade, now_ms: number): void {
    const row = this.#rows.get(symbol);
    if (row === undefined) return;
    const value = Number(price);
    if (row.last !== undefined && Number(row.last) !== value) row.direction = value > Number(row.last) ? 1 : -1;
    row.last = price;
    row.last_ns = event_ns;
    row.first ??= value;
    // To what is shown of it: what is nothing there has no sign either.
    row.change = row.first === 0 ? 0 : Math.round((value / row.first - 1) * 10_000) / 100 || 0;
    this.#changed(row, now_ms);
  }

  status({ symbol, state }: Status, now_ms: number): void {
    const row = this.#rows.get(symbol);
    if (row === undefined) return;
    row.state = state;
    this.#changed(row, now_ms);
  }

  gap(symbol: string, now_ms: number): void {
    const row = this.#rows.get(symbol);
    if (row === undefined) return;
    row.gap_ms = now_ms;
    this.#dirty.add(symbol);
  }

  /** Once a second: a sparkline goes on. */
  second(): void {
    for (const row of this.#rows.values()) {
      const { last, bid, ask } = row;
      const value = bid !== undefined && ask !== undefined ? (Number(bid) + Number(ask)) / 2 : last !== undefined ? Number(last) : undefined;
      if (value === undefined) continue;
      let spark = this.#sparks.get(row.symbol);
      if (spark === undefined) this.#sparks.set(row.symbol, (spark = []));
      spark.push(value);
      if (spark.length > SPARK_MAX) spark.shift();
      this.#sparksDirty.add(row.symbol);
    }
  }

  /** What has changed since the last time of what is in sight. With `isAll` all that has, lines of prices left out. */
  take(isAll: boolean): Row[] {
    const rows: Row[] = [];
    for (const symbol of this.#view) {
      const row = this.#rows.get(symbol);
      const [isDirty, isSparkDirty] = [this.#dirty.delete(symbol), this.#sparksDirty.delete(symbol)];
      if (row === undefined || !(isDirty || isSparkDirty)) continue;
      const spark = isSparkDirty ? this.#sparks.get(symbol) : undefined;
      rows.push(spark === undefined ? row : { ...row, spark });
    }
    if (!isAll) return rows;
    for (const symbol of this.#dirty) {
      const row = this.#rows.get(symbol);
      if (row !== undefined) rows.push(row);
    }
    this.#dirty.clear();
    return rows;
  }

  #forget(symbol: string): void {
    this.#rows.delete(symbol);
    this.#sparks.delete(symbol);
    this.#dirty.delete(symbol);
    this.#sparksDirty.delete(symbol);
  }

  #changed(row: Known, now_ms: number): void {
    row.changed_ms = Math.max(row.changed_ms, now_ms);
    this.#dirty.add(row.symbol);
  }
}
