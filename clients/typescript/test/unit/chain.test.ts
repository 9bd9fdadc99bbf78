/** The client's rule: by examples, and by a seeded model of a gateway that drops, repeats and moves. */

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Chain, type ChainEvent, isAtOrBefore, isPosition, parsePosition } from "../../src/index.js";

const at = (offset: number, partition = 0, epoch = "1f"): string => `${epoch}:${partition}:${offset}`;
const follows = (offset: number, prev?: number): ChainEvent => (prev === undefined ? { seq: at(offset) } : { seq: at(offset), prev: at(prev) });

test("in order, siblings, duplicates, breaks, other partitions", () => {
  const chain = new Chain();
  assert.equal(chain.event(follows(5, 3), false), "first");
  assert.equal(chain.event(follows(8, 5), false), "in_order");
  assert.equal(chain.event(follows(8, 5), true), "in_order");
  assert.equal(chain.event(follows(8, 5), false), "duplicate");
  assert.equal(chain.event(follows(8, 5), true), "duplicate", "siblings of a duplicate are duplicates");
  assert.equal(chain.event(follows(6, 5), false), "duplicate");
  assert.equal(chain.event(follows(12, 10), false), "unannounced");
  assert.equal(chain.event(follows(13), false), "unverified");
  assert.equal(chain.event({ seq: at(2, 1), prev: at(13) }, false), "in_order");
  assert.equal(chain.event(follows(13, 12), false), "duplicate", "what comes again of the partition before is known");
  assert.equal(chain.event(follows(14, 13), false), "in_order", "it went back");
});

test("a gap closes the chain, and a snapshot at its end is news", () => {
  const chain = new Chain();
  chain.event(follows(5, 3), false);
  assert.equal(chain.gap({ after: at(5), upto: at(9) }), "news");
  assert.equal(chain.event({ seq: at(9), snapshot: true }, false), "snapshot");
  assert.equal(chain.event(follows(11, 9), false), "in_order");
  assert.equal(chain.gap({ after: at(10), upto: at(12) }), "misfit");
});

test("who comes back with a cursor may be given what reaches further back", () => {
  const chain = new Chain();
  chain.event(follows(9, 8), false);
  chain.resumed(true);
  assert.equal(chain.gap({ upto: at(6) }), "known", "a gap of what it has changes nothing");
  assert.equal(chain.event({ ...follows(8, 6), replay: true }, false), "duplicate");
  assert.equal(chain.event(follows(12, 7), false), "in_order");
  assert.equal(chain.event(follows(15, 9), false), "unannounced", "once");
  chain.resumed(true);
  assert.equal(chain.gap({ after: at(13), upto: at(18) }), "news");
  assert.equal(chain.event(follows(19, 18), false), "in_order");
});

// It began with the last event and ended before what the client had in the other partition: the chain went back, and what came again
// looked new.
test("a gap that ends in the partition before takes nothing back", () => {
  const comeBack = (): Chain => {
    const chain = new Chain();
    chain.event(follows(8, 7), false);
    chain.event(follows(9, 8), false);
    chain.event({ seq: at(2, 4), prev: at(9) }, false);
    chain.resumed(true);
    return chain;
  };
  const chain = comeBack();
  assert.equal(chain.gap({ after: at(2, 4), upto: at(8) }), "news");
  assert.equal(chain.last, at(2, 4));
  assert.equal(chain.event(follows(9, 8), false), "duplicate");
  assert.equal(chain.event(follows(12, 9), false), "in_order");
  for (const [upto, next] of [
    [9, 10],
    [11, 12],
  ] as const) {
    const chain = comeBack();
    assert.equal(chain.gap({ after: at(2, 4), upto: at(upto) }), "news");
    assert.equal(chain.last, at(upto), "the end of what it has there is where it goes on, as is what lies behind that");
    assert.equal(chain.event(follows(next, upto), false), "in_order");
  }
});

test("what is told as gone without an end may be followed by anything, once", () => {
  const chain = new Chain();
  chain.event(follows(52, 50), false);
  chain.resumed(true);
  chain.agedOut();
  assert.equal(chain.event(follows(52, 50), false), "duplicate");
  assert.equal(chain.event(follows(80, 78), false), "unverified");
  assert.equal(chain.event(follows(90, 85), false), "unannounced");
  chain.agedOut();
  assert.equal(chain.gap({ upto: at(100) }), "news");
  assert.equal(chain.event(follows(120, 118), false), "unannounced", "a gap with an end is where it ends");
});

