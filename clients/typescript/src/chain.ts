/**
 * The client's rule: whether an event is in order, a duplicate, or proof that something is missing.
 *
 * One {@link Chain} is that of one channel and symbol. It knows no connection and no clock.
 */

import type { Seq } from "./events.js";
import { isAtOrBefore, isSamePartition } from "./position.js";

/**
 * What the rule says about an event: `first` of its chain; `in_order`; `snapshot`: state that replaces; `duplicate`: discard it;
 * `unverified`: the gateway did not know what came before; `unannounced`: events are missing and nothing has said so.
 */
export type Verdict = "first" | "in_order" | "snapshot" | "duplicate" | "unverified" | "unannounced";

/** Fields of an event that the rule looks at. */
export interface ChainEvent {
  seq: Seq;
  prev?: Seq;
  snapshot?: boolean;
  replay?: boolean;
}

/** Fields of a gap that the rule looks at. */
export interface ChainGap {
  after?: Seq;
  upto?: Seq;
}

/** What a gap says to this client: `news`, `known` (of what it has: to be ignored) or `misfit` (it begins elsewhere). */
export type GapVerdict = "news" | "known" | "misfit";

/** The chain of one channel and symbol. */
export class Chain {
  #last: Seq | undefined;
  /** Where it stood in the partition that its symbol was in before. */
  #before: Seq | undefined;
  #isAfterGap = false;
  /** Whether the client came back with a cursor, and nothing live has come since. */
  #isResumed = false;
  /** Whether the last event was discarded: so are its siblings. */
  #isDiscarding = false;
  /** Whether something was told as gone of which nobody knows where it ends. */
  #isOpen = false;

  /** The last position seen or announced as lost. */
  get last(): Seq | undefined {
    return this.#last;
  }

  /**
   * Judges an event and moves on. `sameRecord` says that it stands directly behind another event in the same frame, which may be
   * of the same record.
   */
  event(event: ChainEvent, sameRecord: boolean): Verdict {
    const last = this.#last;
    if (last === undefined) {
      this.#last = event.seq;
      return event.snapshot ? "snapshot" : "first";
    }
    if (sameRecord && event.seq === last && !this.#isDiscarding) return "in_order";
    this.#isDiscarding = this.#has(event.seq) && !(this.#isAfterGap && event.snapshot === true);
    if (this.#isDiscarding) return "duplicate";
    const verdict = this.#judge(event, last);
    this.#moveTo(event.seq);
    this.#isAfterGap = false;
    this.#isOpen = false;
    if (!event.replay) this.#isResumed = false;
    return verdict;
  }

  #judge({ prev, snapshot }: ChainEvent, last: Seq): Verdict {
    if (snapshot) return "snapshot";
    if (prev === undefined) return "unverified";
    // What comes first to who came back may reach further back than what it has.
    if (prev === last || prev === this.#before || (this.#isResumed && this.#has(prev))) return "in_order";
    return this.#isOpen ? "unverified" : "unannounced";
  }

  /** Takes note of an announced gap. */
  gap({ after, upto }: ChainGap): GapVerdict {
    if (this.#isResumed && after !== this.#last && upto !== undefined && this.#has(upto)) return "known";
    const isOfBoth = this.#isResumed && after !== undefined && this.#has(after);
    const fits = after === undefined || this.#last === undefined || after === this.#last || isOfBoth;
    // What ends before where the chain stands says nothing of where it goes on, and takes nothing back of what was seen.
    if (upto !== undefined && (upto === this.#last || upto === this.#before || !this.#has(upto))) {
      this.#moveTo(upto);
      this.#isOpen = false;
    }
    // A snapshot that repeats the last position lost is news, not a duplicate.
    this.#isAfterGap = true;
    return fits ? "news" : "misfit";
  }

  /** The client comes back: with a cursor, which may be older than what it has, or with its last position. */
  resumed(withCursor: boolean): void {
    this.#isResumed = withCursor;
  }

  /** The request that resumed it was told `replay_aged_out`, and nothing of it has come since: it may go on behind anything. */
  agedOut(): void {
    this.#isOpen = true;
  }

  #has(seq: Seq): boolean {
    if (this.#last !== undefined && isAtOrBefore(seq, this.#last)) return true;
    return this.#before !== undefined && isAtOrBefore(seq, this.#before);
  }

  #moveTo(seq: Seq): void {
    if (this.#last !== undefined && !isSamePartition(this.#last, seq)) this.#before = this.#last;
    this.#last = seq;
  }
}
