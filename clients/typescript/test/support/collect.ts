/** A client of a test, with all that it handed out. */

import { WebSocket } from "ws";
import { connect, type ConnectOptions, isMarketEvent, type Live, type MarketEvent, type TickgateEvent } from "../../src/index.js";
import { until } from "./programs.js";

export class Collected {
  readonly events: TickgateEvent[] = [];
  readonly live: Live;

  constructor(url: string | string[], options: ConnectOptions = {}) {
    this.live = connect(url, { WebSocket, ...options });
    this.live.onEvent((event) => this.events.push(event));
  }

  /** The events of a type. */
  of<T extends TickgateEvent["type"]>(type: T): Extract<TickgateEvent, { type: T }>[] {
    return this.events.filter((event) => event.type === type) as Extract<TickgateEvent, { type: T }>[];
  }

  get market(): MarketEvent[] {
    return this.events.filter(isMarketEvent);
  }

  /** The states that it went through, with the attempt of each reconnect. */
  get states(): string[] {
    return this.of("state").map(({ state, attempt }) => (attempt === undefined ? state : `${state} ${attempt}`));
  }

  /** The same without a line that looked stale for a while, as it does where the machine has no time for heartbeats. */
  get steps(): string[] {
    return this.states.filter((state, at, all) => state !== "stale" && !(state === "live" && all[at - 1] === "stale"));
  }

  /** Waits until so many events of a type came. */
  async wait(type: TickgateEvent["type"], count: number): Promise<void> {
    try {
      await until(() => this.of(type as "trade").length >= count, `${count} ${type}`);
    } catch (error) {
      const tail = this.events.slice(-12).map((event) => JSON.stringify(event, (_, value: unknown) => (typeof value === "bigint" ? `${value}` : value)));
      throw new Error(`${(error as Error).message}, got ${this.of(type as "trade").length}; the last:\n${tail.join("\n")}`);
    }
  }

  async waitState(state: string, times = 1): Promise<void> {
    await until(() => this.of("state").filter((event) => event.state === state).length >= times, `${state}; there was ${this.states.join()}`);
  }
}
