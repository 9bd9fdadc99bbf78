/** How a session goes on where the one before it ended: from a cursor, or from the last positions. */

import type { Backoff } from "./backoff.js";
import type { ControlError } from "./control.js";
import type { AckResult, Channel } from "./events.js";
import { type Held, isWholeBook, type ResumeRequest, type SubscribeOptions, type Whence } from "./held.js";
import type { Answer, Session } from "./session.js";
import type { Streams } from "./streams.js";

/** What a recovery tells its owner. */
export interface RecoveryOwner {
  /** A subscription was not taken again. */
  onLost(result: AckResult): void;
  /** A replay that somebody waits for will not come: a gap was told in its place. */
  onNoReplay(channel: Channel, symbol: string): void;
  /** Something was answered, or has caught up. */
  onProgress(): void;
}

/** The subscriptions and the cursor of a client. */
export class Recovery {
  readonly held: Held;
  readonly #streams: Streams;
  readonly #backoff: Backoff;
  readonly #owner: RecoveryOwner;
  #cursor: string | undefined;
  /** Requests that resume and are not answered: a cursor that overtakes their acks is not to be kept. */
  #unanswered = 0;
  /** Symbols and patterns that were resumed, with the number of the request that asked for them. */
  readonly #resumed = new Map<string, number>();
  /** Those of them whose replay the session waits for. */
  readonly #awaited = new Set<string>();

  /** A pattern has no last position: its symbols are not asked for by name. */
  readonly #last = (channel: Channel, symbol: string, options: SubscribeOptions): Whence => {
    const isPattern = symbol.endsWith("*");
    if (isWholeBook(channel, options) && (isPattern || this.#streams.lacksState(symbol))) return "anew";
    return isPattern ? undefined : this.#streams.last(channel, symbol);
  };

  constructor(held: Held, streams: Streams, backoff: Backoff, owner: RecoveryOwner) {
    this.held = held;
    this.#streams = streams;
    this.#backoff = backoff;
    this.#owner = owner;
  }

  /** The newest cursor. */
  get cursor(): string | undefined {
    return this.#cursor;
  }

  /** Whether everything was taken again, and every replay is done. */
  get isDone(): boolean {
    return this.#unanswered === 0 && this.#awaited.size === 0;
  }

  /** Keeps the cursor of a message that has one. */
  keepCursor(cursor: string | undefined): void {
    if (cursor === undefined || this.#unanswered > 0) return;
    this.#cursor = cursor;
    this.held.covered();
  }

  /** A new session: asks for all that is held. */
  begin(session: Session): void {
    this.#unanswered = 0;
    this.#resumed.clear();
    this.#awaited.clear();
    this.#watchLive();
    for (const request of this.held.resume(this.#cursor, this.#last)) this.#send(session, request);
  }

  #send(session: Session, request: ResumeRequest): void {
    const { subscriptions, cursor } = request;
    this.#unanswered++;
    const answered = (answer: Answer): void => {
      this.#unanswered--;
      if (answer.op === "error") this.#refused(session, request, answer);
      for (const result of answer.op === "ack" ? (answer.results ?? []) : []) {
        if (!result.ok) this.#owner.onLost(result);
      }
      this.#owner.onProgress();
    };
    const body = { op: "subscribe", subscriptions, ...(cursor === undefined ? {} : { cursor }) };
    const id = session.request(body, answered, () => undefined);
    for (const { channel, symbols, from } of subscriptions) {
      for (const symbol of symbols) {
        if (cursor === undefined && from === undefined) {
          this.#streams.restarted(channel, symbol);
          if (this.held.takeDone(channel, symbol)) this.#owner.onNoReplay(channel, symbol);
          continue;
        }
        // A time may reach further back than what was seen, as a cursor may.
        this.#streams.resumed(channel, symbol, from === undefined || !("seq" in (from as object)));
        this.#resumed.set(`${channel} ${symbol}`, id);
        this.#awaited.add(`${channel} ${symbol}`);
      }
    }
    this.#watchLive();
  }

  /** A request was refused as a whole. The error itself was handed out. */
  #refused(session: Session, { subscriptions, cursor }: ResumeRequest, error: ControlError): void {
    const all = subscriptions.flatMap(({ channel, symbols }) => symbols.map((symbol) => ({ channel, symbol })));
    for (const { channel, symbol } of all) this.#awaited.delete(`${channel} ${symbol}`);
    this.#watchLive();
    if (error.code === "rate_limited") {
      this.#unanswered++;
      const again = (): void => {
        if (!session.isReady) return;
        this.#unanswered--;
        this.#send(session, cursor === undefined ? { subscriptions } : { subscriptions, cursor });
      };
      setTimeout(again, this.#backoff.next(error.retry_after_ms ?? 1_000));
    } else if (cursor !== undefined) {
      // It is one of another cluster, or of none. There are other ways to go on, and a gap is told of what has none.
      if (this.#cursor === cursor) this.#cursor = undefined;
      this.held.refused(cursor);
      for (const other of this.held.resume(undefined, this.#last, all)) this.#send(session, other);
    } else {
      for (const { channel, symbol } of all) {
        this.#owner.onLost({ channel, symbol, ok: false, code: error.code, message: error.message });
      }
    }
  }

  /** The replay of a symbol or pattern is done; `tell` is called if the user is to know: one that only a new session asked for is not his. */
  replayDone(channel: Channel, symbol: string, tell: () => void): void {
    const name = `${channel} ${symbol}`;
    const isResumed = this.#resumed.delete(name);
    // Before the client is live by it.
    if (this.held.takeDone(channel, symbol) || !isResumed) tell();
    this.#caughtUp(name);
  }

  /** Something live came of a symbol: the subscription that brings it has caught up, as nothing does before. Of less specific ones it says nothing. */
  live(channel: Channel, symbol: string): void {
    const name = this.held.nameOf(channel, symbol);
    if (name !== undefined) this.#caughtUp(`${channel} ${name}`);
  }

  #caughtUp(name: string): void {
    if (!this.#awaited.delete(name)) return;
    this.#watchLive();
    this.#owner.onProgress();
  }

  #watchLive(): void {
    this.#streams.tellsLive = this.#awaited.size > 0;
  }

  /** A subscription has ended; gives the options that it was held with. */
  forget(channel: Channel, symbol: string): SubscribeOptions | undefined {
    const options = this.held.remove(channel, symbol);
    this.#resumed.delete(`${channel} ${symbol}`);
    this.#awaited.delete(`${channel} ${symbol}`);
    this.#watchLive();
    return options;
  }

  /**
   * A request was told that something of what it resumed is gone. Where nothing has come since, it may go on behind anything, and the session
   * does not wait for it.
   */
  agedOut(request: number | string | undefined): void {
    for (const [name, asked] of this.#resumed) {
      if (asked !== request) continue;
      const space = name.indexOf(" ");
      this.#streams.agedOut(name.slice(0, space) as Channel, name.slice(space + 1));
      this.#awaited.delete(name);
    }
    this.#watchLive();
    this.#owner.onProgress();
  }
}
