/** Every channel and symbol of a client: its chain, its book, and what is handed out of what comes. */

import { BookKeeper } from "./book.js";
import { Chain } from "./chain.js";
import { type Book, type Channel, channelOf, type Gap, type MarketEvent, type ResyncEvent, type Seq } from "./events.js";
import { type Held, isSameStream, matches, type SubscribeOptions } from "./held.js";

/** Most channels and symbols that are followed: beyond it events are handed out unverified, and counted so. */
const STREAMS_MAX = 262_144;

interface Stream {
  channel: Channel;
  symbol: string;
  chain: Chain;
  /** Number of the frame that last touched it: events of one record are never split over frames. */
  frame: number;
  /** Whether the last event was a snapshot: an update at the same position is no sibling of it. */
  wasSnapshot: boolean;
  /** A subscribe was acknowledged while it stood: its snapshot may repeat what was seen. */
  isResubscribed: boolean;
  /** It was the user who subscribed: the snapshot is no news to him. */
  isAsked: boolean;
  /** Whether the client came back, and nothing new has come of it since. */
  isAtSeam: boolean;
  hadState: boolean;
  keeper?: BookKeeper;
}

/** What streams tell their owner. */
export interface StreamsOwner {
  handOut(event: MarketEvent | Gap | ResyncEvent, chars: number): void;
  /** A book broke without a word: a new snapshot is wanted. Told again with each change, while it is so. */
  bookBroke(symbol: string): void;
  /** A snapshot of a book came. */
  bookIsWhole(symbol: string): void;
  /** An event that is not from the past came: what was resumed of its symbol has caught up. */
  isLive(channel: Channel, symbol: string): void;
  booksFull(symbol: string): void;
}

/** What was found. */
export interface Counts {
  events: number;
  gaps: number;
  gapEvents: number;
  duplicates: number;
  unverified: number;
  unannounced: number;
  /** Updates that the gateway merged into others. */
  conflated: number;
}

/** All streams of a client. */
export class Streams {
  readonly #streams: Record<Channel, Map<string, Stream>> = { trades: new Map(), quotes: new Map(), book: new Map(), status: new Map() };
  readonly #owner: StreamsOwner;
  readonly #held: Held;
  readonly #booksMax: number;
  #frame = 0;
  #size = 0;
  #books = 0;
  /** Whether the owner wants to know of what is live: while replays are waited for. */
  tellsLive = false;
  readonly counts: Counts = { events: 0, gaps: 0, gapEvents: 0, duplicates: 0, unverified: 0, unannounced: 0, conflated: 0 };

  constructor(owner: StreamsOwner, held: Held, booksMax: number) {
    this.#owner = owner;
    this.#held = held;
    this.#booksMax = booksMax;
  }

  /** Takes the events of a frame of so many characters. */
  frame(events: readonly (MarketEvent | Gap)[], chars: number): void {
    this.#frame++;
    const share = Math.ceil(chars / Math.max(1, events.length));
    for (const event of events) {
      if (event.type === "gap") this.#gap(event, share);
      else this.#event(event, share);
    }
  }

