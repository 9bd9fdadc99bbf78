/** What the page and its worker say to each other. All of it is bounded: what is not asked for in time is merged in the worker. */

import type { Level, State } from "tickgate";

/** What the page tells the worker. */
export type Command =
  | { do: "connect"; url: string; token?: string }
  /** The symbols of the watchlist, in its order. */
  | { do: "watch"; symbols: string[] }
  /** The symbol of the ladder, the tape and the chart, and the seconds of its candles. */
  | { do: "focus"; symbol: string; interval_s: number }
  | { do: "slow"; isSlow: boolean }
  /** The symbols in sight. */
  | { do: "view"; symbols: string[] }
  /** Which symbols are there? */
  | { do: "discover" }
  /** The page can paint: what has changed? Answered by one `frame`. */
  | { do: "pull" };

/** One row of the watchlist. Prices and sizes are texts as they came. */
export interface Row {
  symbol: string;
  bid?: string;
  bidSize?: string;
  ask?: string;
  askSize?: string;
  last?: string;
  /** When the last trade was, by the venue's clock, in nanoseconds since the epoch. */
  last_ns?: bigint;
  /** Where the last price went: 1 up, -1 down. */
  direction: number;
  /** The last price against the first that this page saw, in percent. */
  change?: number;
  state?: string;
  /** When something of it came last, by the page's clock, in milliseconds since the epoch. */
  changed_ms: number;
  /** When something of it was lost last, as `changed_ms`; 0 when nothing was. */
  gap_ms: number;
  /** Prices in the middle of bid and ask, or last ones without quotes, a second apart, oldest first; only where they have changed. */
  spark?: number[];
}

/** One trade of the tape. */
export interface Print {
  time_ms: number;
  price: string;
  size: string;
  side?: "buy" | "sell";
  /** Where the feed names no side: above or below the last trade of another price. */
  tick?: 1 | -1;
}

/** One candle; `time_s` is where it begins. */
export interface Candle {
  time_s: number;
  open: number;
  high: number;
  low: number;
  close: number;
  volume: number;
}

/** The book of the symbol in focus. */
export interface Ladder {
  isComplete: boolean;
  /** Best first. */
  bids: Level[];
  asks: Level[];
  last?: string;
}

/** How the connection is doing. */
export interface Health {
  state: State | "degraded";
  attempt: number;
  reason?: string;
  session?: string;
  /** Latencies of the last seconds: none where nothing came that tells one. */
  latencies: number;
  p50_ms: number;
  p99_ms: number;
  skew_ms: number;
  messages_s: number;
  events_s: number;
  /** Share of updates that were merged into newer ones, since the last report. */
  conflated: number;
  gaps: number;
  duplicates: number;
  reconnects: number;
  queued_bytes: number;
  /** None where it is not known how they are. */
  feeds: { name: string; state: string }[];
}

/** A state that the connection came into. */
export interface Change {
  state: State | "degraded";
  attempt: number;
}

/** Something that a person should know. */
export interface Notice {
  /** What has the same one takes the place of what was told before, and its kind. */
  id?: number;
  /** It comes above what was told meanwhile, with its own time. Without this it goes on where the one before began, with the time of that. */
  isMoved?: boolean;
  time_ms: number;
  kind: "gap" | "error" | "slow" | "info";
  text: string;
}

/** Whether it is looked which symbols there are: for a moment, for as long as none comes, or not at all, as the gateway does not allow it. */
export type Looking = "no" | "begun" | "waiting" | "refused";

/** Gaps of one cause that are no further apart are told as one. */
export const MERGE_MS = 5_000;

/** Of so many symbols all trades are followed; of more, those of rows in sight. */
export const FOLLOWED_MAX = 100;

/** Symbols of a first visit, of those that are there. */
export const FIRST_SYMBOLS = 27;

/** What has changed since the last frame. */
export interface Frame {
  rows: Row[];
  /** The symbol that prints, ladder and candles are of, and the seconds of these. */
  focus: string;
  interval_s: number;
  prints: Print[];
  /** Another token was shown: what was told before of prints and ladder is over. */
  isAnew?: boolean;
  /** Prints that were left out, as more came than anybody can read. */
  printsSkipped: number;
  ladder?: Ladder;
  /** Candles that changed; all of them with `isAll`. */
  candles?: { isAll: boolean; candles: Candle[] };
  /** Each state since, however short. */
  changes: Change[];
  health?: Health;
  notices: Notice[];
  looking: Looking;
  /** Symbols that are there, sorted; and those of which most comes, at most `FIRST_SYMBOLS` of them. */
  directory?: string[];
  busiest?: string[];
  /** The gateway wants a token, or another one. */
  needsToken?: boolean;
}
