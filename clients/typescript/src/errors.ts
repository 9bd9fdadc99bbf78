/** Errors, each with its code, what it concerns and what to do about it. */

import type { ControlError } from "./control.js";
import type { AckResult } from "./events.js";

/** Whether this is a page or a worker of one, which a gateway judges by its origin. */
const isOfPage = "location" in globalThis;

/** What to do about errors, by their code. */
const HINTS: Record<string, string> = {
  bad_request: "the request is wrong: the message says what of it",
  unauthenticated: "the token is missing, wrong, over or revoked: give `token`, as a function if it changes",
  forbidden: `the token does not grant it${isOfPage ? ", or the page's origin is not in session.allowed_origins" : ""}`,
  unknown_channel: "channels are trades, quotes, book and status",
  unknown_symbol: "the gateway knows no such symbol: a pattern such as `BTC*` takes what there is",
  auth_timeout: "the token came too late: a token function must answer within seconds",
  replay_aged_out: "what was asked for is gone: a gap says what, and the rest comes",
  subscription_limit: "too many symbols in one session: use a pattern, or a second connection",
  rate_limited: "too many requests: try again after `retry_after_ms`",
  connection_limit: "too many connections: close others, the client tries again",
  slow_consumer: "this client reads too slowly: subscribe to less, with `conflate_ms`, or with on_slow `conflate` or `skip`",
  token_expired: "the token is over: give `token` as a function, it is called when a new one is needed",
  token_expiring: "the token is over soon: give `token` as a function, it is called when a new one is needed",
  internal: "a fault of the gateway: a session is begun again by itself; ask for a past again, from the time that the message names",
  source_down: "Kafka behind the gateway does not answer: what was not read need not be gone, ask for it again, from the time that the message names",
  bad_frame: "the server sent what is not of this protocol: is it a Tickgate gateway of version 1?",
  connect_failed: `is the address right, \`ws://host:port/v1/stream\`? Is a gateway there?${isOfPage ? " May this page's origin connect?" : ""}`,
  connection_lost: "the connection broke: ask again",
  no_websocket: "pass that of the package `ws`: `connect(url, { WebSocket })`; Node from 22 on has one",
  bad_url: "the address is `ws://host:port/v1/stream` or `wss://…`, without a token in it: are host, port and path right?",
  bad_option: "see the reference of that option",
  timeout: "the gateway did not answer in time",
  closed: "this client was closed",
  book_broken: "it is asked for again, at the latest when it changes; if it stays so, unsubscribe from it and subscribe again",
  books_max: "raise `booksMax`, or subscribe to fewer books",
  requests_max: "wait for the answers to earlier requests before asking for more",
};

const UNSEEN_HINT = "no record has named this symbol yet: is it right? /symbols on the gateway's admin port lists what ticks";

const COMMA_HINT = "it is taken as the name of one symbol, comma and all: give several as an array, [\"AAPL\", \"MSFT\"]";

/** What to do about an error of this code. */
export function hintOf(code: string): string {
  return HINTS[code] ?? "see the protocol's reference for this code";
}

/** A result with what to do about a refusal, or about a symbol of which nothing was ever seen. */
export function withHint(result: AckResult): AckResult {
  // A symbol may have a comma in its name, so only one that nobody knows is a mistake.
  const isUnknown = result.ok ? result.seen === false : result.code === "unknown_symbol";
  if (isUnknown && result.symbol.includes(",")) return { ...result, hint: COMMA_HINT };
  if (!result.ok) return { ...result, hint: hintOf(result.code ?? "") };
  return result.seen === false ? { ...result, hint: UNSEEN_HINT } : result;
}

/** More about a {@link TickgateError}. */
export interface ErrorDetails {
  symbol?: string | undefined;
  retryAfterMs?: number | undefined;
  cause?: unknown;
}

/** What this package throws and rejects with. */
export class TickgateError extends Error {
  override readonly name = "TickgateError";
  /** Name of the error: one of the protocol's, or of the client's own such as `connect_failed`. */
  readonly code: string;
  /** What to do about it. */
  readonly hint: string;
  /** The symbol that it is about. */
  readonly symbol?: string;
  /** When to try again, in milliseconds from now. */
  readonly retryAfterMs?: number;

  constructor(code: string, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.hint = hintOf(code);
    if (details.symbol !== undefined) this.symbol = details.symbol;
    if (details.retryAfterMs !== undefined) this.retryAfterMs = details.retryAfterMs;
  }
}

/** An error that the gateway answered a request with. */
export function errorOf(error: ControlError, symbol?: string): TickgateError {
  return new TickgateError(error.code, error.message, { symbol, retryAfterMs: error.retry_after_ms });
}
