/**
 * What was received and not yet taken by the reader of a client: bounded, and nothing leaves it without a word.
 *
 * When it is full, room is made for half of it, so that making room costs each event little.
 */

import { type Book, channelOf, type Gap, isMarketEvent, type MarketEvent, type TickgateEvent } from "./events.js";

/**
 * What happens when the queue is full: `conflate` keeps the newest state of each symbol and drops the oldest trades with a gap;
 * `report` drops the oldest events of all kinds with gaps; `pause` stops reading the socket where that is possible (`ws` in Node), so
 * that the gateway sees a slow consumer, and is `report` elsewhere: a browser cannot stop reading.
 */
export type OnFull = "conflate" | "report" | "pause";

/** Bounds of the queue. */
export interface QueueOptions {
  /** Most events. Default 65,536. */
  eventsMax?: number;
  /** Most characters of the messages that they came in. Default 32 Mi. */
  charsMax?: number;
  /** Default `conflate`. */
  onFull?: OnFull;
}

interface Item {
  event: TickgateEvent;
  chars: number;
}

/** A bounded queue of events. */
export class EventQueue {
  #items: Item[] = [];
  /** How many at the front were taken already. */
  #taken = 0;
  #chars = 0;
  readonly #eventsMax: number;
  readonly #charsMax: number;
  readonly #isConflating: boolean;
  readonly #bookOf: (symbol: string, merged: number) => Book | undefined;
  /** Events that were replaced by a newer state. */
  conflated = 0;
  /** Events that were dropped, and announced with a gap or an error. */
  dropped = 0;

  /** `bookOf` gives the present state of a symbol's book as a snapshot that stands for so many events. */
  constructor(options: QueueOptions, bookOf: (symbol: string, merged: number) => Book | undefined) {
    this.#eventsMax = Math.max(16, options.eventsMax ?? 65_536);
    this.#charsMax = Math.max(1_024, options.charsMax ?? 32 << 20);
    this.#isConflating = (options.onFull ?? "conflate") === "conflate";
    this.#bookOf = bookOf;
  }

  get length(): number {
    return this.#items.length - this.#taken;
  }

  /** Whether more than half of a bound is used. */
  get isHalfFull(): boolean {
    return this.length * 2 > this.#eventsMax || this.#chars * 2 > this.#charsMax;
  }

