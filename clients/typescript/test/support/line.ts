/** Sockets without a network, at whose other end the test stands. */

import type { Control } from "../../src/index.js";
import type { SocketLike } from "../../src/socket.js";
import { until } from "./programs.js";

const HELLO = {
  op: "hello",
  protocol: 1,
  session: "1",
  now_ns: "1",
  heartbeat_ms: 0,
  auth: "none",
  limits: { subscriptions: 1_000, requests_per_s: 100, message_bytes: 65_536 },
} as const;

/** What a client asked for. */
export interface Asked {
  op: string;
  id: number;
  subscriptions?: { channel: string; symbols: string[]; from?: unknown }[];
  cursor?: string;
}

type Listener = (event: object) => void;

/** One socket. It greets whoever opens it. */
export class Line implements SocketLike {
  /** Those that a client opened, the last one last. */
  static all: Line[] = [];
  binaryType = "";
  readyState = 1;
  isPaused = false;
  readonly asked: Asked[] = [];
  readonly #listeners = new Map<string, Listener>();

  constructor() {
    Line.all.push(this);
    queueMicrotask(() => this.say(HELLO));
  }

  /** Waits for the socket that is opened as the n-th one, from 0. */
  static at(n: number): Promise<Line> {
    return until(() => Line.all[n], `connection ${n}`);
  }

  addEventListener(type: string, listener: (event: never) => void): void {
    this.#listeners.set(type, listener as Listener);
  }

  send(text: string): void {
    this.asked.push(JSON.parse(text) as Asked);
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
  }

  close(): void {
    this.readyState = 3;
  }

  /** Says something to the client. */
  say(message: Control | readonly object[]): void {
    const text = JSON.stringify(message, (_, value: unknown) => (typeof value === "bigint" ? `${value}` : value));
    this.#listeners.get("message")?.({ data: text });
  }

  /** Waits for the n-th request of a kind, from 0. */
  wants(op: string, n = 0): Promise<Asked> {
    return until(() => this.asked.filter((request) => request.op === op)[n], `${op} ${n}`);
  }

  /** Acknowledges all symbols and patterns of a request, or refuses them. */
  acknowledge({ id, subscriptions = [] }: Asked, code?: string): void {
    const refusal = code === undefined ? {} : { code, message: "no" };
    const results = subscriptions.flatMap(({ channel, symbols }) => symbols.map((symbol) => ({ channel: channel as "book", symbol, ok: code === undefined, ...refusal })));
    this.say({ op: "ack", id, ok: code === undefined, results });
  }

  /** Cuts it. */
  cut(): void {
    this.#listeners.get("close")?.({ code: 1_006, reason: "" });
  }
}
