/** Clients whose gateway is the test. */

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { connect } from "../../src/index.js";
import { Collected } from "../support/collect.js";
import { Line } from "../support/line.js";
import { until } from "../support/programs.js";

beforeEach(() => (Line.all = []));

const client = (): Collected => new Collected("ws://test/v1/stream", { WebSocket: Line, clockMs: 0, backoff: { firstMs: 1, lastMs: 1 } });
const BOOK = { type: "book", symbol: "A", bids: [["9", "1"]], asks: [["10", "1"]], snapshot: true, seq: "1:0:1", event_ns: "1", ingest_ns: "1" };

// The next gateway did not grant a book any more, or a new token did not: the error came, and the book stood there with its last levels and
// said that it was complete.
test("a book that is not granted any more does not say that it is complete", async () => {
  const { live } = client();
  void live.subscribe("book", "A");
  const first = await Line.at(0);
  first.acknowledge(await first.wants("subscribe"));
  first.say([BOOK]);
  const book = live.book("A");
  assert.equal(book.isComplete, true);
  first.cut();
  const second = await Line.at(1);
  second.acknowledge(await second.wants("subscribe"), "forbidden");
  await until(() => live.state === "live", "a session that is live");
  assert.deepEqual([book.isComplete, book.bids()], [false, []]);
  live.close();
});

// A session was lost while its client did not read: the next one was read on however full the queue was, and what had no room was lost.
test("a client that does not read does not read the next session either", async () => {
  const live = connect("ws://test/v1/stream", { WebSocket: Line, clockMs: 0, backoff: { firstMs: 1, lastMs: 1 }, queue: { eventsMax: 10, onFull: "pause" } });
  live[Symbol.asyncIterator]();
  void live.subscribe("book", "A");
  const first = await Line.at(0);
  first.acknowledge(await first.wants("subscribe"));
  first.say(Array.from({ length: 6 }, (_, n) => ({ ...BOOK, seq: `1:0:${n}` })));
  assert.equal(first.isPaused, true);
  first.cut();
  const second = await Line.at(1);
  second.acknowledge(await second.wants("subscribe"));
  second.say([{ ...BOOK, seq: "1:0:7" }]);
  assert.equal(second.isPaused, true);
  live.close();
});

// What came before the first answer was taken to be as late as the clocks were apart, and one question is off by as much as half of its way.
test("the clock is asked for several times, and no latency is told before it is known", async () => {
  const live = connect("ws://test/v1/stream", { WebSocket: Line });
  const line = await Line.at(0);
  const event = { ...BOOK, snapshot: undefined, prev: "1:0:0", ingest_ns: String((Date.now() - 3_600_000) * 1e6) };
  for (let n = 0; n < 5; n++) {
    const { id } = await line.wants("ping", n);
    line.say([{ ...event, seq: `1:0:${n + 2}`, prev: `1:0:${n + 1}` }]);
    // It is an hour behind.
    line.say({ op: "pong", id, now_ns: String((Date.now() - 3_600_000) * 1e6) });
  }
  const { latency, skew_ns } = live.stats();
  assert.deepEqual([latency.count, line.asked.length], [4, 5]);
  assert.ok(latency.max_ns < 600e9 && Math.abs(skew_ns + 3_600e9) < 600e9, JSON.stringify({ latency, skew_ns }));
  live.close();
});

// A cursor is of what was received: whoever kept it while events waited in the queue, and went on from it in another process, never saw those.
test("a cursor is given when all that it is of was taken, and stands beside the subscriptions that begin at it", async () => {
  const live = connect("ws://test/v1/stream", { WebSocket: Line, clockMs: 0 });
  const events = live[Symbol.asyncIterator]();
  void live.subscribe("trades", ["A", "B"], { cursor: "old" });
  const line = await Line.at(0);
  const { cursor, subscriptions } = await line.wants("subscribe");
  assert.deepEqual([cursor, subscriptions], ["old", [{ channel: "trades", symbols: ["A", "B"] }]]);
  line.acknowledge(await line.wants("subscribe"));
  line.say([{ ...BOOK, type: "trade", price: "1", size: "1" }]);
  line.say({ op: "heartbeat", now_ns: "1", cursor: "new", queued_bytes: 0, delay_ms: 0, feeds: [] });
  assert.equal(live.cursor, undefined);
  while (((await events.next()).value as { type: string }).type !== "trade");
  assert.equal(live.cursor, "new");
  live.close();
});

