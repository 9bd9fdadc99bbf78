/** One session: a socket, its greeting, its token, and requests that are answered. What comes of it goes to its owner. */

import type { Control, Hello } from "./control.js";
import { BadFrame, decode, type Message } from "./decode.js";
import { TickgateError } from "./errors.js";
import type { WireSubscription } from "./held.js";
import { type Found, probe } from "./probe.js";
import { openSocket, plainly, refusedWith, codeOfStatus, type SocketConstructor, type SocketLike, type TokenVia } from "./socket.js";

/** Most requests that wait for their turn or their answer. */
const REQUESTS_MAX = 1_024;
/** How long an answer may take, while it could be heard, and nothing comes before it. */
const ANSWER_MS = 30_000;
/** Of a frame of so many bytes a socket may take a part, and the rest when that part is paid for at the rate that was asked for. */
const FRAME_BYTES = 256 * 1_024;
/** HTTP status of a path at which nothing is. */
const NOT_FOUND = 404;

/** How a session ended. */
export interface Ending {
  /** Close code, or 1006 without one. */
  code: number;
  reason: string;
  /** The error that ended it, if one was told or the handshake failed. */
  error?: TickgateError;
  /** Whether that error came as a message. */
  wasTold?: boolean;
}

/** What a session tells its owner. Nothing comes after `onEnd`. */
export interface SessionOwner {
  /** There is a session: the token, if it was asked for, was taken. */
  onReady(hello: Hello): void;
  onMessage(message: Message, chars: number): void;
  onBadFrame(error: BadFrame): void;
  /** Nothing came for longer than two heartbeats and a second, or something came again. */
  onSilence(isSilent: boolean): void;
  onEnd(ending: Ending): void;
}

/** How a session is opened. */
export interface SessionOptions {
  url: string;
  WebSocket: SocketConstructor | undefined;
  /** Gives the token for this connection. */
  token: (() => Promise<string>) | undefined;
  tokenVia: TokenVia;
  connectMs: number;
  /** Whether there never was a session: where none comes about, it is looked whether the address is right. */
  isFirst: boolean;
}

/** What a request is answered with. */
export type Answer = Extract<Control, { op: "ack" | "pong" | "list" | "error" }>;

interface Request {
  body: Record<string, unknown>;
  id: number;
  answered: (answer: Answer) => void;
  failed: (error: TickgateError) => void;
  sentMs: number;
  timer?: ReturnType<typeof setTimeout>;
}

/** One session. */
export class Session {
  readonly #owner: SessionOwner;
  readonly #options: SessionOptions;
  #socket: SocketLike | undefined;
  #hello: Hello | undefined;
  #isReady = false;
  #isEnded = false;
  /** Whether its socket has said that it is closed. */
  #isClosed = false;
  #isSilent = false;
  #isReading = true;
  #nextId = 1;
  /** When the last message came, and of how many characters it was. */
  #lastMs = 0;
  #lastChars = 0;
  /** How far the gateway's clock was ahead when it greeted, and when, by ours, it made the last heartbeat. */
  #aheadMs = 0;
  #beatMs = -Infinity;
  /** Bytes a second that the gateway sends at the most. */
  #bytesPerS = Infinity;
  #fatal: TickgateError | undefined;
  /** Requests that wait for their turn: the gateway takes so many a second. */
  readonly #waiting: Request[] = [];
  readonly #asked = new Map<number, Request>();
  #allowance = 0;
  #allowanceMs = 0;
  #sendTimer: ReturnType<typeof setTimeout> | undefined;
  #watchTimer: ReturnType<typeof setInterval> | undefined;
  #connectTimer: ReturnType<typeof setTimeout> | undefined;
  readonly #asking = new AbortController();

