/** How a client connects. */

import type { BackoffOptions } from "./backoff.js";
import type { QueueOptions } from "./queue.js";
import type { SocketConstructor, TokenVia } from "./socket.js";

/** A token, or what gives one: it is called for each connection, and when the present one is over soon. */
export type Token = string | (() => string | Promise<string>);

/** How a client connects. */
export interface ConnectOptions {
  /** Token or API key. */
  token?: Token;
  /**
   * How the token is shown: as the first message, which is the only way in which a browser learns why it was refused; as a
   * `subprotocol`; or in the `header`, which only Node can. Never in the address. Default `message`.
   */
  tokenVia?: TokenVia;
  /** Whether to come back when the connection is lost, and go on where it stopped. Default true. */
  reconnect?: boolean;
  /** Waits between attempts. */
  backoff?: BackoffOptions;
  /** Bounds of what was received and not yet taken. */
  queue?: QueueOptions;
  /** Interval of the gateway's heartbeats, each with a cursor, in milliseconds: 100 to 60000. Default: the gateway's, mostly 5000. */
  heartbeatMs?: number;
  /** The most that the gateway is to send, in bytes a second, from 1024: what waits is conflated. Default: no bound. */
  maxBytesPerS?: number;
  /** The gateway's flush window, in milliseconds: 0 to 1000. Default: the gateway's, mostly 0. */
  flushMs?: number;
  /** How long connecting may take, in milliseconds. Default 10000. */
  connectTimeoutMs?: number;
  /** Interval at which the gateway's clock is asked for, in milliseconds; 0 for never. Default 10000. */
  clockMs?: number;
  /** Most books that are kept. Default 5000. */
  booksMax?: number;
  /** The WebSocket to use where the runtime has none, as in Node 20: that of the package `ws`. */
  WebSocket?: SocketConstructor;
}

/** Settings of a session that can be changed. */
export type Settings = Pick<ConnectOptions, "heartbeatMs" | "maxBytesPerS" | "flushMs">;
