/** How long to wait before another attempt: so that thousands that lost the same gateway do not all come at once. */

/** Bounds of the waits, in milliseconds. */
export interface BackoffOptions {
  /** Bound of the first wait. It doubles with each attempt that failed. Default 100. */
  firstMs?: number;
  /** Bound of all waits. Default 5000. */
  lastMs?: number;
}

/** The most that is believed of a wait that the server asks for. */
const RETRY_AFTER_MAX_MS = 30_000;

/**
 * How long a session has to be live so that its end is a first failure, and not one more: a gateway that takes everybody in and ends it at
 * once would be asked ten times a second.
 */
const PROVEN_AFTER_MS = 2_000;

/** Waits of one client. */
export class Backoff {
  #attempts = 0;
  readonly #firstMs: number;
  readonly #lastMs: number;
  readonly #random: () => number;

  /** `random` gives numbers from 0 to below 1. */
  constructor({ firstMs = 100, lastMs = 5_000 }: BackoffOptions = {}, random: () => number = Math.random) {
    this.#firstMs = firstMs;
    this.#lastMs = lastMs;
    this.#random = random;
  }

  /** Attempts that were waited for since it was last well. */
  get attempts(): number {
    return this.#attempts;
  }

  /**
   * Milliseconds until the next attempt, by chance: the first time up to the bound, later at least half of it. Who was told when to
   * come again comes then, or up to half as much later.
   */
  next(retryAfterMs?: number): number {
    const boundMs = Math.min(this.#firstMs * 2 ** Math.min(this.#attempts, 16), this.#lastMs);
    const leastMs = this.#attempts === 0 ? 0 : boundMs / 2;
    this.#attempts++;
    if (retryAfterMs !== undefined) return Math.min(retryAfterMs, RETRY_AFTER_MAX_MS) * (1 + this.#random() / 2);
    return leastMs + this.#random() * (boundMs - leastMs);
  }

  /** A session has ended that was live for so long: whether all was well shows in that. */
  lived(liveMs: number): void {
    if (liveMs >= PROVEN_AFTER_MS) this.reset();
  }

  /** It is well again: the next wait is a first one. */
  reset(): void {
    this.#attempts = 0;
  }
}