/** What a gateway may do with the events of one symbol. */
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("send" as const), skip: fc.integer({ min: 1, max: 5 }), siblings: fc.integer({ min: 0, max: 2 }) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("gap" as const), skip: fc.integer({ min: 1, max: 9 }) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("resume" as const), back: fc.integer({ min: 0, max: 12 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("move" as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("lose" as const), skip: fc.integer({ min: 1, max: 5 }) }) },
);

test("each event is taken once, what is announced is no break, and what is not is one", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const chain = new Chain();
      /** Everything that stands in the log of the symbol. */
      const log: { seq: string; prev: string | undefined; isGap: boolean }[] = [];
      const taken: string[] = [];
      let [partition, offset, prev] = [0, 0, undefined as string | undefined];
      let isLost = false;
      const deliver = (entry: (typeof log)[number], replay: boolean): void => {
        const event: ChainEvent = { seq: entry.seq, ...(entry.prev === undefined ? {} : { prev: entry.prev }), replay };
        if (entry.isGap) {
          chain.gap({ ...(entry.prev === undefined ? {} : { after: entry.prev }), upto: entry.seq });
          return;
        }
        const verdict = chain.event(event, false);
        if (verdict === "duplicate") return assert.ok(taken.includes(entry.seq), `${entry.seq} was never taken`);
        assert.ok(!taken.includes(entry.seq), `${entry.seq} is taken twice`);
        taken.push(entry.seq);
        const expected = taken.length === 1 && log[0] === entry ? "first" : isLost ? "unannounced" : "in_order";
        if (chain.last !== undefined && taken.length > 1) assert.equal(verdict, expected);
        isLost = false;
      };
      for (const one of steps) {
        if (one.kind === "move") {
          // The rule remembers one partition before the present one: what a cursor goes back to is not older.
          const left = log.filter(({ seq }) => parsePosition(seq)?.partition === partition);
          log.splice(0, log.length, ...left);
          partition++;
          offset = 0;
          continue;
        }
        if (one.kind === "resume") {
          // Entries behind a cursor come again. Gaps stay what they were.
          chain.resumed(true);
          const from = Math.max(0, log.length - one.back);
          if (!isLost) for (const entry of log.slice(from)) deliver(entry, true);
          continue;
        }
        offset += one.skip;
        const entry = { seq: at(offset, partition), prev, isGap: one.kind === "gap" };
        prev = entry.seq;
        if (one.kind === "lose") {
          if (taken.length > 0) isLost = true;
          continue;
        }
        if (one.kind === "gap") {
          isLost = false; // it is told as well
          chain.resumed(false);
          log.length = 0;
        }
        if (isLost) {
          chain.resumed(false);
          log.length = 0; // what was lost cannot come again here
        }
        log.push(entry);
        deliver(entry, false);
        if (one.kind === "send") for (let n = 0; n < one.siblings; n++) assert.equal(chain.event({ seq: entry.seq, ...(entry.prev === undefined ? {} : { prev: entry.prev }) }, true), "in_order");
      }
    }),
    { numRuns: 2_000, seed: 20_260_101 },
  );
});

test("positions compare as numbers do, within a partition", () => {
  const position = fc.record({ epoch: fc.constantFrom("0", "1f3a", "deadbeef"), partition: fc.integer({ min: 0, max: 12 }), offset: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }) });
  fc.assert(
    fc.property(position, position, (a, b) => {
      const [x, y] = [a, b].map(({ epoch, partition, offset }) => `${epoch}:${partition}:${offset}`) as [string, string];
      assert.ok(isPosition(x));
      assert.deepEqual(parsePosition(x), { epoch: parseInt(a.epoch, 16), partition: a.partition, offset: a.offset });
      assert.equal(isAtOrBefore(x, y), a.epoch === b.epoch && a.partition === b.partition && a.offset <= b.offset);
    }),
  );
  for (const text of ["", "1", "1:2", "1:2:", ":1:2", "1:2:3:4", "g:1:2", "1:a:2", "1:2:-3", "1:2:03", "123456789:1:2", 7, null]) assert.equal(isPosition(text), false, String(text));
});
