/** The watchlist as the worker knows it: the newest state of each symbol, and which of them have changed. */

import type { Quote, Status, Trade } from "tickgate";
import type { Row } from "./messages.js";

/** Most symbols of a watchlist. */
export const ROWS_MAX = 1_000;
const SPARK_MAX = 60;

interface Known extends Row {
  first?: number;
}

export class Rows {
  readonly #rows = new Map<string, Known>();
  readonly #dirty = new Set<string>();

  /** The symbols that are watched: others are forgotten. */
  watch(symbols: readonly string[]): void {
    const wanted = new Set(symbols.slice(0, ROWS_MAX));
    for (const symbol of this.#rows.keys()) if (!wanted.has(symbol)) this.#rows.delete(symbol);
    for (const symbol of wanted) {
      if (!this.#rows.has(symbol)) this.#rows.set(symbol, { symbol, direction: 0, changed_ms: 0, hasGap: false, spark: [] });
      this.#dirty.add(symbol);
    }
  }

  get(symbol: string): Row | undefined {
    return this.#rows.get(symbol);
  }

  quote({ symbol, bid_price, bid_size, ask_price, ask_size, snapshot }: Quote, now_ms: number): void {
    const row = this.#rows.get(symbol);
    if (row === undefined) return;
    row.bid = bid_price;
    row.bidSize = bid_size;
    row.ask = ask_price;
    row.askSize = ask_size;
    if (snapshot) row.hasGap = false;
    this.#changed(row, now_ms);
  }

  trade({ symbol, price }: Trade, now_ms: number): void {
    const row = this.#rows.get(symbol);
    if (row === undefined) return;
    const value = Number(price);
    if (row.last !== undefined && Number(row.last) !== value) row.direction = value > Number(row.last) ? 1 : -1;
    row.last = price;
    row.first ??= value;
    row.change = row.first === 0 ? 0 : (value / row.first - 1) * 100;
    this.#changed(row, now_ms);
  }

  status({ symbol, state }: Status, now_ms: number): void {
    const row = this.#rows.get(symbol);
    if (row === undefined) return;
    row.state = state;
    this.#changed(row, now_ms);
  }

  gap(symbol: string): void {
    const row = this.#rows.get(symbol);
    if (row === undefined) return;
    row.hasGap = true;
    this.#dirty.add(symbol);
  }

  /** Once a second: a sparkline goes on. */
  second(): void {
    for (const row of this.#rows.values()) {
      const { last, bid, ask } = row;
      const value = last !== undefined ? Number(last) : bid !== undefined && ask !== undefined ? (Number(bid) + Number(ask)) / 2 : undefined;
      if (value === undefined) continue;
      row.spark.push(value);
      if (row.spark.length > SPARK_MAX) row.spark.shift();
      this.#dirty.add(row.symbol);
    }
  }

  /** What has changed since the last time. */
  take(): Row[] {
    const rows: Row[] = [];
    for (const symbol of this.#dirty) {
      const row = this.#rows.get(symbol);
      if (row !== undefined) rows.push(row);
    }
    this.#dirty.clear();
    return rows;
  }

  #changed(row: Known, now_ms: number): void {
    row.changed_ms = now_ms;
    this.#dirty.add(row.symbol);
  }
}
