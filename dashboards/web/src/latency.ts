/** How late events are, over the last seconds. */

import { Histogram } from "tickgate";

/** A part for each second. */
const PARTS = 5;

/** Latencies of the last five seconds. Every second the oldest are forgotten, so that what is over is not told for long. */
export class Recent {
  readonly #parts = Array.from({ length: PARTS }, () => new Histogram());
  readonly #sum = new Histogram();
  #second = 0;

  /** Takes one of `ns`, at a time that only goes forward, in milliseconds. */
  record(ns: number, now_ms: number): void {
    this.#turn(now_ms);
    (this.#parts[this.#second % PARTS] as Histogram).record(ns);
  }

  /** Those of the last seconds. It holds until the next call. */
  of(now_ms: number): Histogram {
    this.#turn(now_ms);
    this.#sum.clear();
    for (const part of this.#parts) this.#sum.add(part);
    return this.#sum;
  }

  /** Forgets all. */
  clear(): void {
    for (const part of this.#parts) part.clear();
  }

  #turn(now_ms: number): void {
    const second = Math.floor(now_ms / 1_000);
    for (let past = Math.min(PARTS, second - this.#second); past > 0; past--) (this.#parts[(second - past + 1) % PARTS] as Histogram).clear();
    this.#second = Math.max(this.#second, second);
  }
}
