/**
 * Client of the Tickgate market data gateway, for browsers, workers and Node.
 *
 * {@link connect} gives a {@link Live} stream: subscribe, take events in order, keep books. Reconnecting, resuming, discarding what
 * comes twice and finding what is missing are done; gaps, resyncs and states are events.
 */

export { Backoff, type BackoffOptions } from "./backoff.js";
export { type Applied, BookKeeper } from "./book.js";
export { Chain, type ChainEvent, type ChainGap, type GapVerdict, type Verdict } from "./chain.js";
export type { Control, FeedStatus, Limits, ListEntry } from "./control.js";
export { compareDecimals, isDecimal, isZero, scaleOf, toFixedPoint, toNumber } from "./decimal.js";
export { BadFrame, decode, type Message } from "./decode.js";
export { TickgateError } from "./errors.js";
export * from "./events.js";
export type { OnSlow, SubscribeOptions } from "./held.js";
export { Histogram } from "./latency.js";
export { connect, Live } from "./live.js";
export type { ConnectOptions, Settings, Token } from "./options.js";
export { isAtOrBefore, isPosition, parsePosition } from "./position.js";
export type { OnFull, QueueOptions } from "./queue.js";
export { Replay, type ReplayEvent, type ReplayOptions } from "./replay.js";
export type { SocketConstructor, TokenVia } from "./socket.js";
export type { LatencyStats, Stats } from "./stats.js";
export { nowNs, toDate, toIso, toMs, toNs } from "./time.js";