  constructor(options: SessionOptions, owner: SessionOwner) {
    this.#options = options;
    this.#owner = owner;
    const late = new TickgateError("timeout", `no session within ${options.connectMs} ms`);
    this.#connectTimer = setTimeout(() => this.#end({ code: 1006, reason: "too late", error: late }), options.connectMs);
    // Its owner has to know it first.
    queueMicrotask(() => void this.#open());
  }

  get hello(): Hello | undefined {
    return this.#hello;
  }

  get isReady(): boolean {
    return this.#isReady;
  }

  /** Whether every request has been answered. */
  get isSettled(): boolean {
    return this.#waiting.length === 0 && this.#asked.size === 0;
  }

  /**
   * Sends a request. `answered` is called within the message that answers it, before anything behind that is looked at; `failed` when
   * no answer can come.
   *
   * @returns Its number, which the answer repeats.
   */
  request(body: Record<string, unknown>, answered: (answer: Answer) => void, failed: (error: TickgateError) => void): number {
    const id = this.#nextId++;
    if (this.#isEnded) {
      failed(new TickgateError("connection_lost", "the session has ended"));
    } else if (this.#waiting.length + this.#asked.size >= REQUESTS_MAX) {
      failed(new TickgateError("requests_max", `${REQUESTS_MAX} requests wait for their answers`));
    } else {
      this.#waiting.push({ body, id, answered, failed, sentMs: 0 });
      this.#sendSome();
    }
    return id;
  }

  /** The symbol or pattern that a request is about which waits for its answer, if it is about one. */
  symbolOf(id: number | string | undefined): string | undefined {
    const subscriptions = typeof id === "number" ? this.#asked.get(id)?.body.subscriptions : undefined;
    const symbols = Array.isArray(subscriptions) ? subscriptions.flatMap(({ symbols }: WireSubscription) => symbols) : [];
    return symbols.length === 1 ? symbols[0] : undefined;
  }

  /** Stops or goes on reading, where the socket can do that; says whether it can. */
  setReading(isReading: boolean): boolean {
    const socket = this.#socket;
    if (socket?.pause === undefined || socket.resume === undefined) return false;
    if (isReading) socket.resume();
    else socket.pause();
    this.#isReading = isReading;
    this.#lastMs = performance.now();
    for (const request of this.#asked.values()) this.#awaitAnswer(request);
    return true;
  }

  /** Ends it. `onEnd` is called at once. */
  close(reason: string): void {
    this.#end({ code: 1000, reason });
  }

  async #open(): Promise<void> {
    const { url, WebSocket, token, tokenVia } = this.#options;
    let shown: string | undefined;
    try {
      if (this.#isEnded) return;
      if (token !== undefined && tokenVia !== "message") shown = await token();
      if (this.#isEnded) return;
      this.#socket = openSocket(url, WebSocket, shown, tokenVia);
    } catch (cause) {
      const error = cause instanceof TickgateError ? cause : tokenFailed(cause);
      return this.#end({ code: 1006, reason: error.message, error });
    }
    const socket = this.#socket;
    socket.binaryType = "arraybuffer";
    let refused: number | undefined;
    let said: string | undefined;
    let isOpen = false;
    const closed = (code: number, reason: string): void => this.#closed(code, reason, refused, said);
    socket.addEventListener("open", () => (isOpen = true));
    socket.addEventListener("error", ({ message, error }) => {
      said ??= message || (typeof error?.code === "string" ? error.code : undefined);
      refused ??= refusedWith(message);
      // Node's own, in version 22, says no more of a socket that could not be opened.
      if (!isOpen) setTimeout(() => closed(1006, ""), 0);
    });
    socket.addEventListener("close", ({ code, reason }) => closed(code, reason));
    socket.addEventListener("message", ({ data }) => this.#received(data));
    this.#lastMs = performance.now();
  }

  #closed(code: number, reason: string, refused: number | undefined, said: string | undefined): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (this.#hello === undefined && this.#fatal === undefined) return void this.#refused(code, reason, refused, said);
    const ending: Ending = { code, reason };
    if (this.#fatal !== undefined) {
      ending.error = this.#fatal;
      ending.wasTold = true;
    }
    this.#end(ending);
  }

  /** There was no greeting. A path that is wrong at first is wrong for good; one that was right before comes back, as behind a proxy that knows of no gateway for a while. */
  async #refused(code: number, reason: string, refused: number | undefined, said: string | undefined): Promise<void> {
    const { isFirst, url } = this.#options;
    let found: Found = {};
    // Such as ECONNREFUSED: there is nobody to ask.
    const isToldAll = refused === undefined ? /\bE[A-Z]{4,}/.test(said ?? "") : refused !== NOT_FOUND;
    if (isFirst && !isToldAll) found = await probe(url, this.#asking);
    if (this.#isEnded) return;
    const { status, text } = found;
    let why = refused === undefined ? said?.replace(/\.$/, "") || reason || "no connection" : `the handshake was refused with ${refused}`;
    if (refused === undefined && status === undefined) why = plainly(url, text ?? why);
    else if (refused === undefined) why += `; a plain request is answered with ${status}`;
    if (status !== undefined && text !== undefined) why += `: ${text}`;
    const isNowhere = isFirst && (refused ?? status) === NOT_FOUND;
    this.#end({ code, reason, error: new TickgateError(isNowhere ? "bad_url" : codeOfStatus(refused), why) });
  }

  #received(data: unknown): void {
    if (this.#isEnded) return;
    this.#lastMs = performance.now();
    this.#lastChars = typeof data === "string" ? data.length : 0;
    if (this.#isSilent) {
      this.#isSilent = false;
      this.#owner.onSilence(false);
    }
    let message: Message;
    try {
      if (typeof data !== "string") throw new BadFrame("a binary message");
      message = decode(data);
    } catch (error) {
      if (!(error instanceof BadFrame)) throw error;
      return this.#owner.onBadFrame(error);
    }
    const chars = (data as string).length;
    if (message.kind === "events") return this.#owner.onMessage(message, chars);
    const { control } = message;
    if (control.op === "hello") return this.#greeted(control);
    if (control.op === "heartbeat") this.#beatMs = Number(control.now_ns) / 1e6 - this.#aheadMs;
    if (control.op === "error" && control.fatal) {
      this.#fatal = new TickgateError(control.code, control.message, { retryAfterMs: control.retry_after_ms });
    }
    const answers = control.op === "ack" || control.op === "error" || control.op === "pong" || control.op === "list";
    const request = answers && typeof control.id === "number" ? this.#asked.get(control.id) : undefined;
    this.#owner.onMessage(message, chars);
    if (request !== undefined && answers) {
      this.#asked.delete(request.id);
      clearTimeout(request.timer);
      if (control.op === "ack" && control.ok) this.#bytesPerS = rateOf(request.body) ?? this.#bytesPerS;
      request.answered(control);
    }
  }

  #greeted(hello: Hello): void {
    if (this.#hello !== undefined) return this.#owner.onBadFrame(new BadFrame("a second hello"));
    if (hello.protocol !== 1) {
      const error = new TickgateError("bad_frame", `the gateway speaks version ${hello.protocol} of the protocol`);
      return this.#end({ code: 1000, reason: error.message, error });
    }
    this.#hello = hello;
    this.#aheadMs = Number(hello.now_ns) / 1e6 - performance.now();
    this.#allowance = allowanceOf(hello);
    this.#allowanceMs = performance.now();
    this.#watch(hello.heartbeat_ms);
    if (hello.auth === "required") void this.#authenticate();
    else this.#ready();
  }

  async #authenticate(): Promise<void> {
    const { token } = this.#options;
    if (token === undefined) {
      const error = new TickgateError("unauthenticated", "the gateway asks for a token, and there is none");
      return this.#end({ code: 4401, reason: error.message, error });
    }
    const failed = (cause: unknown): void => {
      const error = cause instanceof TickgateError ? cause : tokenFailed(cause);
      this.#end({ code: 1006, reason: error.message, error });
    };
    try {
      const shown = await token();
      if (this.#isEnded) return;
      // An error is fatal here: the gateway closes.
      const answered = (answer: Answer): void => (answer.op === "ack" ? this.#ready() : undefined);
      this.#send({ body: { op: "auth", token: shown }, id: this.#nextId++, answered, failed, sentMs: 0 });
    } catch (cause) {
      failed(cause);
    }
  }

  #ready(): void {
    if (this.#isEnded || this.#hello === undefined) return;
    clearTimeout(this.#connectTimer);
    this.#isReady = true;
    this.#owner.onReady(this.#hello);
    this.#sendSome();
  }

  #sendSome(): void {
    if (!this.#isReady || this.#sendTimer !== undefined || this.#waiting.length === 0) return;
    const perS = Math.max(1, this.#hello?.limits.requests_per_s ?? 1);
    const most = allowanceOf(this.#hello);
    const nowMs = performance.now();
    this.#allowance = Math.min(most, this.#allowance + ((nowMs - this.#allowanceMs) / 1_000) * perS);
    this.#allowanceMs = nowMs;
    while (this.#allowance >= 1) {
      const request = this.#waiting.shift();
      if (request === undefined) return;
      this.#allowance--;
      this.#send(request);
    }
    if (this.#waiting.length === 0) return;
    const waitMs = Math.ceil(((1 - this.#allowance) / perS) * 1_000) + 1;
    this.#sendTimer = setTimeout(() => {
      this.#sendTimer = undefined;
      this.#sendSome();
    }, waitMs);
  }

  #send(request: Request): void {
    this.#asked.set(request.id, request);
    request.sentMs = performance.now();
    this.#awaitAnswer(request);
    try {
      this.#socket?.send(JSON.stringify({ ...request.body, id: request.id }));
    } catch {
      // A socket that closes says so by itself.
    }
  }

  /** From now on: who does not read does not hear answers either. */
  #awaitAnswer(request: Request): void {
    clearTimeout(request.timer);
    if (this.#isReading) request.timer = setTimeout(() => this.#miss(request), ANSWER_MS);
  }

  /**
   * There is no answer yet. It comes in order with the data: while that comes, the answer is on its way, unless a heartbeat that was made later, as long
   * as an answer may take, came before it.
   */
  #miss(request: Request): void {
    const nowMs = performance.now();
    const waitMs = Math.max(request.sentMs, this.#lastMs) + ANSWER_MS + this.#heldBackMs(FRAME_BYTES) - nowMs;
    if (waitMs > 0 && this.#beatMs - request.sentMs < ANSWER_MS) {
      request.timer = setTimeout(() => this.#miss(request), Math.ceil(waitMs));
      return;
    }
    // What became of it nobody knows: in another session all is asked again.
    const error = new TickgateError("timeout", `no answer within ${Math.round(nowMs - request.sentMs)} ms`);
    this.#end({ code: 1006, reason: error.message, error });
  }

  /**
   * How long nothing may come because of the rate that was asked for. The gateway writes a second's worth at the most, or one message that is larger: that is
   * the last one then, and nothing is behind it until it is paid for.
   */
  #heldBackMs(bytesMin: number): number {
    let bytesPerS = this.#bytesPerS;
    // It may count already though its answer is on its way.
    for (const { body } of this.#asked.values()) bytesPerS = Math.min(bytesPerS, rateOf(body) ?? Infinity);
    return bytesPerS === Infinity ? 0 : (Math.max(this.#lastChars, bytesMin) / bytesPerS + 1) * 1_000;
  }

  /** Looks whether anything comes: heartbeats come in order with the data, so one timer is enough. */
  #watch(heartbeatMs: number): void {
    clearInterval(this.#watchTimer);
    if (heartbeatMs === 0) return;
    const silentMs = 2 * heartbeatMs + 1_000;
    this.#watchTimer = setInterval(() => {
      // Who does not read does not hear heartbeats.
      if (!this.#isReading) return;
      const pastMs = performance.now() - this.#lastMs;
      if (pastMs > 2 * silentMs + this.#heldBackMs(FRAME_BYTES)) {
        this.#end({ code: 1006, reason: `nothing came for ${Math.round(pastMs)} ms` });
      } else if (pastMs > silentMs + this.#heldBackMs(0) && !this.#isSilent) {
        this.#isSilent = true;
        this.#owner.onSilence(true);
      }
    }, Math.max(50, heartbeatMs / 4));
  }

  /** The gateway was told another interval. */
  heartbeatEvery(heartbeatMs: number): void {
    if (!this.#isEnded) this.#watch(heartbeatMs);
  }

  #end(ending: Ending): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#isReady = false;
    this.#asking.abort();
    clearTimeout(this.#connectTimer);
    clearTimeout(this.#sendTimer);
    clearInterval(this.#watchTimer);
    if (this.#socket !== undefined) {
      // A socket that does not read would never see the other side close.
      this.#socket.resume?.();
      if (ending.code === 1006 && this.#socket.terminate !== undefined) this.#socket.terminate();
      else if (this.#socket.readyState < 2) this.#socket.close(1000, ending.reason.slice(0, 30));
    }
    const lost = new TickgateError("connection_lost", `the session ended: ${ending.code} ${ending.reason}`);
    const open = [...this.#asked.values(), ...this.#waiting];
    this.#asked.clear();
    this.#waiting.length = 0;
    this.#owner.onEnd(ending);
    for (const request of open) {
      clearTimeout(request.timer);
      request.failed(ending.error ?? lost);
    }
  }
}

/** Requests that may go at once: less than the gateway takes in a second, as it counts them when they come, of which some are longer on their way. */
function allowanceOf(hello: Hello | undefined): number {
  return Math.max(1, 0.8 * (hello?.limits.requests_per_s ?? 1));
}

function tokenFailed(cause: unknown): TickgateError {
  return new TickgateError("unauthenticated", "the token function failed", { cause });
}

/** The bytes a second that a request asks for. */
function rateOf({ max_bytes_per_s }: Record<string, unknown>): number | undefined {
  return typeof max_bytes_per_s !== "number" ? undefined : max_bytes_per_s > 0 ? max_bytes_per_s : Infinity;
}
