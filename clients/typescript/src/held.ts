/** The subscriptions that a client holds, and how a new session goes on with them. */

import type { Channel, Seq } from "./events.js";

/** How the gateway treats this subscription while the client is slow. */
export type OnSlow = "conflate" | "skip" | "disconnect";

/** Options of a subscription, as in the protocol. */
export interface SubscribeOptions {
  /** Default `disconnect` for trades, which cannot be conflated, `conflate` for the others. */
  on_slow?: OnSlow;
  /** Quotes and books: at most one update per symbol and so many milliseconds, always the newest state. */
  conflate_ms?: number;
  /** Books: levels a side, 1, 5, 10, 20, 50 or 100; 0 is all of them, and the default. */
  depth?: number;
  /** Trades: the last so many first. */
  snapshot?: number;
  /** Where to begin: behind a position (of one symbol), or at a time in nanoseconds. */
  from?: { seq: Seq } | { time_ns: bigint | string };
  /**
   * Where to begin: behind all that a client had, of this process or another, whose `cursor` this was. Of a whole book its changes
   * come, for who kept the book, or its state. `from` counts before it.
   */
  cursor?: string;
}

/** Whether a subscription is over when the past was played: a new session does not go on with it by itself. */
export function isPast({ from }: SubscribeOptions): boolean {
  return from !== undefined && ("until_ns" in from || "speed" in from);
}

/** Whether what comes first is of the past. */
export function beginsInPast({ from, cursor }: SubscribeOptions): boolean {
  return from !== undefined || cursor !== undefined;
}

/** A subscription as it stands in a request. */
export type WireSubscription = { channel: Channel; symbols: string[] } & Record<string, unknown>;

/** A request that resumes: `cursor` stands beside its subscriptions. */
export interface ResumeRequest {
  subscriptions: WireSubscription[];
  cursor?: string;
}

/** A symbol or pattern of a channel. */
export interface Name {
  channel: Channel;
  symbol: string;
}

interface Entry extends Name {
  options: SubscribeOptions;
  /** Whether who asked for it waits for the end of a replay. */
  owesDone: boolean;
  /** Cursors that had been kept when it was acknowledged: later ones cover it. */
  cursors: number;
}

/** Subscriptions with the same options, and where they go on. */
interface Alike {
  channel: Channel;
  options: SubscribeOptions;
  symbols: string[];
  cursor: string | undefined;
}

/** Most symbols, and most characters of them, that one request names. */
const SYMBOLS_MAX = 1_000;
const CHARS_MAX = 48_000;
/** Most subscriptions of a request that have a position each: every one is a replay of its own. */
const POSITIONS_MAX = 50;

/** Whether a symbol is one that a symbol or pattern names. */
export function matches(pattern: string, symbol: string): boolean {
  return pattern.endsWith("*") ? symbol.startsWith(pattern.slice(0, -1)) : pattern === symbol;
}

/** Whether two subscriptions to a symbol bring the same events: where one of them ends, the other just goes on. */
export function isSameStream(a: SubscribeOptions, b: SubscribeOptions): boolean {
  return (a.depth ?? 0) === (b.depth ?? 0) && (a.conflate_ms ?? 0) === (b.conflate_ms ?? 0);
}

/** Whether a subscription to a book is answered with its changes where it goes on from somewhere, and not with its newest state. */
export function isWholeBook(channel: Channel, { depth = 0, conflate_ms = 0 }: SubscribeOptions): boolean {
  return channel === "book" && depth === 0 && conflate_ms === 0;
}

/** Where a symbol or pattern may go on: behind a position; only with its state anew; or, where nothing is known, from its own beginning. */
export type Whence = Seq | "anew" | undefined;

/** Parts of a list of symbols, each small enough for a request. */
export function parts(symbols: readonly string[]): string[][] {
  const all: string[][] = [];
  let part: string[] = [];
  let chars = 0;
  for (const symbol of symbols) {
    if (part.length > 0 && (part.length === SYMBOLS_MAX || chars + symbol.length > CHARS_MAX)) {
      all.push(part);
      [part, chars] = [[], 0];
    }
    part.push(symbol);
    chars += symbol.length + 3;
  }
  if (part.length > 0) all.push(part);
  return all;
}

