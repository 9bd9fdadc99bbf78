/** Candles of one symbol, from its trades: seconds for two hours, minutes for two days. */

import type { Candle } from "./messages.js";

const SECONDS_MAX = 7_200;
const MINUTES_MAX = 2_880;

/** Lengths of candles that can be shown, in seconds. */
export const INTERVALS_S = [1, 5, 15, 60, 300, 900, 3_600] as const;

/** Candles of one symbol. */
export class Candles {
  readonly #seconds: Candle[] = [];
  readonly #minutes: Candle[] = [];

  /** Takes a trade. One that is older than the newest candle counts with its own, if that is still there. */
  trade(time_s: number, price: number, size: number): void {
    add(this.#seconds, Math.floor(time_s), price, size, SECONDS_MAX);
    add(this.#minutes, Math.floor(time_s / 60) * 60, price, size, MINUTES_MAX);
  }

  /** All candles of a length, oldest first. */
  all(interval_s: number): Candle[] {
    return gather(interval_s < 60 ? this.#seconds : this.#minutes, interval_s);
  }

  /** The candles of a length that begin at or after the one that a time is in. */
  since(interval_s: number, time_s: number): Candle[] {
    const from = Math.floor(time_s / interval_s) * interval_s;
    const source = interval_s < 60 ? this.#seconds : this.#minutes;
    let at = source.length;
    while (at > 0 && (source[at - 1] as Candle).time_s >= from) at--;
    return gather(source.slice(at), interval_s);
  }

  clear(): void {
    this.#seconds.length = 0;
    this.#minutes.length = 0;
  }
}

function add(candles: Candle[], time_s: number, price: number, size: number, most: number): void {
  let at = candles.length - 1;
  while (at >= 0 && (candles[at] as Candle).time_s > time_s) at--;
  const candle = candles[at];
  if (candle?.time_s === time_s) {
    candle.high = Math.max(candle.high, price);
    candle.low = Math.min(candle.low, price);
    candle.close = price;
    candle.volume += size;
    return;
  }
  candles.splice(at + 1, 0, { time_s, open: price, high: price, low: price, close: price, volume: size });
  if (candles.length > most) candles.shift();
}

function gather(candles: readonly Candle[], interval_s: number): Candle[] {
  const gathered: Candle[] = [];
  for (const candle of candles) {
    const time_s = Math.floor(candle.time_s / interval_s) * interval_s;
    const last = gathered.at(-1);
    if (last?.time_s === time_s) {
      last.high = Math.max(last.high, candle.high);
      last.low = Math.min(last.low, candle.low);
      last.close = candle.close;
      last.volume += candle.volume;
    } else {
      gathered.push({ ...candle, time_s });
    }
  }
  return gathered;
}
