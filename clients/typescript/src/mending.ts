/** Books that broke: each is asked for anew, and nothing of that is left when it is whole. */

import { hintOf } from "./errors.js";
import type { AckResult, ErrorEvent } from "./events.js";
import { type Held, matches, parts, type SubscribeOptions, wire } from "./held.js";
import type { Answer, Session } from "./session.js";
import type { Streams } from "./streams.js";

/** Books are asked for at once, and then together so often at most: a frame that is lost may be of all of them. */
const EVERY_MS = 1_000;
/** The longest that a gateway can have us wait before they are asked for again. */
const LATER_MS_MAX = 60_000;

/** What it tells its owner. */
export interface MendingOwner {
  /** The session, if it takes requests. */
  session(): Session | undefined;
  tell(error: ErrorEvent): void;
  /** A subscription that is given up for its state was not granted again. */
  onLost(result: AckResult): void;
}

interface Asked {
  options: SubscribeOptions;
  /** Whether nobody but us wants it by its name. */
  isByName: boolean;
  /** Whether that was acknowledged: the state that comes then is the one that was asked for. */
  isGranted: boolean;
  /** Whether the user has asked for something of this very name since: what counts is behind ours. */
  isOvertaken: boolean;
}

interface Alike {
  symbols: string[];
  options: SubscribeOptions;
  isByName: boolean;
}

/**
 * What is held by its name is given up and subscribed to again. What a pattern brings is subscribed to by its name beside that, with the options of the
 * pattern, which brings its state; the name goes when that has come, and the pattern just goes on.
 */
