/** What is to be subscribed, and what is: the gateway is asked for the difference, for one at a time. */

import type { AckResult, Channel, Live, SubscribeOptions } from "tickgate";

/** Options by symbol, by channel. The same options are the same object. */
export type Wanted = ReadonlyMap<Channel, ReadonlyMap<string, SubscribeOptions>>;

/** Told of every answer, before anything that comes of it. */
export type Granted = (channel: Channel, options: SubscribeOptions, results: readonly AckResult[], isNew: (symbol: string) => boolean) => void;

/** A request that was refused as a whole is made again so much later. */
const AGAIN_MS = 1_000;

/**
 * However fast somebody scrolls or goes through rows, no more is under way than one difference: when it is answered, the next is that to what is wanted
 * then. What was refused as a whole is asked for again; a symbol that was refused, when other options are wanted of it.
 */
export class Wants {
  readonly #wanted: () => Wanted;
  readonly #granted: Granted;
  readonly #held = new Map<Channel, Map<string, SubscribeOptions>>();
  #client: Live | undefined;
  #isAsking = false;
  #isStale = false;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(wanted: () => Wanted, granted: Granted) {
    this.#wanted = wanted;
    this.#granted = granted;
  }

  /** Another client, which has nothing yet. */
  begin(client: Live): void {
    this.#client = client;
    this.#held.clear();
    this.#isAsking = false;
    this.ask();
  }

  /** Whether a subscription to this symbol by its name was answered, and is not given up. */
  has(channel: Channel, symbol: string): boolean {
    return this.#held.get(channel)?.has(symbol) ?? false;
  }

  /** The gateway has ended what there was of a symbol: it is asked for again, and may say why not. */
  lost(symbol: string): void {
    for (const held of this.#held.values()) held.delete(symbol);
    this.askIn(AGAIN_MS);
  }

  /** Asks in a while: the last one to say so counts. */
  askIn(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.ask(), ms);
  }

  /** Asks for what is wanted now. */
  ask(): void {
    clearTimeout(this.#timer);
    if (this.#client === undefined) return;
    this.#isStale = true;
    if (!this.#isAsking) void this.#run(this.#client);
  }

  async #run(client: Live): Promise<void> {
    this.#isAsking = true;
    while (this.#isStale) {
      this.#isStale = false;
      const answers = await Promise.allSettled([...this.#wanted()].flatMap(([channel, wanted]) => this.#difference(client, channel, wanted)));
      // Another client has begun meanwhile, and asks for itself.
      if (client !== this.#client) return;
      if (answers.some(({ status }) => status === "rejected")) this.askIn(AGAIN_MS);
    }
    this.#isAsking = false;
  }

  #difference(client: Live, channel: Channel, wanted: ReadonlyMap<string, SubscribeOptions>): Promise<void>[] {
    const held = this.#held.get(channel) ?? new Map<string, SubscribeOptions>();
    this.#held.set(channel, held);
    const requests: Promise<void>[] = [];
    const gone = [...held.keys()].filter((symbol) => !wanted.has(symbol));
    if (gone.length > 0) requests.push(client.unsubscribe(channel, gone).then(() => gone.forEach((symbol) => held.delete(symbol))));
    for (const options of new Set(wanted.values())) {
      const symbols = [...wanted].filter(([symbol, wants]) => wants === options && held.get(symbol) !== options).map(([symbol]) => symbol);
      if (symbols.length === 0) continue;
      const answered = (results: AckResult[]): void => {
        if (client !== this.#client) return;
        const isNew = new Set(symbols.filter((symbol) => !held.has(symbol)));
        for (const symbol of symbols) held.set(symbol, options);
        this.#granted(channel, options, results, (symbol) => isNew.has(symbol));
      };
      requests.push(client.subscribe(channel, symbols, options).then(answered));
    }
    return requests;
  }
}