// Whoever lost the session while a broken book was being mended had none for ever: the next one went on from the cursor, with changes alone.
test("a book that is broken when its session ends is mended in the next one, and its name goes when it is whole", async () => {
  const { live, events } = client();
  void live.subscribe("book", "*", { on_slow: "skip" });
  const first = await Line.at(0);
  first.acknowledge(await first.wants("subscribe"));
  first.say([BOOK]);
  first.say({ op: "heartbeat", now_ns: "1", cursor: "c", queued_bytes: 0, delay_ms: 0, feeds: [] });
  const change = (seq: number, prev: number): object => ({ ...BOOK, snapshot: undefined, seq: `1:0:${seq}`, prev: `1:0:${prev}` });
  first.say([change(3, 2)]);
  assert.deepEqual((await first.wants("subscribe", 1)).subscriptions, [{ channel: "book", symbols: ["A"], on_slow: "skip" }]);
  first.cut();
  const second = await Line.at(1);
  const resume = await second.wants("subscribe");
  assert.equal(resume.cursor, "c");
  second.acknowledge(resume);
  second.say({ op: "replay_done", id: resume.id, channel: "book", symbol: "*" });
  const again = await second.wants("subscribe", 1);
  assert.deepEqual(again.subscriptions, [{ channel: "book", symbols: ["A"], on_slow: "skip" }]);
  second.acknowledge(again);
  assert.deepEqual([live.book("A").isComplete, second.asked.some(({ op }) => op === "unsubscribe")], [false, false]);
  second.say([{ ...BOOK, seq: "1:0:3" }]);
  assert.equal(live.book("A").isComplete, true);
  assert.deepEqual((await second.wants("unsubscribe")).subscriptions, [{ channel: "book", symbols: ["A"] }]);
  // Of its own subscriptions the client says nothing.
  assert.deepEqual(events.filter(({ type }) => type === "ack").length, 1);
  live.close();
});

// A name that the client had subscribed to for a broken book stood in the way of what the user asked for.
test("what mends a book gives way to what the user asks for, and what is held by name is given up and asked for again", async () => {
  const { live, events } = client();
  void live.subscribe("book", ["A*", "B"]);
  const line = await Line.at(0);
  line.acknowledge(await line.wants("subscribe"));
  const of = (symbol: string, seq: number, prev?: number): object => ({ ...BOOK, symbol, seq: `1:0:${seq}`, ...(prev === undefined ? {} : { prev: `1:0:${prev}`, snapshot: undefined }) });
  line.say([of("A", 1), of("B", 1)]);
  line.say([of("A", 3, 2), of("B", 3, 2)]);
  const again = await until(() => (line.asked.filter(({ op }) => op === "subscribe").length === 3 ? line.asked.filter(({ op }) => op !== "ping" && op !== "set").slice(1) : undefined), "both");
  assert.deepEqual(again.map(({ op, subscriptions }) => [op, subscriptions?.[0]?.symbols]), [["subscribe", ["A"]], ["unsubscribe", ["B"]], ["subscribe", ["B"]]]);
  void live.unsubscribe("book", "A*");
  const last = line.asked.slice(-2);
  assert.deepEqual(last.map(({ op, subscriptions }) => [op, subscriptions?.[0]?.symbols]), [["unsubscribe", ["A"]], ["unsubscribe", ["A*"]]]);
  // Who is not granted his book again is told, and has none.
  line.acknowledge(again[2] as (typeof again)[0], "forbidden");
  assert.deepEqual(events.flatMap((event) => (event.type === "error" ? [[event.code, event.symbol]] : [])), [["forbidden", "B"]]);
  live.close();
});

