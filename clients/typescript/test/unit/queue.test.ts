/** The queue: whatever is pushed, it stays within its bound, and what is not given is told. */

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type Book, BookKeeper, type Gap, isMarketEvent, type MarketEvent, type TickgateEvent } from "../../src/index.js";
import { EventQueue, type OnFull } from "../../src/queue.js";

const BASE = { event_ns: 1n, ingest_ns: 1n };
const seq = (n: number): string => `1:0:${n}`;

test("it is a queue", () => {
  const queue = new EventQueue({}, () => undefined);
  for (let n = 0; n < 20_000; n++) {
    queue.push({ type: "trade", symbol: "A", price: "1", size: "1", seq: seq(n), ...BASE }, 100);
    if (n % 3 === 0) assert.equal((queue.shift() as MarketEvent).seq, seq(n / 3));
  }
  assert.equal(queue.length, queue.takeAll().length);
  assert.equal(queue.dropped + queue.conflated, 0);
});

test("bounded, and every event is given, conflated or told as dropped; books stay true", () => {
  const push = fc.record({ kind: fc.constantFrom("trade", "quote", "book", "error"), symbol: fc.constantFrom("A", "B", "C"), take: fc.integer({ min: 0, max: 2 }), price: fc.integer({ min: 1, max: 9 }), size: fc.integer({ min: 0, max: 2 }) });
  fc.assert(
    fc.property(fc.array(push, { minLength: 100, maxLength: 400 }), fc.constantFrom<OnFull>("conflate", "report"), (steps, onFull) => {
      const truth = new Map<string, BookKeeper>();
      const queue = new EventQueue({ eventsMax: 64, onFull }, (symbol, merged) => truth.get(symbol)?.toSnapshot(merged));
      const given: TickgateEvent[] = [];
      steps.forEach(({ kind, symbol, take, price, size }, n) => {
        if (kind === "error") {
          queue.push({ type: "error", code: "x", message: "", hint: "", fatal: false }, 10);
        } else {
          const base = { symbol, seq: seq(n), ...BASE };
          if (kind === "trade") queue.push({ type: "trade", price: "1", size: "1", ...base }, 10);
          if (kind === "quote") queue.push({ type: "quote", bid_price: "1", bid_size: "1", ask_price: `${n}`, ask_size: "1", ...base }, 10);
          if (kind === "book") {
            const isFirst = !truth.has(symbol);
            if (isFirst) truth.set(symbol, new BookKeeper());
            const event: Book = { type: "book", bids: [[`${price}`, `${size}`]], asks: [], ...base, ...(isFirst ? { snapshot: true as const } : {}) };
            truth.get(symbol)?.apply(event);
            queue.push(event, 10);
          }
        }
        assert.ok(queue.length <= 64, `${queue.length}`);
        given.push(...queue.takeAll(take === 2 ? 1 : 0));
      });
      given.push(...queue.takeAll());
      const trades = given.filter((event) => event.type === "trade").length;
      const gaps = given.filter((event): event is Gap => event.type === "gap");
      assert.ok(gaps.every(({ cause, count }) => cause === "client_queue" && (count ?? 0) > 0));
      const lostTrades = gaps.filter(({ channel }) => channel === "trades").reduce((sum, { count }) => sum + (count ?? 0), 0);
      assert.equal(trades + lostTrades, steps.filter(({ kind }) => kind === "trade").length, "trades");
      if (onFull === "conflate") {
        const quotes = given.filter((event) => event.type === "quote").reduce((sum, event) => sum + ((event as MarketEvent).merged ?? 1), 0);
        const lost = gaps.filter(({ channel }) => channel === "quotes").reduce((sum, { count }) => sum + (count ?? 0), 0);
        assert.equal(quotes + lost, steps.filter(({ kind }) => kind === "quote").length, "quotes");
      }
      if (onFull === "conflate") {
        for (const [symbol] of truth) {
          const at = steps.findLastIndex((step) => step.kind === "book" && step.symbol === symbol);
          assert.equal(given.filter(isMarketEvent).findLast((event) => event.type === "book" && event.symbol === symbol)?.seq, seq(at), "the newest");
        }
      }
      // Who keeps books by what is given has the same in the end.
      for (const [symbol, book] of truth) {
        const mine = new BookKeeper();
        for (const event of given) if (event.type === "book" && event.symbol === symbol) mine.apply(event);
        assert.deepEqual(mine.bids(), book.bids(), symbol);
      }
    }),
    { numRuns: 500, seed: 20_260_102 },
  );
});
