/** Records as a producer writes them. */

import type { KafkaRecord } from "./kafka.js";

export function trade(symbol: string, n: number, more: object = {}): KafkaRecord {
  return { key: symbol, value: { type: "trade", symbol, price: `${100 + n}.50`, size: "1", trade_id: String(n), event_ns: String(1_763_000_000_000_000_000n + BigInt(n)), ...more } };
}

export function quote(symbol: string, n: number): KafkaRecord {
  return {
    key: symbol,
    value: { type: "quote", symbol, bid_price: `${n}.00`, bid_size: "3", ask_price: `${n}.10`, ask_size: "4", event_ns: "1763000000000000000" },
  };
}

export function book(symbol: string, bids: [string, string][], asks: [string, string][], snapshot = false): KafkaRecord {
  return { key: symbol, value: { type: "book", symbol, bids, asks, snapshot, event_ns: "1763000000000000000" } };
}

/** Numbers from `first` to before `end`. */
export function range(first: number, end: number): number[] {
  return Array.from({ length: end - first }, (_, at) => first + at);
}