  #event(event: MarketEvent, chars: number): void {
    const { counts } = this;
    const stream = this.#stream(channelOf(event), event.symbol);
    if (stream === undefined) {
      counts.unverified++;
      counts.events++;
      return this.#owner.handOut(event, chars);
    }
    const isSnapshot = event.snapshot === true;
    const isAsked = stream.isAsked && isSnapshot;
    if (stream.isResubscribed && isSnapshot) {
      stream.chain = new Chain();
      stream.isResubscribed = false;
      stream.isAsked = false;
    }
    const sameRecord = stream.frame === this.#frame && stream.wasSnapshot === isSnapshot;
    stream.frame = this.#frame;
    stream.wasSnapshot = isSnapshot;
    const { last } = stream.chain;
    const verdict = stream.chain.event(event, sameRecord);
    if (this.tellsLive && !event.replay && !isSnapshot) this.#owner.isLive(stream.channel, stream.symbol);
    if (verdict === "duplicate") {
      counts.duplicates++;
      return;
    }
    stream.isAtSeam = false;
    if (verdict === "unverified") counts.unverified++;
    if (verdict === "unannounced") this.#unannounced(stream, last, event);
    if (isSnapshot && stream.hadState && !isAsked && stream.channel !== "trades") {
      this.#owner.handOut({ type: "resync", channel: stream.channel, symbol: stream.symbol }, 0);
    }
    stream.hadState = true;
    if (event.type === "book") this.#apply(stream, event);
    if (event.merged !== undefined) counts.conflated += event.merged - 1;
    counts.events++;
    this.#owner.handOut(event, chars);
  }

  #apply({ keeper, symbol }: Stream, event: Book): void {
    const applied = keeper?.apply(event);
    if (event.snapshot) this.#owner.bookIsWhole(symbol);
    // It was whole, and what was to make it so again got lost with a session: no gateway sends changes without a state of its own accord.
    else if (applied === "ignored" && keeper !== undefined && keeper.updates > 0 && !event.replay) this.#owner.bookBroke(symbol);
  }

  #unannounced(stream: Stream, last: Seq | undefined, event: MarketEvent): void {
    this.counts.unannounced++;
    this.counts.gaps++;
    const gap: Gap = { type: "gap", channel: stream.channel, symbol: stream.symbol, cause: "unannounced" };
    if (last !== undefined) gap.after = last;
    if (event.prev !== undefined) gap.upto = event.prev;
    this.#owner.handOut(gap, 0);
    if (stream.channel !== "book") return;
    stream.keeper?.invalidate();
    // Also one of which there is no room for a keeper: the user may have one.
    this.#owner.bookBroke(stream.symbol);
  }

  #gap(gap: Gap, chars: number): void {
    const stream = this.#stream(gap.channel, gap.symbol);
    if (stream?.chain.gap(gap) === "known") return;
    stream?.keeper?.invalidate();
    if (stream !== undefined) stream.isAtSeam = false;
    this.counts.gaps++;
    this.counts.gapEvents += gap.count ?? 0;
    this.#owner.handOut(gap, chars);
  }

  #stream(channel: Channel, symbol: string): Stream | undefined {
    const streams = this.#streams[channel];
    const known = streams.get(symbol);
    if (known !== undefined || this.#size >= STREAMS_MAX) return known;
    const stream: Stream = {
      channel,
      symbol,
      chain: new Chain(),
      frame: 0,
      wasSnapshot: false,
      isResubscribed: false,
      isAsked: false,
      isAtSeam: false,
      hadState: false,
    };
    if (channel === "book") {
      if (this.#books < this.#booksMax) {
        stream.keeper = new BookKeeper(this.#depthOf(symbol));
        this.#books++;
      } else {
        this.#owner.booksFull(symbol);
      }
    }
    streams.set(symbol, stream);
    this.#size++;
    return stream;
  }

  /** The book of a symbol; `undefined` when there are too many. */
  book(symbol: string): BookKeeper | undefined {
    return this.#stream("book", symbol)?.keeper;
  }

  /** The present state of a book as an event. */
  snapshotOf(symbol: string, merged: number): Book | undefined {
    return this.#streams.book.get(symbol)?.keeper?.toSnapshot(merged);
  }

  /** The last position seen of a channel and symbol. */
  last(channel: Channel, symbol: string): Seq | undefined {
    return this.#streams[channel].get(symbol)?.chain.last;
  }

  /** Whether the state of a book is still to come, or is broken: its changes alone are of no use. */
  lacksState(symbol: string): boolean {
    const stream = this.#streams.book.get(symbol);
    if (stream === undefined || stream.isResubscribed) return true;
    return stream.keeper === undefined ? !stream.hadState : !stream.keeper.isComplete;
  }

  /** A subscribe was acknowledged, not that of a new session: one that the user asked for, or one of the client's own. */
  subscribed(channel: Channel, symbol: string, isAsked: boolean): void {
    this.#touch(channel, symbol, (stream) => {
      stream.isResubscribed = true;
      stream.isAsked = isAsked;
      stream.keeper?.setDepth(this.#depthOf(stream.symbol));
    });
  }

  /** A subscribe was acknowledged that begins in the past: what comes again was asked for, and is no duplicate. */
  begun(channel: Channel, symbol: string): void {
    // A book that is there goes on: its updates must not be applied again.
    if (channel === "book") return this.subscribed(channel, symbol, true);
    this.#touch(channel, symbol, (stream) => this.#renew(stream));
  }

  /**
   * A subscription has ended that was held with options `was`, and is held no more: what nobody asks for ends. What a pattern still brings goes
   * on where that has the same options, and begins anew with its state where it has others.
   */
  unsubscribed(channel: Channel, symbol: string, was: SubscribeOptions | undefined): void {
    this.#touch(channel, symbol, (stream) => {
      const other = this.#held.optionsOf(channel, stream.symbol);
      if (other !== undefined) {
        if (was === undefined || !isSameStream(was, other)) this.#renew(stream);
        return;
      }
      this.#streams[channel].delete(stream.symbol);
      this.#size--;
      if (stream.keeper !== undefined) this.#books--;
      stream.keeper?.invalidate();
    });
  }

  /** A new session resumes a symbol or pattern: from a cursor, or from the last position. */
  resumed(channel: Channel, symbol: string, withCursor: boolean): void {
    this.#touch(channel, symbol, (stream) => {
      stream.chain.resumed(withCursor);
      stream.isAtSeam = true;
    });
  }

  /** A new session begins a symbol or pattern anew: nobody knows what of it came since the loss of the one before. */
  restarted(channel: Channel, symbol: string): void {
    this.counts.gaps++;
    this.#owner.handOut({ type: "gap", channel, symbol, cause: "unannounced" }, 0);
    this.#touch(channel, symbol, (stream) => {
      stream.keeper?.invalidate();
      stream.isResubscribed = true;
    });
  }

  /** What a request resumed is told as gone: where nothing has come since, it may go on behind anything. */
  agedOut(channel: Channel, symbol: string): void {
    this.#touch(channel, symbol, (stream) => {
      if (stream.isAtSeam) stream.chain.agedOut();
    });
  }

  /** Begins it anew, as if nothing of it had come. */
  #renew(stream: Stream): void {
    stream.chain = new Chain();
    stream.frame = 0;
    stream.wasSnapshot = stream.isResubscribed = stream.isAsked = stream.isAtSeam = stream.hadState = false;
    stream.keeper?.invalidate();
    stream.keeper?.setDepth(this.#depthOf(stream.symbol));
  }

  #depthOf(symbol: string): number {
    return this.#held.optionsOf("book", symbol)?.depth ?? 0;
  }

  /** All that a symbol or pattern brings, and nothing more specific does. */
  #touch(channel: Channel, symbol: string, each: (stream: Stream) => void): void {
    const streams = this.#streams[channel];
    if (!symbol.endsWith("*")) {
      const stream = streams.get(symbol);
      if (stream !== undefined) each(stream);
      return;
    }
    for (const stream of [...streams.values()]) {
      if (matches(symbol, stream.symbol) && !this.#held.isOfOther(channel, symbol, stream.symbol)) each(stream);
    }
  }
}
