/** How a client is doing, in numbers. */

import type { FeedStatus } from "./control.js";
import type { State } from "./events.js";
import type { Histogram } from "./latency.js";

/**
 * Latencies from the gateway's receipt of a record to the client, by the gateway's clock. Channels of which something is subscribed to with
 * `conflate_ms` are left out: what waits by wish says nothing of the way. So is what came before the clocks were compared, unless they never are (`clockMs: 0`).
 */
export interface LatencyStats {
  count: number;
  p50_ns: number;
  p99_ns: number;
  max_ns: number;
}

/** How a client is doing, since it was made. */
export interface Stats {
  state: State;
  /** Messages, and characters in them. */
  messages: number;
  chars: number;
  /** Trades, quotes, changes of books and status that were handed out. */
  events: number;
  /** Gaps that were handed out, and the events that they counted. */
  gaps: number;
  gapEvents: number;
  /** Events that were discarded, as they had come before. */
  duplicates: number;
  /** Events of which the gateway did not know what came before them. */
  unverified: number;
  /** Breaks that nothing had announced: bugs of the gateway. */
  unannounced: number;
  /** Updates that the gateway merged into newer ones. */
  conflated: number;
  /** Events that this client's queue merged into newer ones, or dropped with a gap. */
  queueConflated: number;
  queueDropped: number;
  /** Events that wait to be taken. */
  queued: number;
  /** Sessions that there were, and those after the first. */
  sessions: number;
  reconnects: number;
  /** Messages that could not be read. */
  badFrames: number;
  /** Notices that this client is slow. */
  slow: number;
  /** How far the gateway's clock is ahead of this one, known to half of the round trip that says so: the quickest of the last eight. 0 before there was one. */
  skew_ns: number;
  roundTrip_ns: number;
  /** Of live events, by the gateway's clock: since the beginning, and of the last 5 to 10 seconds. */
  latency: LatencyStats;
  latencyRecent: LatencyStats;
  /** What the last heartbeat said waits for this client at the gateway, and for how long. */
  gatewayQueued_bytes: number;
  gatewayDelay_ms: number;
  /** Of the gateway's feeds the worst one's state; `unknown` until a session's first heartbeat says it. */
  feedState: "unknown" | FeedStatus["state"];
  /** The feeds as the last heartbeat had them; none before the first. */
  feeds: FeedStatus[];
  /** Name of the session, for the operator's logs. */
  session?: string;
}

/** Of several feeds the state that says most against what comes. */
export function worstOf(feeds: readonly FeedStatus[]): Stats["feedState"] {
  for (const state of ["down", "stale", "live"] as const) if (feeds.some((feed) => feed.state === state)) return state;
  return "unknown";
}

/** A histogram in short. */
export function latencyStats(histogram: Histogram): LatencyStats {
  return {
    count: histogram.count,
    p50_ns: Math.round(histogram.quantileNs(0.5)),
    p99_ns: Math.round(histogram.quantileNs(0.99)),
    max_ns: Math.round(histogram.maxNs),
  };
}
