/** A live stream of one gateway, or of one of several: connected, resumed and checked. */

import { Backoff } from "./backoff.js";
import type { BookKeeper } from "./book.js";
import type { Control, ControlError, FeedStatus, Heartbeat, Limits, ListEntry } from "./control.js";
import type { BadFrame, Message } from "./decode.js";
import { errorOf, hintOf, TickgateError, withHint } from "./errors.js";
import type { AckResult, Channel, ErrorEvent, MarketEvent, State, StateEvent, TickgateEvent } from "./events.js";
import { beginsInPast, Held, isPast, parts, type SubscribeOptions, wire } from "./held.js";
import { Latency, Skew } from "./latency.js";
import { Mending } from "./mending.js";
import type { ConnectOptions, Settings } from "./options.js";
import { EventQueue } from "./queue.js";
import { iterate, Reader } from "./reader.js";
import { Recovery } from "./recovery.js";
import { Replay, type ReplayOptions } from "./replay.js";
import { type Answer, type Ending, Session } from "./session.js";
import { checkUrl, socketOf } from "./socket.js";
import { latencyStats, type Stats, worstOf } from "./stats.js";
import { Streams } from "./streams.js";
import { nowNs } from "./time.js";

/** Most requests that wait for a session. */
const WAITING_MAX = 1_024;
/** How often a session is asked for its clock when it begins: the quickest of a few round trips says more than any one of them. */
const TRIPS_AT_FIRST = 5;
/** Errors behind which the same attempt would fail again. */
const FINAL = new Set(["unauthenticated", "forbidden", "bad_request", "token_expired", "no_websocket", "bad_option", "bad_url"]);
/** Of these, the errors that another token may mend. */
const OF_TOKEN = new Set(["unauthenticated", "token_expired"]);
const FINAL_CODES = new Map([
  [4400, "bad_request"],
  [4401, "unauthenticated"],
  [4403, "forbidden"],
  [4498, "token_expired"],
]);

interface Waiting {
  op: "subscribe" | "unsubscribe";
  channel: Channel;
  symbols: string[];
  options: SubscribeOptions;
  resolve: (results: AckResult[]) => void;
  reject: (error: TickgateError) => void;
}

/**
 * A live stream. It connects by itself, comes back when the connection is lost, and goes on where it stopped. Everything that it
 * hands out, gaps and its own state included, comes in order: to `for await`, in `batches`, or to listeners (`onEvent`).
 */
export class Live implements AsyncIterable<TickgateEvent> {
  readonly #urls: string[];
  readonly #options: ConnectOptions;
  readonly #backoff: Backoff;
  /** Of this session, by the clock that only goes forward. */
  #liveSinceMs: number | undefined;
  readonly #queue: EventQueue;
  readonly #reader: Reader;
  readonly #streams: Streams;
  readonly #recovery: Recovery;
  readonly #listeners = new Set<(event: TickgateEvent) => void>();
  readonly #latency = new Latency();
  readonly #skew = new Skew();
  #session: Session | undefined;
  #state: State = "connecting";
  #turn = 0;
  /** Addresses where there is no stream, of those that never gave a session. */
  readonly #wrongUrls = new Set<string>();
  #waiting: Waiting[] = [];
  /** Requests of the beginning of a session that are not answered: it is live when they are. */
  #opening = 0;
  readonly #mending: Mending;
  #cursor: string | undefined;
  #hasRefusedToken = false;
  #isReading = false;
  #isPaused = false;
  #feeds: FeedStatus[] = [];
  #feedState: Stats["feedState"] = "unknown";
  #heartbeat: Heartbeat | undefined;
  #sessions = 0;
  #counts = { messages: 0, chars: 0, badFrames: 0, slow: 0 };
  #retryTimer: ReturnType<typeof setTimeout> | undefined;
  #clockTimer: ReturnType<typeof setInterval> | undefined;

