/** The past alone: every event from one time to another, at its own rhythm or as fast as it is read. */

import { TickgateError } from "./errors.js";
import type { Channel, ErrorEvent, Gap, MarketEvent, Status, Quote, Trade } from "./events.js";
import { isMarketEvent } from "./events.js";
import { Live } from "./live.js";
import type { ConnectOptions } from "./options.js";
import { toNs } from "./time.js";

/** What is to be played. */
export interface ReplayOptions {
  channel: Exclude<Channel, "book">;
  symbols: string | readonly string[];
  /** Nanoseconds since the epoch, a `Date`, or a text that `Date` reads. */
  from: bigint | Date | string;
  /** Default: now. */
  until?: bigint | Date | string;
  /** 0.001 to 1000; 1 is as it happened. Without it the past comes as fast as it is read. */
  speed?: number;
}

/** What a replay gives: events, gaps, and errors such as `replay_aged_out` that do not end it. */
export type ReplayEvent = Trade | Quote | Status | Gap | ErrorEvent;

/**
 * A replay, in a session of its own. Iterating ends with the last event; it throws a {@link TickgateError} when the session is lost: begin
 * again from the time of the last event, and leave out what has a `seq` that came.
 */
export class Replay implements AsyncIterable<ReplayEvent> {
  readonly #live: Live;
  readonly #done = new Set<string>();
  readonly #channel: Channel;

  constructor(urls: readonly string[], connect: ConnectOptions, { channel, symbols, from, until, speed }: ReplayOptions) {
    this.#channel = channel;
    const past: Record<string, unknown> = { time_ns: toNs(from).toString() };
    past.until_ns = toNs(until ?? new Date()).toString();
    if (speed !== undefined) past.speed = speed;
    // Who is slower gets it later, not less, where reading can be stopped.
    this.#live = new Live(urls, { ...connect, reconnect: false, queue: { ...connect.queue, onFull: "pause" } });
    const all = typeof symbols === "string" ? [symbols] : symbols;
    for (const symbol of all) this.#done.add(symbol);
    const settled = this.#live.subscribe(channel, all, { from: past as { time_ns: string } });
    settled.then(
      (results) => {
        for (const { symbol, ok, code, message } of results) {
          if (!ok) this.#live.fail(new TickgateError(code ?? "bad_request", message ?? "refused", { symbol }));
        }
      },
      (error: TickgateError) => this.#live.fail(error),
    );
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<ReplayEvent, void, undefined> {
    try {
      for await (const event of this.#live) {
        if (event.type === "replay_done") {
          this.#done.delete(event.symbol);
          if (event.channel === this.#channel && this.#done.size === 0) return;
        } else if (event.type === "gap" || event.type === "error" || isPlayed(event)) {
          yield event;
        }
      }
    } finally {
      this.#live.close();
    }
  }

  /** Ends it. */
  close(): void {
    this.#live.close();
  }
}

function isPlayed(event: { type: string }): event is Exclude<MarketEvent, { type: "book" }> {
  return event.type !== "book" && isMarketEvent(event as MarketEvent);
}
