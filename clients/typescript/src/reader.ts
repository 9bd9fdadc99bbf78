/** The reader's end of a client: waiting for events, one by one or in batches. */

import type { TickgateError } from "./errors.js";
import type { TickgateEvent } from "./events.js";
import type { EventQueue } from "./queue.js";

/** Takes events from a queue as they come. */
export class Reader {
  readonly #queue: EventQueue;
  readonly #taken: () => void;
  #wake: (() => void) | undefined;
  #isEnded = false;
  #error: TickgateError | undefined;

  /** `taken` is called when events have left the queue. */
  constructor(queue: EventQueue, taken: () => void) {
    this.#queue = queue;
    this.#taken = taken;
  }

  /** Something was added. */
  added(): void {
    this.#wake?.();
  }

  /** Nothing more comes; what waits is still given. */
  end(error?: TickgateError): void {
    this.#isEnded = true;
    this.#error = error;
    this.#wake?.();
  }

  /** The next event; `undefined` at the end. Rejects at the end if that was an error. */
  async next(): Promise<TickgateEvent | undefined> {
    for (;;) {
      const event = this.#queue.shift();
      if (event !== undefined) {
        this.#taken();
        return event;
      }
      if (this.#isEnded) return this.#finish();
      await this.#change();
    }
  }

  /** All that waits, at most so many, as soon as there is one and `maxWaitMs` have passed. */
  async batch(maxWaitMs: number, most: number): Promise<TickgateEvent[] | undefined> {
    while (this.#queue.length === 0) {
      if (this.#isEnded) return this.#finish();
      await this.#change();
    }
    const untilMs = performance.now() + maxWaitMs;
    while (this.#queue.length < most && !this.#isEnded) {
      const leftMs = untilMs - performance.now();
      if (leftMs <= 0) break;
      await this.#change(leftMs);
    }
    const all = this.#queue.takeAll(most);
    this.#taken();
    return all;
  }

  #finish(): undefined {
    const error = this.#error;
    this.#error = undefined; // told once
    if (error !== undefined) throw error;
    return undefined;
  }

  #change(mostMs?: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = mostMs === undefined ? undefined : setTimeout(() => this.#wake?.(), mostMs);
      this.#wake = () => {
        clearTimeout(timer);
        this.#wake = undefined;
        resolve();
      };
    });
  }
}

/** What `for await` takes, until there is nothing more. */
export function iterate<T>(next: () => Promise<T | undefined>): AsyncIterableIterator<T> {
  return {
    [Symbol.asyncIterator]() {
      return this;
    },
    async next() {
      const value = await next();
      return value === undefined ? { done: true, value } : { done: false, value };
    },
    async return() {
      return { done: true, value: undefined };
    },
  };
}