/** A subscription as it is sent. Its cursor stands beside it. */
export function wire(channel: Channel, symbols: string[], options: SubscribeOptions): WireSubscription {
  const subscription: WireSubscription = { channel, symbols };
  for (const [name, value] of Object.entries(options)) {
    if (value !== undefined && name !== "from" && name !== "cursor") subscription[name] = value;
  }
  const { from } = options;
  if (from !== undefined) subscription.from = "seq" in from ? { seq: from.seq } : { ...from, time_ns: String(from.time_ns) };
  return subscription;
}

/** The subscriptions that were acknowledged and not ended since. */
export class Held {
  readonly #entries = new Map<string, Entry>();
  /** Patterns of each channel, the longest first. */
  readonly #patterns = new Map<Channel, Entry[]>();
  /** Symbols and patterns with `conflate_ms`. */
  readonly #conflated = new Map<Channel, Set<string>>();
  /** Cursors that were kept so far. */
  #cursors = 0;

  get size(): number {
    return this.#entries.size;
  }

  /** Whether some of a channel is conflated by wish: it waits at the gateway, so its age says nothing of the way. */
  isConflated(channel: Channel): boolean {
    return (this.#conflated.get(channel)?.size ?? 0) > 0;
  }

  /** Takes note of one, in place of an earlier one of that name. */
  add(channel: Channel, symbol: string, options: SubscribeOptions): void {
    const entry: Entry = { channel, symbol, options, owesDone: beginsInPast(options), cursors: this.#cursors };
    this.#entries.set(key(channel, symbol), entry);
    const conflated = this.#conflated.get(channel) ?? new Set();
    this.#conflated.set(channel, conflated);
    if ((options.conflate_ms ?? 0) > 0) conflated.add(symbol);
    else conflated.delete(symbol);
    if (symbol.endsWith("*")) {
      const others = (this.#patterns.get(channel) ?? []).filter((other) => other.symbol !== symbol);
      others.push(entry);
      others.sort((a, b) => b.symbol.length - a.symbol.length);
      this.#patterns.set(channel, others);
    }
  }

  /** Forgets a symbol or a pattern; gives the options that it was held with. */
  remove(channel: Channel, symbol: string): SubscribeOptions | undefined {
    const entry = this.#entries.get(key(channel, symbol));
    this.#entries.delete(key(channel, symbol));
    this.#conflated.get(channel)?.delete(symbol);
    if (symbol.endsWith("*")) {
      this.#patterns.set(
        channel,
        (this.#patterns.get(channel) ?? []).filter((other) => other.symbol !== symbol),
      );
    }
    return entry?.options;
  }

  has(channel: Channel, symbol: string): boolean {
    return this.#entries.has(key(channel, symbol));
  }

  /** The options that a symbol is held with: those of the most specific subscription. */
  optionsOf(channel: Channel, symbol: string): SubscribeOptions | undefined {
    return this.#covering(channel, symbol)?.options;
  }

  /** The name of the subscription that brings a symbol: the most specific one. */
  nameOf(channel: Channel, symbol: string): string | undefined {
    return this.#covering(channel, symbol)?.symbol;
  }

  /** Whether something more specific than a pattern is held that brings a symbol: what becomes of the pattern is nothing to it. */
  isOfOther(channel: Channel, pattern: string, symbol: string): boolean {
    const name = this.nameOf(channel, symbol);
    return name !== undefined && name !== pattern && (!name.endsWith("*") || name.length > pattern.length);
  }

  #covering(channel: Channel, symbol: string): Entry | undefined {
    return this.#entries.get(key(channel, symbol)) ?? this.#patterns.get(channel)?.find((pattern) => matches(pattern.symbol, symbol));
  }

  /** A cursor was kept: it covers all that is held now. */
  covered(): void {
    this.#cursors++;
  }

  /** A cursor was refused: nothing begins at it. */
  refused(cursor: string): void {
    for (const entry of this.#entries.values()) {
      if (entry.options.cursor !== cursor) continue;
      const { cursor: _, ...options } = entry.options;
      entry.options = options;
    }
  }

  /** A replay has ended; says whether somebody waits for that. */
  takeDone(channel: Channel, symbol: string): boolean {
    const entry = this.#entries.get(key(channel, symbol));
    const isOwed = entry?.owesDone ?? false;
    if (entry !== undefined) entry.owesDone = false;
    return isOwed;
  }

  /**
   * The requests with which a new session goes on: from the cursor with what it covers; else symbols from the last position that was seen
   * of them, and what has none from its own beginning. What has neither goes on from a cursor that is older than it, which gives more than
   * was missed and not less; without one nothing was seen of it, and it begins anew. So does what lacks its state, as changes alone are of no use to
   * it. `names` are those that it is about, all without them.
   */
  resume(cursor: string | undefined, last: (channel: Channel, symbol: string, options: SubscribeOptions) => Whence, names?: readonly Name[]): ResumeRequest[] {
    const alike = new Map<string, Alike>();
    const positioned: WireSubscription[] = [];
    const some = names?.flatMap(({ channel, symbol }) => this.#entries.get(key(channel, symbol)) ?? []);
    for (const entry of some ?? this.#entries.values()) {
      const { channel, symbol, options, owesDone, cursors } = entry;
      // What was there before it began was shown once.
      const { snapshot: _, from, cursor: own, ...bare } = options;
      const isCovered = cursor !== undefined && cursors < this.#cursors;
      const whence = isCovered ? undefined : last(channel, symbol, options);
      if (whence !== undefined && whence !== "anew") {
        positioned.push(wire(channel, [symbol], { ...bare, from: { seq: whence } }));
        continue;
      }
      // Who asked for its past gets that, also once more.
      const isAnew = whence === "anew" && !owesDone;
      // What was played to its end has nothing to come from before the cursor.
      const origin = isAnew ? undefined : cursor !== undefined && (isCovered || !owesDone) ? cursor : from === undefined ? own : undefined;
      const group: Alike = {
        channel,
        options: origin !== undefined || isAnew ? bare : from === undefined ? options : { ...bare, from },
        symbols: [symbol],
        cursor: origin,
      };
      const name = JSON.stringify([channel, wire(channel, [], group.options), origin ?? null]);
      const known = alike.get(name);
      if (known === undefined) alike.set(name, group);
      else known.symbols.push(symbol);
    }
    return requestsOf(positioned, alike.values());
  }
}

/** Each request is a replay of its own: few of them are better. */
function requestsOf(positioned: readonly WireSubscription[], alike: Iterable<Alike>): ResumeRequest[] {
  const requests: ResumeRequest[] = [];
  for (let at = 0; at < positioned.length; at += POSITIONS_MAX) {
    requests.push({ subscriptions: positioned.slice(at, at + POSITIONS_MAX) });
  }
  let room = 0;
  // Those with the same cursor beside each other.
  const all = [...alike];
  const cursors = [...new Set(all.map(({ cursor }) => cursor))].sort();
  for (const { channel, options, symbols, cursor } of cursors.flatMap((cursor) => all.filter((group) => group.cursor === cursor))) {
    for (const part of parts(symbols)) {
      const subscription = wire(channel, part, options);
      const request = requests.at(-1);
      if (request !== undefined && room >= part.length && request.cursor === cursor) {
        request.subscriptions.push(subscription);
        room -= part.length;
      } else {
        requests.push(cursor === undefined ? { subscriptions: [subscription] } : { subscriptions: [subscription], cursor });
        room = SYMBOLS_MAX - part.length;
      }
    }
  }
  return requests;
}

function key(channel: Channel, symbol: string): string {
  return `${channel} ${symbol}`;
}