  constructor(url: string | readonly string[], options: ConnectOptions = {}) {
    const urls = typeof url === "string" ? [url] : [...url];
    if (urls.length === 0) throw new TickgateError("bad_url", "no address");
    this.#urls = urls.map(checkUrl);
    socketOf(options.WebSocket);
    this.#options = options;
    this.#backoff = new Backoff(options.backoff);
    const held = new Held();
    this.#streams = new Streams(
      {
        handOut: (event, chars) => this.#emit(event, chars),
        bookBroke: (symbol) => this.#mending.broke(symbol),
        bookIsWhole: (symbol) => this.#mending.isWhole(symbol),
        isLive: (channel, symbol) => this.#recovery.live(channel, symbol),
        booksFull: (symbol) => this.#fail("books_max", "there are too many books: this one is not kept", { symbol }),
      },
      held,
      options.booksMax ?? 5_000,
    );
    this.#recovery = new Recovery(held, this.#streams, this.#backoff, {
      onLost: (result) => this.#lost(result),
      onNoReplay: (channel, symbol) => this.#emit({ type: "replay_done", channel, symbol }),
      onProgress: () => this.#maybeLive(),
    });
    this.#mending = new Mending(held, this.#streams, {
      session: () => (this.#session?.isReady ? this.#session : undefined),
      tell: (error) => this.#emit(error),
      onLost: (result) => this.#lost(result),
    });
    this.#queue = new EventQueue(options.queue ?? {}, (symbol, merged) => this.#streams.snapshotOf(symbol, merged));
    this.#reader = new Reader(this.#queue, () => this.#taken());
    // Who made it may listen from the first event on.
    queueMicrotask(() => {
      if (this.#state !== "connecting") return;
      this.#emit({ type: "state", state: "connecting" });
      this.#connect();
    });
  }

  /** State of the connection. */
  get state(): State {
    return this.#state;
  }

  /** What the session may do; `undefined` without one. */
  get limits(): Limits | undefined {
    return this.#session?.hello?.limits;
  }

  /**
   * Where a client goes on, of this process or another, that has what was taken so far: option `cursor` of {@link subscribe}. It holds for what
   * was acknowledged before it came, and may be a little behind. `undefined` as long as the gateway has given none.
   */
  get cursor(): string | undefined {
    this.#noteCursor();
    return this.#cursor;
  }

  /**
   * Subscribes to symbols and patterns of a channel. It may be called at once: it waits for the session, and is kept over the next ones.
   *
   * @returns What became of each symbol; a refusal of one is in its result and no error.
   * @throws {@link TickgateError} (as a rejection) when the request as a whole was refused or the client is closed. It is an event as well.
   */
  subscribe(channel: Channel, symbols: string | readonly string[], options: SubscribeOptions = {}): Promise<AckResult[]> {
    return this.#ask("subscribe", channel, symbols, options);
  }

  /** Ends subscriptions to symbols and patterns of a channel. */
  unsubscribe(channel: Channel, symbols: string | readonly string[]): Promise<AckResult[]> {
    return this.#ask("unsubscribe", channel, symbols, {});
  }

  /** The subscriptions that the gateway holds for this session. */
  list(): Promise<ListEntry[]> {
    return new Promise((resolve, reject) => {
      if (!this.#session?.isReady) return reject(new TickgateError("connection_lost", "there is no session at present"));
      const answered = (answer: Answer): void => {
        if (answer.op === "error") reject(errorOf(answer));
        else resolve(answer.op === "list" ? answer.subscriptions : []);
      };
      this.#session.request({ op: "list" }, answered, reject);
    });
  }

  /** Changes settings, of this session and of the next ones. */
  set(settings: Settings): void {
    Object.assign(this.#options, settings);
    if (this.#session?.isReady) this.#sendSettings(this.#session, settings);
  }

  /** Calls `listener` with every event, as it comes. While there is one, and nobody iterates, nothing is queued. Gives what ends it. */
  onEvent(listener: (event: TickgateEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Events one by one. Of several iterators each event goes to one. Ends with `close`; throws where the client cannot go on. */
  [Symbol.asyncIterator](): AsyncIterableIterator<TickgateEvent> {
    this.#isReading = true;
    return iterate(() => this.#reader.next());
  }

  /** Events in arrays: all that came since the last one, as soon as there is one and `maxWaitMs` (default 0) have passed. */
  batches({ maxWaitMs = 0, eventsMax = 10_000 }: { maxWaitMs?: number; eventsMax?: number } = {}): AsyncIterableIterator<TickgateEvent[]> {
    this.#isReading = true;
    return iterate(() => this.#reader.batch(maxWaitMs, eventsMax));
  }

  /** The book of a symbol that is subscribed to on channel `book`: as received, which may be ahead of what was taken. */
  book(symbol: string): BookKeeper {
    const book = this.#streams.book(symbol);
    if (book === undefined) throw new TickgateError("books_max", "there are too many books", { symbol });
    return book;
  }

  /** The past alone, in a session of its own, which ends with it. When that is broken off it goes on, and brings nothing twice. */
  replay(options: ReplayOptions): Replay {
    return new Replay(this.#urls, this.#options, options);
  }

  /** How it is doing. */
  stats(): Stats {
    const best = this.#skew.best;
    const stats: Stats = {
      state: this.#state,
      ...this.#counts,
      ...this.#streams.counts,
      queueConflated: this.#queue.conflated,
      queueDropped: this.#queue.dropped,
      queued: this.#queue.length,
      sessions: this.#sessions,
      reconnects: Math.max(0, this.#sessions - 1),
      skew_ns: Math.round(best.skewNs),
      roundTrip_ns: Math.round(best.roundTripNs),
      latency: latencyStats(this.#latency.all),
      latencyRecent: latencyStats(this.#latency.recent(performance.now())),
      gatewayQueued_bytes: this.#heartbeat?.queued_bytes ?? 0,
      gatewayDelay_ms: this.#heartbeat?.delay_ms ?? 0,
      feedState: this.#feedState,
      feeds: this.#feeds,
    };
    const session = this.#session?.hello?.session;
    if (session !== undefined) stats.session = session;
    return stats;
  }

  /**
   * Asks again for a part of the past that was broken off: what came of it is known by its position, and not handed out again.
   *
   * @internal
   */
  playOn(channel: Channel, symbols: readonly string[], options: SubscribeOptions): Promise<AckResult[]> {
    for (const symbol of symbols) this.#streams.resumed(channel, symbol, true);
    return this.#ask("subscribe", channel, symbols, options);
  }

  /** Ends it because of an error, which iterators throw at their end. @internal */
  fail(error: TickgateError): void {
    this.#shut(error.message, error);
  }

  /** Ends it: iterators give what was received, and end. */
  close(): void {
    this.#shut("closed by the client");
  }

  #ask(op: Waiting["op"], channel: Channel, symbols: string | readonly string[], options: SubscribeOptions): Promise<AckResult[]> {
    const all = parts(typeof symbols === "string" ? [symbols] : symbols).map((part) => {
      const answer = new Promise<AckResult[]>((resolve, reject) => {
        if (this.#state === "closed") return reject(new TickgateError("closed", "the client is closed"));
        if (this.#waiting.length >= WAITING_MAX) return reject(new TickgateError("requests_max", `${WAITING_MAX} requests wait`));
        const waiting: Waiting = { op, channel, symbols: part, options, resolve, reject };
        // What is given up is not waited for any more.
        if (this.#session?.isReady) this.#send(this.#session, waiting, () => this.#maybeLive());
        else this.#waiting.push(waiting);
      });
      // Who does not wait for the answer sees its event: nobody's process is to end of that.
      answer.catch(() => undefined);
      return answer;
    });
    const whole = Promise.all(all).then((results) => results.flat());
    whole.catch(() => undefined);
    return whole;
  }

  #send(session: Session, waiting: Waiting, settled: () => void): void {
    const { op, channel, symbols, options } = waiting;
    const answered = (answer: Answer): void => {
      if (answer.op === "error") {
        waiting.reject(errorOf(answer, symbols.length === 1 ? symbols[0] : undefined));
      } else if (answer.op === "ack") {
        const results = (answer.results ?? []).map(withHint);
        for (const result of results) this.#noteAck(op, result, options);
        this.#emit({ type: "ack", ok: answer.ok, results });
        waiting.resolve(results);
      }
      settled();
    };
    const failed = (error: TickgateError): void => {
      // Nobody knows whether it was done: the next session is asked again.
      const mayComeAgain = this.#state !== "closed" && this.#options.reconnect !== false && error.code !== "requests_max";
      if (mayComeAgain && this.#session !== session && this.#waiting.length < WAITING_MAX) this.#waiting.push(waiting);
      else waiting.reject(error);
      settled();
    };
    if (channel === "book") this.#mending.giveWay(symbols);
    const { cursor } = options;
    session.request({ op, subscriptions: [wire(channel, symbols, options)], ...(cursor === undefined ? {} : { cursor }) }, answered, failed);
  }

  #noteAck(op: Waiting["op"], { channel, symbol, ok }: AckResult, options: SubscribeOptions): void {
    // What waits to be asked for again is given up, though the gateway says that it was not subscribed to.
    if (!ok && !(op === "unsubscribe" && channel === "book" && this.#mending.isWaiting(symbol))) return;
    if (op === "subscribe" && isPast(options)) {
      this.#recovery.forget(channel, symbol);
    } else if (op === "subscribe") {
      this.#recovery.held.add(channel, symbol, options);
      if (beginsInPast(options)) this.#streams.begun(channel, symbol);
      else this.#streams.subscribed(channel, symbol, true);
    } else {
      this.#streams.unsubscribed(channel, symbol, this.#recovery.forget(channel, symbol));
    }
  }

  #connect(): void {
    const { token, tokenVia = "message", connectTimeoutMs = 10_000, WebSocket } = this.#options;
    const url = this.#urls[this.#turn % this.#urls.length] as string;
    const session: Session = new Session(
      {
        url,
        WebSocket,
        token: token === undefined ? undefined : async () => (typeof token === "function" ? await token() : token),
        tokenVia,
        connectMs: connectTimeoutMs,
        isFirst: this.#sessions === 0,
      },
      {
        onReady: () => this.#ready(session),
        onMessage: (message, chars) => this.#received(message, chars),
        onBadFrame: (error) => this.#badFrame(error),
        onSilence: (isSilent) => this.#silence(isSilent),
        onEnd: (ending) => this.#ended(ending, url),
      },
    );
    this.#session = session;
  }

  #ready(session: Session): void {
    this.#sessions++;
    this.#wrongUrls.clear();
    this.#skew.clear();
    this.#opening = 0;
    this.#sendSettings(session, this.#options);
    this.#askClock(session, TRIPS_AT_FIRST);
    const { clockMs = 10_000 } = this.#options;
    if (clockMs > 0) this.#clockTimer = setInterval(() => this.#askClock(session, 1), clockMs);
    if (this.#recovery.held.size > 0) {
      this.#setState("resyncing");
      this.#recovery.begin(session);
    }
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const one of waiting) {
      this.#opening++;
      this.#send(session, one, () => this.#opened());
    }
    this.#opening++;
    this.#opened();
  }

  /** One of the first requests of a session is settled. */
  #opened(): void {
    this.#opening--;
    this.#maybeLive();
  }

  #maybeLive(): void {
    if (this.#opening > 0 || !this.#recovery.isDone || !this.#session?.isReady) return;
    if (this.#state === "live" || this.#state === "closed") return;
    this.#liveSinceMs ??= performance.now();
    this.#hasRefusedToken = false;
    this.#setState("live");
    this.#mending.sessionIsLive();
  }

  /** A subscription has ended by the gateway's word. */
  #lost({ channel, symbol, code, message }: AckResult): void {
    this.#streams.unsubscribed(channel, symbol, this.#recovery.forget(channel, symbol));
    this.#fail(code ?? "forbidden", `${channel} ${symbol}: ${message ?? "the subscription has ended"}`, { symbol });
    this.#maybeLive();
  }

  #sendSettings(session: Session, { heartbeatMs, maxBytesPerS, flushMs }: Settings): void {
    if (heartbeatMs === undefined && maxBytesPerS === undefined && flushMs === undefined) return;
    const settings: Record<string, unknown> = { op: "set" };
    if (heartbeatMs !== undefined) settings.heartbeat_ms = heartbeatMs;
    if (maxBytesPerS !== undefined) settings.max_bytes_per_s = maxBytesPerS;
    if (flushMs !== undefined) settings.flush_ms = flushMs;
    const answered = (answer: Answer): void => {
      if (answer.op === "ack" && answer.ok && heartbeatMs !== undefined) session.heartbeatEvery(heartbeatMs);
    };
    session.request(settings, answered, () => undefined);
  }

  /** Asks for the gateway's clock so many times, one after the other. */
  #askClock(session: Session, times: number): void {
    if (this.#options.clockMs === 0 || times === 0) return;
    const sentNs = nowNs();
    const answered = (answer: Answer): void => {
      if (answer.op !== "pong") return;
      this.#skew.trip(sentNs, nowNs(), Number(answer.now_ns));
      this.#askClock(session, times - 1);
    };
    session.request({ op: "ping" }, answered, () => undefined);
  }

  #received(message: Message, chars: number): void {
    this.#counts.messages++;
    this.#counts.chars += chars;
    if (message.kind === "control") return this.#control(message.control);
    const { events } = message;
    this.#clockEvents(events as readonly MarketEvent[]);
    this.#streams.frame(events, chars);
  }

  /** Takes the latencies of a frame, before anything else takes time. */
  #clockEvents(events: readonly MarketEvent[]): void {
    // By a clock that nobody has compared yet they would be anything.
    if (!this.#skew.isKnown && this.#options.clockMs !== 0) return;
    const nowMs = performance.now();
    const gatewayNs = nowNs() + this.#skew.best.skewNs;
    const { held } = this.#recovery;
    const [quotes, books] = [held.isConflated("quotes"), held.isConflated("book")];
    for (const event of events) {
      if (event.ingest_ns === undefined || event.replay || event.snapshot) continue;
      if ((quotes && event.type === "quote") || (books && event.type === "book")) continue;
      this.#latency.record(gatewayNs - Number(event.ingest_ns), nowMs);
    }
  }

  #control(control: Control): void {
    switch (control.op) {
      case "error":
        return this.#serverError(control);
      case "heartbeat":
        this.#heartbeat = control;
        this.#recovery.keepCursor(control.cursor);
        return this.#noteFeeds(control.feeds);
      case "goaway":
        this.#recovery.keepCursor(control.cursor);
        return this.#emit({ type: "goaway", reason: control.reason, close_in_ms: control.close_in_ms });
      case "slow": {
        const { op: _, ...slow } = control;
        this.#counts.slow++;
        return this.#emit({ type: "slow", ...slow });
      }
      case "replay_done":
        return this.#replayDone(control.channel, control.symbol, control.seq ?? undefined);
      default:
        return; // an answer: who asked is told
    }
  }

  #noteFeeds(feeds: FeedStatus[]): void {
    const before = this.#feeds;
    this.#feeds = feeds;
    this.#feedState = worstOf(feeds);
    for (const { name, state, lag_records, event_ns } of feeds) {
      if (before.find((feed) => feed.name === name)?.state === state) continue;
      this.#emit({ type: "feed", name, state, lag_records, ...(event_ns === undefined ? {} : { event_ns: BigInt(event_ns) }) });
    }
  }

  #replayDone(channel: Channel, symbol: string, seq: string | undefined): void {
    const tell = (): void => this.#emit({ type: "replay_done", channel, symbol, ...(seq === undefined ? {} : { seq }) });
    this.#recovery.replayDone(channel, symbol, tell);
  }

  #serverError(error: ControlError): void {
    this.#recovery.keepCursor(error.cursor);
    const { code, message, fatal, retry_after_ms } = error;
    const event: ErrorEvent = { type: "error", code, message, hint: hintOf(code), fatal };
    if (retry_after_ms !== undefined) event.retry_after_ms = retry_after_ms;
    const symbol = this.#session?.symbolOf(error.id);
    if (symbol !== undefined) event.symbol = symbol;
    this.#emit(event);
    if (code === "replay_aged_out" && error.id !== undefined) this.#recovery.agedOut(error.id);
    if (code === "token_expiring" && typeof this.#options.token === "function") void this.#authenticate();
  }

  /** Shows another token before the present one is over. Where that fails, the session ends with it, and the next one has another. */
  async #authenticate(): Promise<void> {
    const { token } = this.#options;
    const session = this.#session;
    try {
      const shown = typeof token === "function" ? await token() : token;
      if (session === undefined || this.#session !== session) return;
      const answered = (answer: Answer): void => {
        this.#emit({ type: "auth", ok: answer.op === "ack" && answer.ok });
        for (const result of answer.op === "ack" ? (answer.results ?? []) : []) if (!result.ok) this.#lost(result);
      };
      session.request({ op: "auth", token: shown }, answered, () => undefined);
    } catch {
      this.#fail("unauthenticated", "the token function failed: the present token still counts");
    }
  }

  #badFrame({ message, symbol }: BadFrame): void {
    this.#counts.badFrames++;
    this.#fail("bad_frame", message, symbol === undefined ? {} : { symbol });
  }

  #fail(code: string, message: string, more: Partial<ErrorEvent> = {}): void {
    this.#emit({ type: "error", code, message, hint: hintOf(code), fatal: false, ...more });
  }

  #silence(isSilent: boolean): void {
    if (isSilent && this.#state === "live") this.#setState("stale", { reason: "nothing came for two heartbeats" });
    else if (!isSilent && this.#state === "stale") this.#setState("live");
  }

  #ended(ending: Ending, url: string): void {
    clearInterval(this.#clockTimer);
    this.#session = undefined;
    // The next gateway may have other feeds, and says how they are with its first heartbeat.
    this.#feedState = "unknown";
    this.#mending.sessionEnded();
    // It was this session that was not read.
    this.#isPaused = false;
    if (this.#state === "closed") return;
    const code = ending.error?.code ?? FINAL_CODES.get(ending.code);
    const isRefusedToken = code !== undefined && OF_TOKEN.has(code);
    // A function may have a better token, once.
    const mayHaveOther = isRefusedToken && typeof this.#options.token === "function" && !this.#hasRefusedToken;
    if (code === "unauthenticated") this.#hasRefusedToken = true;
    if (code === "bad_url") this.#wrongUrls.add(url);
    const isOneOfMany = code === "bad_url" && this.#wrongUrls.size < new Set(this.#urls).size;
    // Whoever does not want to come back still wants to get in: each address is tried once.
    const hasNext = this.#sessions === 0 && this.#turn + 1 < this.#urls.length;
    const isFinal = (this.#options.reconnect === false && !hasNext) || (code !== undefined && FINAL.has(code) && !mayHaveOther && !isOneOfMany);
    const error = ending.error ?? new TickgateError(code ?? "connection_lost", `the session ended: ${ending.code} ${ending.reason}`);
    // Of what is tried again the state says why.
    if (code !== undefined && !ending.wasTold && (isFinal || FINAL.has(code))) this.#fail(code, error.message, { fatal: isFinal || !isOneOfMany });
    if (isFinal) return this.#shut(error.message, error);
    this.#turn++;
    if (this.#liveSinceMs !== undefined) this.#backoff.lived(performance.now() - this.#liveSinceMs);
    this.#liveSinceMs = undefined;
    const waitMs = this.#backoff.next(ending.error?.retryAfterMs);
    this.#setState("reconnecting", { attempt: this.#backoff.attempts, wait_ms: Math.round(waitMs), reason: error.message, hint: error.hint });
    this.#retryTimer = setTimeout(() => this.#connect(), waitMs);
  }

  #shut(reason: string, error?: TickgateError): void {
    if (this.#state === "closed") return;
    this.#setState("closed", { reason });
    clearTimeout(this.#retryTimer);
    clearInterval(this.#clockTimer);
    this.#mending.close();
    const waiting = this.#waiting;
    this.#waiting = [];
    this.#session?.close(reason);
    this.#session = undefined;
    for (const one of waiting) one.reject(error ?? new TickgateError("closed", reason));
    this.#reader.end(error);
  }

  #setState(state: State, more: Omit<StateEvent, "type" | "state"> = {}): void {
    this.#state = state;
    this.#emit({ type: "state", state, ...more });
  }

  #emit(event: TickgateEvent, chars = 0): void {
    for (const listener of this.#listeners) {
      try {
        listener(event);
      } catch (error) {
        // It is the listener's fault, and must not cost the others their events.
        setTimeout(() => {
          throw error;
        }, 0);
      }
    }
    if (this.#listeners.size > 0 && !this.#isReading) return;
    this.#queue.push(event, chars);
    if (this.#options.queue?.onFull === "pause" && !this.#isPaused && this.#queue.isHalfFull) {
      this.#isPaused = this.#session?.setReading(false) ?? false;
    }
    this.#reader.added();
  }

  /** A cursor is of what was received: it is given when all of that was taken. */
  #noteCursor(): void {
    if (this.#queue.length === 0) this.#cursor = this.#recovery.cursor;
  }

  #taken(): void {
    this.#noteCursor();
    if (!this.#isPaused || this.#queue.isHalfFull) return;
    this.#isPaused = false;
    this.#session?.setReading(true);
  }
}

/**
 * Connects to a gateway, `ws://host:port/v1/stream` (without a path it is that one), or to one of several that read the same topics. It gives
 * a client at once, which connects by itself; its state comes as events.
 *
 * @throws {@link TickgateError} `bad_url` for an address that is none, or has something like a token in it; `no_websocket` where the runtime has
 * none and none was passed.
 */
export function connect(url: string | readonly string[], options: ConnectOptions = {}): Live {
  return new Live(url, options);
}