export class Mending {
  readonly #held: Held;
  readonly #streams: Streams;
  readonly #owner: MendingOwner;
  /** Broken, and not asked for. */
  readonly #broken = new Set<string>();
  /** Asked for, and not whole again. */
  readonly #asked = new Map<string, Asked>();
  /** Whole again, and still subscribed to by their names. */
  readonly #over = new Set<string>();
  /** No sooner are books asked for again. */
  #nextMs = -Infinity;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(held: Held, streams: Streams, owner: MendingOwner) {
    this.#held = held;
    this.#streams = streams;
    this.#owner = owner;
  }

  /** A book broke without a word. */
  broke(symbol: string): void {
    if (this.#asked.has(symbol)) return;
    this.#broken.add(symbol);
    if (this.#timer !== undefined) return;
    this.#timer = setTimeout(() => this.#ask(), Math.max(0, this.#nextMs - performance.now()));
  }

  /** The state of a book came. */
  isWhole(symbol: string): void {
    this.#broken.delete(symbol);
    const asked = this.#asked.get(symbol);
    if (asked === undefined || !asked.isGranted) return;
    this.#asked.delete(symbol);
    if (!asked.isByName) return;
    // Others of the same frame go with it.
    if (this.#over.size === 0) queueMicrotask(() => this.#giveUp());
    this.#over.add(symbol);
  }

  /** The user is about to ask for something of these names: what we subscribed to of them goes first, so that it is in nobody's way. */
  giveWay(names: readonly string[]): void {
    for (const name of names) {
      const asked = this.#asked.get(name);
      if (asked !== undefined) asked.isOvertaken = true;
    }
    const own = [...this.#asked].filter(([symbol, { isByName }]) => isByName && names.some((name) => matches(name, symbol)));
    for (const [symbol] of own) {
      this.#asked.delete(symbol);
      this.#over.add(symbol);
    }
    this.#giveUp();
  }

  /** Whether a book that is held by its name waits to be asked for again: the gateway may know of no subscription then. */
  isWaiting(symbol: string): boolean {
    return this.#broken.has(symbol) && this.#held.has("book", symbol);
  }

  /** The session has ended: what was broken is so in the next one, until its state comes. */
  sessionEnded(): void {
    for (const symbol of this.#asked.keys()) this.#broken.add(symbol);
    this.#asked.clear();
    this.#over.clear();
    // Whom the gateway had wait was that session.
    this.#nextMs = -Infinity;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** There is a session again, and it goes on where the last one was. */
  sessionIsLive(): void {
    if (this.#broken.size > 0) this.#ask();
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#broken.clear();
    this.#asked.clear();
  }

  /** Gives up the names of those that are whole again. */
  #giveUp(): void {
    const over = [...this.#over];
    this.#over.clear();
    this.#release(over);
  }

  #release(symbols: readonly string[], over: (symbols: readonly string[]) => void = () => undefined): void {
    const session = this.#owner.session();
    for (const part of parts(symbols)) {
      session?.request({ op: "unsubscribe", subscriptions: [wire("book", part, {})] }, () => over(part), () => undefined);
    }
  }

  /** Gives up what the user had given up before we asked for it, and what came of it meanwhile. */
  #drop(dropped: ReadonlyMap<string, SubscribeOptions>): void {
    this.#release([...dropped.keys()], (part) => {
      for (const symbol of part) if (!this.#held.has("book", symbol)) this.#streams.unsubscribed("book", symbol, dropped.get(symbol));
    });
  }

  #ask(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const session = this.#owner.session();
    if (session === undefined) return;
    this.#nextMs = performance.now() + EVERY_MS;
    /** Symbols with the same options. */
    const alike = new Map<string, Alike>();
    for (const symbol of this.#broken) {
      const held = this.#held.optionsOf("book", symbol);
      if (held === undefined) continue; // nobody wants it any more
      const { from: _, cursor: __, ...options } = held;
      const isByName = !this.#held.has("book", symbol);
      const name = `${isByName} ${JSON.stringify(wire("book", [], options))}`;
      const group: Alike = alike.get(name) ?? { symbols: [], options, isByName };
      alike.set(name, group);
      group.symbols.push(symbol);
      this.#asked.set(symbol, { options, isByName, isGranted: false, isOvertaken: false });
    }
    this.#broken.clear();
    for (const { symbols, options, isByName } of alike.values()) {
      for (const part of parts(symbols)) {
        // One behind the other: what the user asks for meanwhile comes behind both.
        if (!isByName) this.#release(part);
        const body = { op: "subscribe", subscriptions: [wire("book", part, options)] };
        session.request(body, (answer) => this.#answered(part, answer), () => this.#again(part));
      }
    }
  }

  #answered(symbols: readonly string[], answer: Answer): void {
    if (answer.op !== "ack") {
      const { code, retry_after_ms } = answer.op === "error" ? answer : {};
      for (const symbol of symbols) this.#failed(symbol, `the book broke, and was not given anew${code === undefined ? "" : `: ${code}`}`, retry_after_ms);
      return;
    }
    const dropped = new Map<string, SubscribeOptions>();
    for (const result of answer.results ?? []) {
      const { symbol, ok } = result;
      const asked = this.#asked.get(symbol);
      if (asked === undefined) continue; // the user has asked for something else since
      if (ok && !this.#isWanted(symbol, asked)) {
        // His unsubscribe was under way when it broke: ours went behind it.
        this.#asked.delete(symbol);
        if (!asked.isOvertaken) dropped.set(symbol, asked.options);
      } else if (ok) {
        asked.isGranted = true;
        this.#streams.subscribed("book", symbol, false);
      } else if (asked.isByName) {
        this.#failed(symbol, `the book broke, and is not given anew: ${result.message ?? result.code}`);
      } else {
        this.#asked.delete(symbol);
        this.#owner.onLost(result);
      }
    }
    this.#drop(dropped);
  }

  /** Whether the user still holds what it was asked for. */
  #isWanted(symbol: string, { isByName }: Asked): boolean {
    return isByName ? this.#held.optionsOf("book", symbol) !== undefined : this.#held.has("book", symbol);
  }

  /** What a pattern brings is asked for again with its next change. Of what was given up for its state nothing comes: it is asked for when time has passed. */
  #failed(symbol: string, message: string, retryAfterMs = 0): void {
    const asked = this.#asked.get(symbol);
    if (asked === undefined) return;
    this.#asked.delete(symbol);
    this.#owner.tell({ type: "error", code: "book_broken", message, hint: hintOf("book_broken"), fatal: false, symbol });
    if (asked.isByName) return;
    this.#nextMs = Math.max(this.#nextMs, performance.now() + (Math.min(retryAfterMs, LATER_MS_MAX) || 0));
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.broke(symbol);
  }

  /** There was no room for the request. */
  #again(symbols: readonly string[]): void {
    for (const symbol of symbols) if (this.#asked.delete(symbol)) this.broke(symbol);
  }
}
