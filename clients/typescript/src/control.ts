/** Control messages of the gateway, as they are on the wire. */

import type { AckResult, Channel, Seq, SlowEvent } from "./events.js";

/** What a session may do. */
export interface Limits {
  /** Symbols and patterns that it may hold. */
  subscriptions: number;
  /** Requests that it may make in a second. */
  requests_per_s: number;
  /** Longest message that it may send. */
  message_bytes: number;
  /** How far back it may resume or replay, in seconds; 0 is as far as Kafka has it. */
  replay_s?: number;
  /** Pings and pongs of its own that it may send in ten seconds. */
  pings_per_10_s?: number;
  /** How long it may say nothing at all, in milliseconds, before it is ended. */
  silence_ms?: number;
  /** Updates that it is sent in a second at the most, where its token bounds them. */
  updates_per_s?: number;
  /** Connections that its subject may have, where its token bounds them. */
  connections?: number;
}

/** First message of a session. */
export interface Hello {
  op: "hello";
  protocol: number;
  session: string;
  now_ns: string;
  heartbeat_ms: number;
  auth: "none" | "accepted" | "required";
  limits: Limits;
}

/** A feed in a heartbeat. */
export interface FeedStatus {
  name: string;
  /** `stale`: no record for longer than usual. `down`: no broker answers. */
  state: "live" | "stale" | "down";
  /** Venue clock of its newest event, nanoseconds as text. */
  event_ns?: string;
  /** Records that the gateway has yet to read. */
  lag_records: number;
}

/** Sign of life, in order with the data. */
export interface Heartbeat {
  op: "heartbeat";
  now_ns: string;
  cursor: string;
  queued_bytes: number;
  delay_ms: number;
  feeds: FeedStatus[];
}

/** A request, or with `fatal` the session, failed. */
export interface ControlError {
  op: "error";
  id?: number | string;
  code: string;
  number: number;
  message: string;
  fatal: boolean;
  retry_after_ms?: number;
  cursor?: string;
}

/** One subscription held, as `list` tells it. */
export interface ListEntry {
  channel: Channel;
  /** A symbol or a pattern. */
  symbol: string;
  on_slow: "conflate" | "skip" | "disconnect";
  conflate_ms?: number;
  depth?: number;
}

/** A control message. */
export type Control =
  | Hello
  | { op: "ack"; id?: number | string; ok: boolean; results?: AckResult[]; limits?: Limits }
  | ControlError
  | Heartbeat
  | ({ op: "slow" } & Omit<SlowEvent, "type">)
  | { op: "replay_done"; id?: number | string; channel: Channel; symbol: string; seq?: Seq | null }
  | { op: "goaway"; reason: string; close_in_ms: number; cursor: string }
  | { op: "pong"; id?: number | string; now_ns: string }
  | { op: "list"; id?: number | string; subscriptions: ListEntry[] };
