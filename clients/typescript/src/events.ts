/**
 * What a client hands out: market events with the fields of the protocol, and what happens to the client itself.
 *
 * Prices and sizes are decimal texts with the digits that the record had (`toNumber`, `Decimal`); times are `bigint`
 * nanoseconds since the Unix epoch (`toDate`, `toIso`). Events are plain objects: they can be posted to another thread.
 */

/** What can be subscribed to. */
export type Channel = "trades" | "quotes" | "book" | "status";

/** A decimal number as text, exact: `"487.50"`. */
export type DecimalText = string;

/** A position in Kafka, `"<epoch>:<partition>:<offset>"`. */
export type Seq = string;

/** One level of a book: price and size. */
export type Level = [price: DecimalText, size: DecimalText];

/** What every market event has. */
export interface EventBase {
  symbol: string;
  /** Where its record stands in Kafka. */
  seq: Seq;
  /** The venue's clock, nanoseconds. */
  event_ns: bigint;
  /** The gateway's clock when it read the record, nanoseconds: of a replay from Kafka the time of that, and not of then. */
  ingest_ns: bigint;
  /** When the producer meant to send it, nanoseconds, if it said so. */
  send_ns?: bigint;
  /** `seq` of the event before it on its channel and symbol, if the gateway knows it. */
  prev?: Seq;
  /** It stands for so many updates, if for more than one. */
  merged?: number;
  /** It is state: it replaces what was known of its symbol. */
  snapshot?: true;
  /** It is from the past: of a resume or a replay. */
  replay?: true;
}

/** A trade. */
export interface Trade extends EventBase {
  type: "trade";
  price: DecimalText;
  size: DecimalText;
  /** The aggressor. */
  side?: "buy" | "sell";
  trade_id?: string;
  venue?: string;
  conditions?: string;
}

/** The best bid and ask. */
export interface Quote extends EventBase {
  type: "quote";
  bid_price: DecimalText;
  bid_size: DecimalText;
  ask_price: DecimalText;
  ask_size: DecimalText;
  venue?: string;
}

/** Levels of a book: absolute sizes, `"0"` removes a level. */
export interface Book extends EventBase {
  type: "book";
  bids: Level[];
  asks: Level[];
}

/** Whether a symbol trades. */
export interface Status extends EventBase {
  type: "status";
  state: "halted" | "trading" | "auction" | "closed";
  reason?: string;
}

/** What a subscription brings. */
export type MarketEvent = Trade | Quote | Book | Status;

/** Why events are missing: causes of the gateway, and two of the client's own. */
export type GapCause =
  | "slow_consumer"
  | "overload"
  | "upstream"
  | "retention"
  | "repartitioned"
  /**
   * The chain broke and nothing had announced it; or, of a symbol or a pattern and without `after` and `upto`, the session was lost before
   * there was anything to go on from, and nobody knows what came meanwhile.
   */
  | "unannounced"
  /** The client's own queue was full. */
  | "client_queue";

/** Events of one channel and symbol are missing. */
export interface Gap {
  type: "gap";
  channel: Channel;
  symbol: string;
  cause: GapCause;
  /** The last position that was handed out. */
  after?: Seq;
  /** The last position that is missing. */
  upto?: Seq;
  /** How many events are missing. */
  count?: number;
}

/** State of the connection. */
export type State = "connecting" | "live" | "stale" | "reconnecting" | "resyncing" | "closed";

/** The state of the connection has changed. */
export interface StateEvent {
  type: "state";
  state: State;
  /** With `reconnecting`: which attempt is planned, from 1. */
  attempt?: number;
  /** With `reconnecting`: when it will be made, in milliseconds from now. */
  wait_ms?: number;
  /** Why, for people. */
  reason?: string;
  /** With `reconnecting`: what to look at if it stays so. */
  hint?: string;
}

/** What became of one symbol or pattern of a request. */
export interface AckResult {
  channel: Channel;
  symbol: string;
  ok: boolean;
  /** The gateway's number of the symbol, if it knows it. */
  instrument?: number;
  /** `false`: no record has named the symbol yet. */
  seen?: boolean;
  /** `building`: no snapshot of the book was read yet. */
  state?: string;
  /** All of it comes at least so many seconds late. */
  delayed_s?: number;
  /** Why it was refused. */
  code?: string;
  message?: string;
  /** What to do about a refusal, or about a symbol that no record has named yet. */
  hint?: string;
}

/** A `subscribe` or `unsubscribe` was answered. */
export interface AckEvent {
  type: "ack";
  ok: boolean;
  results: AckResult[];
}

/** An `auth` message was answered. */
export interface AuthEvent {
  type: "auth";
  ok: boolean;
}

/** The event behind it is a snapshot that replaces what was known of the symbol. */
export interface ResyncEvent {
  type: "resync";
  channel: Channel;
  symbol: string;
}

/** A subscription with `from` has given all of the past that it was asked for. */
export interface ReplayDoneEvent {
  type: "replay_done";
  channel: Channel;
  symbol: string;
  seq?: Seq;
}

/** The gateway finds this client slow. */
export interface SlowEvent {
  type: "slow";
  /** How late what it is sent is by now, in milliseconds. */
  delay_ms: number;
  /** What waits for it at the gateway, and the bound of that. */
  queued_bytes: number;
  limit_bytes: number;
  /** What the gateway does at that bound. */
  action: "conflate" | "skip" | "disconnect";
}

/** The gateway is about to stop. The client stays until it does, and comes back to it or to another one. */
export interface GoawayEvent {
  type: "goaway";
  reason: string;
  /** When the gateway will close, in milliseconds from now. */
  close_in_ms: number;
}

/** Something failed. With `fatal` the session has ended because of it. */
export interface ErrorEvent {
  type: "error";
  code: string;
  message: string;
  /** What to do about it. */
  hint: string;
  fatal: boolean;
  symbol?: string;
  /** When to try again, in milliseconds from now. */
  retry_after_ms?: number;
}

/** A feed's state has changed. */
export interface FeedEvent {
  type: "feed";
  name: string;
  state: "live" | "stale" | "down";
  /** Records that the gateway has yet to read. */
  lag_records: number;
  /** Venue clock of its newest event, nanoseconds. */
  event_ns?: bigint;
}

/** What happens to the client itself. */
export type ClientEvent =
  | StateEvent
  | AckEvent
  | AuthEvent
  | ResyncEvent
  | ReplayDoneEvent
  | SlowEvent
  | GoawayEvent
  | ErrorEvent
  | FeedEvent;

/** Everything that a client hands out, in order. */
export type TickgateEvent = MarketEvent | Gap | ClientEvent;

const CHANNELS = { trade: "trades", quote: "quotes", book: "book", status: "status" } as const;

/** The channel that an event came on. */
export function channelOf(event: MarketEvent | Gap): Channel {
  return event.type === "gap" ? event.channel : CHANNELS[event.type];
}

/** Whether an event is a trade, a quote, a change of a book or a status. */
export function isMarketEvent(event: TickgateEvent): event is MarketEvent {
  return Object.hasOwn(CHANNELS, event.type);
}