/** What was asked for of books, from the n-th request on. */
const wanted = ({ asked }: Line, n = 0): unknown[] => asked.flatMap(({ op, subscriptions }) => (subscriptions === undefined ? [] : [[op, ...(subscriptions[0]?.symbols ?? [])]])).slice(n);
const BREAK = { ...BOOK, snapshot: undefined, seq: "1:0:3", prev: "1:0:2" };

// It was given up, the subscribe behind that was refused as a whole, and the client waited for its next change, which could not come.
test("a book that was given up for its state, and refused as a whole, is asked for again when the gateway's time has passed", async (t) => {
  const { live, events } = client();
  void live.subscribe("book", "A");
  const line = await Line.at(0);
  line.acknowledge(await line.wants("subscribe"));
  line.say([BOOK]);
  line.say([BREAK]);
  const again = await line.wants("subscribe", 1);
  t.mock.timers.enable({ apis: ["setTimeout"] });
  line.acknowledge(await line.wants("unsubscribe"));
  line.say({ op: "error", id: again.id, code: "rate_limited", number: 4429, message: "no", fatal: false, retry_after_ms: 5_000 });
  assert.deepEqual(events.flatMap((event) => (event.type === "error" ? [[event.code, event.symbol]] : [])), [["rate_limited", "A"], ["book_broken", "A"]]);
  t.mock.timers.tick(4_000);
  assert.equal(wanted(line).length, 3);
  t.mock.timers.tick(1_000);
  assert.deepEqual(wanted(line, 3), [["unsubscribe", "A"], ["subscribe", "A"]]);
  line.acknowledge(line.asked.at(-1) as (typeof line.asked)[0]);
  line.say([{ ...BOOK, seq: "1:0:3" }]);
  assert.equal(live.book("A").isComplete, true);
  t.mock.timers.tick(100_000);
  assert.equal(wanted(line).length, 5);
  live.close();
});

// The gateway held none, and refused to end it: it was asked for again all the same.
test("a book that waits to be asked for again can be given up", async (t) => {
  const { live } = client();
  void live.subscribe("book", "A");
  const line = await Line.at(0);
  line.acknowledge(await line.wants("subscribe"));
  line.say([BOOK]);
  line.say([BREAK]);
  const again = await line.wants("subscribe", 1);
  t.mock.timers.enable({ apis: ["setTimeout"] });
  line.say({ op: "error", id: again.id, code: "internal", number: 4500, message: "no", fatal: false });
  void live.unsubscribe("book", "A");
  line.acknowledge(line.asked.at(-1) as (typeof line.asked)[0], "bad_request");
  t.mock.timers.tick(100_000);
  assert.deepEqual(wanted(line, 3), [["unsubscribe", "A"]]);
  live.close();
});

// The client gave it up and subscribed to it behind the user's unsubscribe: its events came for ever, though it was acknowledged that it had ended.
for (const asksAgain of [false, true]) {
  test(`a book that breaks while its end is under way has ended${asksAgain ? ", unless it was asked for since" : ""}`, async () => {
    const { live, events } = client();
    void live.subscribe("book", "A");
    const line = await Line.at(0);
    line.acknowledge(await line.wants("subscribe"));
    line.say([BOOK]);
    void live.unsubscribe("book", "A");
    line.say([BREAK]);
    await line.wants("subscribe", 1);
    if (asksAgain) void live.subscribe("book", "A");
    const [, ...asked] = line.asked;
    for (const request of asked) line.acknowledge(request);
    const own = [["unsubscribe", "A"], ["unsubscribe", "A"], ["subscribe", "A"]];
    assert.deepEqual(wanted(line, 1), [...own, asksAgain ? ["subscribe", "A"] : ["unsubscribe", "A"]]);
    // What came before that was known is not kept.
    line.say([{ ...BOOK, seq: "1:0:3" }]);
    line.acknowledge(line.asked.at(-1) as (typeof line.asked)[0]);
    assert.equal(live.book("A").isComplete, asksAgain);
    assert.equal(events.filter(({ type }) => type === "ack").length, asksAgain ? 3 : 2);
    live.close();
  });
}
