/** Latencies in buckets, and how far the gateway's clock is from ours. */

/** Buckets a doubling: their bounds are some 4 % apart. */
const PARTS = 16;
/** The longest time that is told apart: 2^40 ns, 18 minutes. */
const DOUBLINGS = 41;

/** Latencies in buckets of 4 %, in constant memory. */
export class Histogram {
  readonly #counts = new Float64Array(DOUBLINGS * PARTS);
  #count = 0;
  #maxNs = 0;

  /** Takes one, in nanoseconds. What is below zero, as with clocks that differ, counts as zero. */
  record(ns: number): void {
    const at = ns < 1 ? 0 : Math.floor(Math.log2(ns) * PARTS);
    const bucket = Math.min(at, this.#counts.length - 1);
    this.#counts[bucket] = (this.#counts[bucket] as number) + 1;
    this.#count++;
    if (ns > this.#maxNs) this.#maxNs = ns;
  }

  /** Adds another. */
  add(other: Histogram): void {
    for (let at = 0; at < this.#counts.length; at++) this.#counts[at] = (this.#counts[at] as number) + (other.#counts[at] as number);
    this.#count += other.#count;
    this.#maxNs = Math.max(this.#maxNs, other.#maxNs);
  }

  /** Forgets all. */
  clear(): void {
    this.#counts.fill(0);
    this.#count = 0;
    this.#maxNs = 0;
  }

  /** How many were recorded. */
  get count(): number {
    return this.#count;
  }

  /** The largest, in nanoseconds. */
  get maxNs(): number {
    return this.#maxNs;
  }

  /** The upper bound of the bucket that a share of all is at or below, in nanoseconds; 0 of nothing. */
  quantileNs(share: number): number {
    let rest = Math.ceil(this.#count * share);
    if (rest === 0) return 0;
    for (let at = 0; at < this.#counts.length; at++) {
      rest -= this.#counts[at] as number;
      if (rest <= 0) return Math.min(2 ** ((at + 1) / PARTS), this.#maxNs);
    }
    return this.#maxNs;
  }
}

/** The last 5 to 10 seconds, and everything since the beginning. */
export class Latency {
  readonly #all = new Histogram();
  #present = new Histogram();
  #before = new Histogram();
  #turnedMs = 0;

  record(ns: number, nowMs: number): void {
    this.#turn(nowMs);
    this.#present.record(ns);
    this.#all.record(ns);
  }

  /** Everything since the beginning. */
  get all(): Histogram {
    return this.#all;
  }

  /** The last 5 to 10 seconds. */
  recent(nowMs: number): Histogram {
    this.#turn(nowMs);
    const sum = new Histogram();
    sum.add(this.#before);
    sum.add(this.#present);
    return sum;
  }

  #turn(nowMs: number): void {
    const past = nowMs - this.#turnedMs;
    if (past < 5_000) return;
    [this.#before, this.#present] = [this.#present, this.#before];
    this.#present.clear();
    if (past >= 10_000) this.#before.clear();
    this.#turnedMs = nowMs;
  }
}

/** Most round trips that are remembered: clocks drift, so old ones are forgotten. */
const TRIPS_MAX = 8;

/** How far the gateway's clock is ahead of ours, by the quickest of the last round trips. */
export class Skew {
  readonly #trips: { roundTripNs: number; skewNs: number }[] = [];

  /** Takes a round trip: when it was sent and answered by our clock, and what the gateway's said; nanoseconds. */
  trip(sentNs: number, answeredNs: number, theirNs: number): void {
    if (answeredNs < sentNs) return; // our clock was set
    this.#trips.push({ roundTripNs: answeredNs - sentNs, skewNs: theirNs - (sentNs + answeredNs) / 2 });
    if (this.#trips.length > TRIPS_MAX) this.#trips.shift();
  }

  /** Forgets all: another gateway has another clock. */
  clear(): void {
    this.#trips.length = 0;
  }

  /** Whether there was any round trip. */
  get isKnown(): boolean {
    return this.#trips.length > 0;
  }

  /** The quickest round trip, and the skew by it, which is exact to half of that. Both are 0 before there was any. */
  get best(): { roundTripNs: number; skewNs: number } {
    return this.#trips.reduce((best, trip) => (trip.roundTripNs < best.roundTripNs ? trip : best), this.#trips[0] ?? { roundTripNs: 0, skewNs: 0 });
  }
}
