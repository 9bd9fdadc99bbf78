/** The WebSocket under a client: the runtime's own, or one that was passed in. */

import { TickgateError } from "./errors.js";

/** What is used of a WebSocket: that of browsers, of Node from 22 on, and of the package `ws`. */
export interface SocketLike {
  binaryType: string;
  readonly readyState: number;
  send(text: string): void;
  close(code?: number, reason?: string): void;
  addEventListener(type: "open", listener: () => void): void;
  addEventListener(type: "message", listener: (event: { data: unknown }) => void): void;
  addEventListener(type: "close", listener: (event: { code: number; reason: string }) => void): void;
  /** `error` is of `ws`; where several addresses were tried it alone has a word, its code. */
  addEventListener(type: "error", listener: (event: { message?: string; error?: { code?: unknown } }) => void): void;
  /** `ws` can stop reading. */
  pause?(): void;
  resume?(): void;
  /** `ws` can end without waiting for the other side. */
  terminate?(): void;
}

/** A constructor of sockets. The third argument is understood by `ws` alone. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- the types of `ws` and of the DOM have nothing in common
export type SocketConstructor = new (url: string, protocols?: any, options?: any) => any;

/** How a token is shown. */
export type TokenVia = "message" | "subprotocol" | "header";

const PROTOCOL = "tickgate.v1.json";
const BEARER = "tickgate.bearer.";
/** Where a gateway has its stream. */
const PATH = "/v1/stream";

/**
 * Checks an address. One without a path is that of a gateway's stream.
 *
 * @throws {@link TickgateError} `bad_url`, without the address in it: there may be a secret.
 */
export function checkUrl(text: string): string {
  let url: URL;
  try {
    url = new URL(text);
  } catch (cause) {
    throw new TickgateError("bad_url", "the address cannot be read", { cause });
  }
  if (url.protocol !== "ws:" && url.protocol !== "wss:") throw new TickgateError("bad_url", `${url.protocol} is not ws: or wss:`);
  if (url.username !== "" || url.password !== "" || url.search !== "") {
    throw new TickgateError("bad_url", "an address with a user or a query is refused: it would be in the logs of everything on the way");
  }
  if (url.pathname === "/") url.pathname = PATH;
  url.hash = "";
  return url.href;
}

/**
 * The constructor that was passed in, or the runtime's.
 *
 * @throws {@link TickgateError} `no_websocket` where there is neither.
 */
export function socketOf(constructor: SocketConstructor | undefined): SocketConstructor {
  const Constructor = constructor ?? (globalThis as { WebSocket?: SocketConstructor }).WebSocket;
  if (Constructor === undefined) throw new TickgateError("no_websocket", "this runtime has no WebSocket of its own, as Node before version 22");
  return Constructor;
}

/** Opens a socket. A token that cannot stand among subprotocols is left for `auth`. */
export function openSocket(url: string, constructor: SocketConstructor | undefined, token: string | undefined, via: TokenVia): SocketLike {
  const Constructor = socketOf(constructor);
  if (token !== undefined && via === "header") {
    const headers = { Authorization: `Bearer ${token}` };
    // Node's own takes options in place of the protocols, `ws` behind them.
    const isOwn = constructor === undefined || constructor === (globalThis as { WebSocket?: SocketConstructor }).WebSocket;
    return (isOwn ? new Constructor(url, { protocols: [PROTOCOL], headers }) : new Constructor(url, [PROTOCOL], { headers })) as SocketLike;
  }
  const protocols = [PROTOCOL];
  if (token !== undefined && via === "subprotocol" && /^[!#$%&'*+\-.^_`|~\w]+$/.test(token)) protocols.push(BEARER + token);
  return new Constructor(url, protocols) as SocketLike;
}

/** The HTTP status that a handshake was refused with, where the runtime tells it: `ws` does, browsers do not. */
export function refusedWith(message: string | undefined): number | undefined {
  const found = /Unexpected server response: (\d{3})/.exec(message ?? "");
  return found ? Number(found[1]) : undefined;
}

/** What a connection failed with, in plain words where those of the TLS library are none. */
export function plainly(url: string, why: string): string {
  // What is no TLS is read as a record of an odd version; who does not know what to make of a greeting by TLS hangs up.
  const isWithoutTls = url.startsWith("wss:") && /wrong version number|before secure TLS connection/.test(why);
  return isWithoutTls ? "no TLS is spoken at this address: try ws:// in place of wss://" : why;
}

/** The protocol's name of a refusal. */
export function codeOfStatus(status: number | undefined): string {
  switch (status) {
    case 400:
      return "bad_request";
    case 401:
      return "unauthenticated";
    case 403:
      return "forbidden";
    case 429:
      return "connection_limit";
    default:
      return "connect_failed";
  }
}