  /** Adds an event that took so many characters. */
  push(event: TickgateEvent, chars: number): void {
    this.#items.push({ event, chars });
    this.#chars += chars;
    if (this.length > this.#eventsMax || this.#chars > this.#charsMax) this.#makeRoom();
  }

  /** Takes the oldest event. */
  shift(): TickgateEvent | undefined {
    const item = this.#items[this.#taken];
    if (item === undefined) return undefined;
    this.#chars -= item.chars;
    this.#taken++;
    if (this.#taken === this.#items.length) {
      this.#items = [];
      this.#taken = 0;
    } else if (this.#taken >= 4_096 && this.#taken * 2 > this.#items.length) {
      this.#items.splice(0, this.#taken);
      this.#taken = 0;
    }
    return item.event;
  }

  /** Takes all, the oldest first, at most so many. */
  takeAll(most = Infinity): TickgateEvent[] {
    const all: TickgateEvent[] = [];
    while (all.length < most) {
      const event = this.shift();
      if (event === undefined) break;
      all.push(event);
    }
    return all;
  }

  #makeRoom(): void {
    let items = this.#items.slice(this.#taken);
    if (this.#isConflating) items = this.#conflate(items);
    items = this.#dropDownToHalf(items);
    this.#items = items;
    this.#taken = 0;
    this.#chars = items.reduce((sum, item) => sum + item.chars, 0);
  }

  /** Leaves the newest state of each symbol, in the place of the newest. */
  #conflate(items: Item[]): Item[] {
    const isState = (event: TickgateEvent): event is MarketEvent => isMarketEvent(event) && event.type !== "trade" && !event.replay;
    const streams = new Map<string, { first: MarketEvent; merged: number; left: number }>();
    for (const { event } of items) {
      if (!isState(event)) continue;
      const stream = streams.get(keyOf(event));
      const merged = event.merged ?? 1;
      if (stream === undefined) streams.set(keyOf(event), { first: event, merged, left: 1 });
      else (stream.merged += merged), stream.left++;
    }
    const kept: Item[] = [];
    for (const item of items) {
      const { event } = item;
      const stream = isState(event) ? streams.get(keyOf(event)) : undefined;
      if (stream === undefined || !isState(event)) {
        kept.push(item);
      } else if (--stream.left > 0) {
        this.conflated++;
      } else if (stream.first === event) {
        kept.push(item);
      } else {
        // An incomplete book has nothing that could be shown: its last change stays, as the gap before it says why.
        const state = event.type === "book" ? (this.#bookOf(event.symbol, stream.merged) ?? event) : merge(stream.first, event, stream.merged);
        kept.push({ event: state, chars: item.chars });
      }
    }
    return kept;
  }

  /** Drops the oldest until half of each bound is free, and says what of which symbol. */
  #dropDownToHalf(items: Item[]): Item[] {
    let events = items.length;
    let chars = items.reduce((sum, item) => sum + item.chars, 0);
    const isTooMuch = (): boolean => events * 2 > this.#eventsMax || chars * 2 > this.#charsMax;
    const gaps = new Map<string, Gap>();
    /** Books of which a change is gone: what is left of them makes no sense without. */
    const broken = new Set<string>();
    let lost = 0;
    let at = 0;
    for (; at < items.length && isTooMuch(); at++) {
      const { event, chars: own } = items[at] as Item;
      events--;
      chars -= own;
      if (isMarketEvent(event) || event.type === "gap") this.#announce(gaps, event);
      else if (++lost) this.dropped++;
      if (event.type === "book") broken.add(event.symbol);
    }
    const announced: Item[] = [...gaps.values()].map((event) => ({ event, chars: 0 }));
    if (lost > 0) announced.unshift({ event: overflow(lost), chars: 0 });
    // More symbols than fit into the queue, each with its gap: then one word has to do for all of them.
    if (announced.length * 2 > this.#eventsMax) announced.splice(0, announced.length, { event: overflow(this.dropped), chars: 0 });
    const rest = items.slice(at);
    return announced.concat(broken.size > 0 ? this.#mend(rest, broken) : rest);
  }

  /** Books of which a change was dropped go on with their present state, in the place of their newest change. */
  #mend(rest: Item[], broken: Set<string>): Item[] {
    const newest = new Map<string, number>();
    rest.forEach(({ event }, at) => {
      if (event.type === "book" && broken.has(event.symbol)) newest.set(event.symbol, at);
    });
    const states = new Map([...broken].map((symbol) => [symbol, this.#bookOf(symbol, 1)]));
    const mended: Item[] = [];
    for (const [symbol, state] of states) {
      if (state !== undefined && !newest.has(symbol)) mended.push({ event: state, chars: 0 });
    }
    rest.forEach((item, at) => {
      const state = item.event.type === "book" ? states.get(item.event.symbol) : undefined;
      if (state === undefined) mended.push(item);
      else if (newest.get(state.symbol) === at) mended.push({ event: state, chars: item.chars });
      else this.conflated++;
    });
    return mended;
  }

  #announce(gaps: Map<string, Gap>, event: MarketEvent | Gap): void {
    const channel = channelOf(event);
    const key = `${channel} ${event.symbol}`;
    let gap = gaps.get(key);
    if (gap === undefined) {
      gap = { type: "gap", channel, symbol: event.symbol, cause: "client_queue", count: 0 };
      const after = event.type === "gap" ? event.after : event.prev;
      if (after !== undefined) gap.after = after;
      gaps.set(key, gap);
    }
    const upto = event.type === "gap" ? event.upto : event.seq;
    if (upto !== undefined) gap.upto = upto;
    if (event.type === "gap") {
      if (event.count === undefined) delete gap.count;
      else if (gap.count !== undefined) gap.count += event.count;
    } else {
      if (gap.count !== undefined) gap.count += event.merged ?? 1;
      this.dropped++;
    }
  }
}

function keyOf(event: MarketEvent): string {
  return `${event.type} ${event.symbol}`;
}

/** The newest state, which stands for all since the first. */
function merge(first: MarketEvent, newest: MarketEvent, merged: number): MarketEvent {
  const { prev: _, ...state } = newest;
  const whole: MarketEvent = { ...state, merged };
  if (first.prev !== undefined) whole.prev = first.prev;
  if (first.snapshot) whole.snapshot = true;
  return whole;
}

function overflow(count: number): TickgateEvent {
  return {
    type: "error",
    code: "queue_overflow",
    message: `${count} events were not taken in time and are gone`,
    hint: "read faster, subscribe to less, or ask for `conflate_ms`",
    fatal: false,
  };
}
