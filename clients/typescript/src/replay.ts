/** The past alone: every event from one time to another, at its own rhythm or as fast as it is read. */

import { TickgateError } from "./errors.js";
import type { AckResult, Channel, ErrorEvent, Gap, MarketEvent, Quote, StateEvent, Status, TickgateEvent, Trade } from "./events.js";
import { isMarketEvent } from "./events.js";
import { Live } from "./live.js";
import type { ConnectOptions } from "./options.js";
import { toNs } from "./time.js";

/** What is to be played. */
export interface ReplayOptions {
  channel: Exclude<Channel, "book">;
  /** Symbols and patterns. */
  symbols: string | readonly string[];
  /** Nanoseconds since the epoch, a `Date`, or a text that `Date` reads. */
  from: bigint | Date | string;
  /** Default: now. */
  until?: bigint | Date | string;
  /** 0.001 to 1000; 1 is as it happened. Without it the past comes as fast as it is read. */
  speed?: number;
}

/** What a replay gives: events, gaps, errors such as `replay_aged_out` where some of it is left, and the state of its connection. */
export type ReplayEvent = Trade | Quote | Status | Gap | ErrorEvent | StateEvent;

/** How much of the past is played again after a loss, at a given speed, in nanoseconds: clocks of venues are not Kafka's. */
const AGAIN_NS = 60_000_000_000n;
/** With these one that was granted ends before its time: `replay_done` follows, as if all had come. */
const FAILURES = new Set(["internal", "source_down"]);

type Past = { time_ns: string; until_ns: string; speed?: number };

/**
 * A replay, in a session of its own, to be iterated once. It ends behind the last event. When its session is lost it goes on in another one,
 * and what came before is not given again; with `reconnect: false`, and where coming back would be in vain, iterating throws a
 * {@link TickgateError}, and so it does when a symbol is refused, the gateway cannot read it (`source_down`), or nothing of it is left
 * (`replay_aged_out`).
 */
export class Replay implements AsyncIterable<ReplayEvent> {
  readonly #live: Live;
  readonly #left: Set<string>;
  readonly #channel: Channel;
  readonly #past: Past;
  /** Whether what was asked for was granted. Before that a request that was lost is sent again without us. */
  #isGranted = false;
  #lastNs = 0n;

  constructor(urls: readonly string[], connect: ConnectOptions, { channel, symbols, from, until, speed }: ReplayOptions) {
    this.#channel = channel;
    this.#past = { time_ns: toNs(from).toString(), until_ns: toNs(until ?? new Date()).toString() };
    if (speed !== undefined) this.#past.speed = speed;
    // Who is slower gets it later, not less, where reading can be stopped.
    this.#live = new Live(urls, { ...connect, queue: { ...connect.queue, onFull: "pause" } });
    this.#left = new Set(typeof symbols === "string" ? [symbols] : symbols);
    this.#watch(this.#live.subscribe(channel, [...this.#left], { from: this.#past }));
  }

  #watch(answer: Promise<AckResult[]>): void {
    this.#isGranted = false;
    answer.then(
      (results) => {
        this.#isGranted = true;
        for (const { symbol, ok, code, message } of results) {
          if (!ok) this.#live.fail(new TickgateError(code ?? "bad_request", message ?? "refused", { symbol }));
        }
      },
      (error: TickgateError) => this.#live.fail(error),
    );
  }

  /**
   * Events of the past in order.
   *
   * @throws {@link TickgateError} when a symbol is refused, it cannot be read, nothing of it is left, or the session is lost for good.
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<ReplayEvent, void, undefined> {
    let [isLost, hasCome] = [false, false];
    // That some of it is gone, while nothing else has come of it.
    let agedOut: ErrorEvent | undefined;
    try {
      for await (const event of this.#live) {
        if (event.type === "replay_done") {
          this.#left.delete(event.symbol);
          if (event.channel !== this.#channel || this.#left.size > 0) continue;
          if (agedOut !== undefined && !hasCome) throw new TickgateError(agedOut.code, `nothing of it came: ${agedOut.message}`);
          return;
        } else if (event.type === "state") {
          if (event.state === "reconnecting") isLost = this.#isGranted || isLost;
          if (event.state === "live" && isLost) {
            isLost = false;
            this.#playOn();
          }
          yield event;
        } else if (event.type === "error") {
          if (!event.fatal && FAILURES.has(event.code)) throw new TickgateError(event.code, event.message, { symbol: event.symbol });
          if (event.code === "replay_aged_out") agedOut = event;
          yield event;
        } else if (event.type === "gap") {
          hasCome = true;
          yield event;
        } else if (isPlayed(event)) {
          hasCome = true;
          if (event.event_ns > this.#lastNs) this.#lastNs = event.event_ns;
          yield event;
        }
      }
    } finally {
      this.#live.close();
    }
  }

  /** From the beginning or, where it has a speed, from a minute before the last event. */
  #playOn(): void {
    const past = { ...this.#past };
    const againNs = this.#lastNs - AGAIN_NS;
    if (past.speed !== undefined && againNs > BigInt(past.time_ns)) past.time_ns = againNs.toString();
    this.#watch(this.#live.playOn(this.#channel, [...this.#left], { from: past }));
  }

  /** Ends it: iterating gives what was received, and ends. */
  close(): void {
    this.#live.close();
  }
}

function isPlayed(event: TickgateEvent): event is Exclude<MarketEvent, { type: "book" }> {
  return event.type !== "book" && isMarketEvent(event);
}
