/** Gaps as a person is told of them: those of one cause that come one after the other are one notice, which counts. */

import type { Gap } from "tickgate";
import { MERGE_MS } from "./messages.js";

/** Symbols of a burst that are told apart, and how many of them are named. */
const SYMBOLS_MAX = 1_000;
const NAMED_MAX = 2;

interface Burst {
  id: number;
  begun_ms: number;
  newest_ms: number;
  symbols: Set<string>;
  /** The first of them. */
  named: string[];
  channels: Set<string>;
  gaps: number;
  events: number;
  /** Whether a gap did not say of how many events. */
  isMore: boolean;
}

/** The bursts that there are, one for each cause. */
export class Bursts {
  readonly #bursts = new Map<string, Burst>();
  readonly #newId: () => number;

  constructor(newId: () => number) {
    this.#newId = newId;
  }

  /** Takes a gap; gives what there is to say of its burst now. What has the same `id` takes the place of what was said before. */
  take({ channel, symbol, cause, count }: Gap, now_ms: number): { id: number; text: string } {
    let burst = this.#bursts.get(cause);
    if (burst === undefined || now_ms - burst.newest_ms > MERGE_MS) {
      burst = { id: this.#newId(), begun_ms: now_ms, newest_ms: now_ms, symbols: new Set(), named: [], channels: new Set(), gaps: 0, events: 0, isMore: false };
      this.#bursts.set(cause, burst);
    }
    burst.newest_ms = now_ms;
    burst.gaps++;
    burst.events += count ?? 0;
    burst.isMore ||= count === undefined;
    burst.channels.add(channel);
    if (burst.symbols.size < SYMBOLS_MAX) burst.symbols.add(symbol);
    if (burst.named.length < burst.symbols.size && burst.named.length < NAMED_MAX) burst.named.push(symbol);
    return { id: burst.id, text: textOf(burst, cause) };
  }
}

function textOf({ begun_ms, newest_ms, symbols, named, channels, gaps, events, isMore }: Burst, cause: string): string {
  const [channel] = channels;
  const others = symbols.size > NAMED_MAX ? ` and ${symbols.size < SYMBOLS_MAX ? "" : "at least "}${symbols.size - NAMED_MAX} more` : "";
  const count = !isMore ? `${events}` : events === 0 ? "some" : `${events} or more`;
  const past_s = Math.round((newest_ms - begun_ms) / 1_000);
  const times = gaps === 1 ? "" : ` in ${gaps} gaps${past_s === 0 ? "" : ` within ${past_s} s`}`;
  return `${named.join(", ")}${others}: ${count} ${channels.size === 1 ? channel : "events"} missing${times} (${cause.replaceAll("_", " ")})`;
}
