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
}

/** Whether a subscription is over when the past was played: a new session does not go on with it by itself. */
export function isPast({ from }: SubscribeOptions): boolean {
  return from !== undefined && ("until_ns" in from || "speed" in from);
}

/** A subscription as it stands in a request. */
export type WireSubscription = { channel: Channel; symbols: string[] } & Record<string, unknown>;

/** A request that resumes: `cursor` stands beside its subscriptions. */
export interface ResumeRequest {
  subscriptions: WireSubscription[];
  cursor?: string;
}

interface Entry {
  channel: Channel;
  symbol: string;
  options: SubscribeOptions;
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

/** A subscription as it is sent. */
export function wire(channel: Channel, symbols: string[], options: SubscribeOptions): WireSubscription {
  const subscription: WireSubscription = { channel, symbols };
  for (const [name, value] of Object.entries(options)) {
    if (value !== undefined && name !== "from") subscription[name] = value;
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

  get size(): number {
    return this.#entries.size;
  }

  /** Whether some of a channel is conflated by wish: it waits at the gateway, so its age says nothing of the way. */
  isConflated(channel: Channel): boolean {
    return (this.#conflated.get(channel)?.size ?? 0) > 0;
  }

  /** Takes note of one, in place of an earlier one of that name. */
  add(channel: Channel, symbol: string, options: SubscribeOptions): void {
    const entry = { channel, symbol, options };
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

  /** Forgets a symbol or a pattern. */
  remove(channel: Channel, symbol: string): void {
    this.#entries.delete(key(channel, symbol));
    this.#conflated.get(channel)?.delete(symbol);
    if (!symbol.endsWith("*")) return;
    this.#patterns.set(
      channel,
      (this.#patterns.get(channel) ?? []).filter((other) => other.symbol !== symbol),
    );
  }

  has(channel: Channel, symbol: string): boolean {
    return this.#entries.has(key(channel, symbol));
  }

  /** The options that a symbol is held with: those of the most specific subscription. */
  optionsOf(channel: Channel, symbol: string): SubscribeOptions | undefined {
    const exact = this.#entries.get(key(channel, symbol));
    if (exact !== undefined) return exact.options;
    return this.#patterns.get(channel)?.find((pattern) => matches(pattern.symbol, symbol))?.options;
  }

  /**
   * The requests with which a new session goes on: from the cursor; without one, symbols from the last position that was seen of
   * them. Of what has neither, nothing was seen: it begins anew.
   */
  resume(cursor: string | undefined, last: (channel: Channel, symbol: string) => Seq | undefined): ResumeRequest[] {
    const requests: ResumeRequest[] = [];
    const alike = new Map<string, Entry & { symbols: string[] }>();
    const positioned: WireSubscription[] = [];
    for (const entry of this.#entries.values()) {
      const { snapshot: _, from: __, ...bare } = entry.options;
      const seq = cursor === undefined ? last(entry.channel, entry.symbol) : undefined;
      if (seq !== undefined) {
        positioned.push(wire(entry.channel, [entry.symbol], { ...bare, from: { seq } }));
        continue;
      }
      const options = cursor === undefined ? entry.options : bare;
      const name = JSON.stringify([entry.channel, wire(entry.channel, [], options)]);
      const group = alike.get(name);
      if (group === undefined) alike.set(name, { ...entry, options, symbols: [entry.symbol] });
      else group.symbols.push(entry.symbol);
    }
    for (let at = 0; at < positioned.length; at += POSITIONS_MAX) {
      requests.push({ subscriptions: positioned.slice(at, at + POSITIONS_MAX) });
    }
    let room = 0;
    for (const { channel, options, symbols } of alike.values()) {
      for (const part of parts(symbols)) {
        const subscription = wire(channel, part, options);
        const request = requests.at(-1);
        // Each request is a replay of its own: few of them are better.
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
}

function key(channel: Channel, symbol: string): string {
  return `${channel} ${symbol}`;
}
