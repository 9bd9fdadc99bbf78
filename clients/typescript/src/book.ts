/** An order book, rebuilt from the `book` events of one symbol. */

import { compareDecimals, isZero } from "./decimal.js";
import type { Book, DecimalText, Level, Seq } from "./events.js";

/** What became of an event: it replaced the book, changed it, or there was no book yet that it could change. */
export type Applied = "snapshot" | "update" | "ignored";

interface Entry {
  price: DecimalText;
  size: DecimalText;
}

/**
 * Feed it every `book` event of its symbol, in order. At a limited depth a level that is pushed out of the top is forgotten: the
 * gateway says nothing more about it, and sends it again when it comes back.
 */
export class BookKeeper {
  /** Best last: what changes most is at the end. */
  readonly #bids: Entry[] = [];
  /** Best last. */
  readonly #asks: Entry[] = [];
  #depth: number;
  #isComplete = false;
  #last: Book | undefined;
  #updates = 0;

  /** `depth` is that of the subscription: levels a side, 0 for all. */
  constructor(depth = 0) {
    this.#depth = depth;
  }

  /** Applies an event. */
  apply(event: Book): Applied {
    if (event.snapshot) {
      this.#bids.length = 0;
      this.#asks.length = 0;
      this.#isComplete = true;
    } else if (!this.#isComplete) {
      return "ignored";
    }
    for (const [price, size] of event.bids) set(this.#bids, price, size, 1);
    for (const [price, size] of event.asks) set(this.#asks, price, size, -1);
    if (this.#depth > 0) {
      for (const side of [this.#bids, this.#asks]) {
        if (side.length > this.#depth) side.splice(0, side.length - this.#depth);
      }
    }
    this.#last = event;
    this.#updates++;
    return event.snapshot ? "snapshot" : "update";
  }

  /** Something is missing: nothing can be said of the book until the next snapshot. */
  invalidate(): void {
    this.#isComplete = false;
    this.#bids.length = 0;
    this.#asks.length = 0;
  }

  /** The subscription has another depth now; a snapshot follows. */
  setDepth(depth: number): void {
    this.#depth = depth;
  }

  /** Whether a snapshot came, and nothing was missed since. Otherwise there are no levels. */
  get isComplete(): boolean {
    return this.#isComplete;
  }

  /** Snapshots and updates applied. */
  get updates(): number {
    return this.#updates;
  }

  /** Position of the last event applied. */
  get seq(): Seq | undefined {
    return this.#last?.seq;
  }

  /** Bids, best first, at most so many. */
  bids(levelsMax = Infinity): Level[] {
    return best(this.#bids, levelsMax);
  }

  /** Asks, best first, at most so many. */
  asks(levelsMax = Infinity): Level[] {
    return best(this.#asks, levelsMax);
  }

  /** The best bid. */
  get bestBid(): Level | undefined {
    return this.bids(1)[0];
  }

  /** The best ask. */
  get bestAsk(): Level | undefined {
    return this.asks(1)[0];
  }

  /** Number of bids and asks. */
  get levelCounts(): [bids: number, asks: number] {
    return [this.#bids.length, this.#asks.length];
  }

  /** Best ask less best bid, as a double; below zero for a crossed book, which happens in real feeds. */
  get spread(): number | undefined {
    const [bid, ask] = [this.bestBid, this.bestAsk];
    return bid && ask && Number(ask[0]) - Number(bid[0]);
  }

  /** The mean of best bid and best ask, as a double. */
  get mid(): number | undefined {
    const [bid, ask] = [this.bestBid, this.bestAsk];
    return bid && ask && (Number(ask[0]) + Number(bid[0])) / 2;
  }

  /** The whole book as a snapshot event, which stands for `merged` events; `undefined` while it is not complete. */
  toSnapshot(merged = 1): Book | undefined {
    if (!this.#isComplete || this.#last === undefined) return undefined;
    const { prev: _, merged: __, ...last } = this.#last;
    const snapshot: Book = { ...last, bids: this.bids(), asks: this.asks(), snapshot: true };
    if (merged > 1) snapshot.merged = merged;
    return snapshot;
  }
}

/** Sets a level of a side; `up` is 1 where higher prices are better. */
function set(side: Entry[], price: DecimalText, size: DecimalText, up: 1 | -1): void {
  let low = 0;
  let high = side.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const order = compareDecimals((side[middle] as Entry).price, price) * up;
    if (order === 0) {
      if (isZero(size)) side.splice(middle, 1);
      else side[middle] = { price, size };
      return;
    }
    if (order < 0) low = middle + 1;
    else high = middle;
  }
  if (!isZero(size)) side.splice(low, 0, { price, size });
}

function best(side: Entry[], levelsMax: number): Level[] {
  const levels: Level[] = [];
  for (let at = side.length - 1; at >= 0 && levels.length < levelsMax; at--) {
    const { price, size } = side[at] as Entry;
    levels.push([price, size]);
  }
  return levels;
}
