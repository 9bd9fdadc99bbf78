/** What a new session goes on with, and what the streams of a client keep over it. Nothing here has a connection. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Backoff, type Book, type Channel, type Gap, type TickgateEvent, type Trade } from "../../src/index.js";
import { beginsInPast, Held, type SubscribeOptions } from "../../src/held.js";
import { Recovery } from "../../src/recovery.js";
import type { Answer, Session } from "../../src/session.js";
import { Streams } from "../../src/streams.js";

const none = (): undefined => undefined;
const at = (offset: number): string => `1:0:${offset}`;

function trade(symbol: string, offset: number, more: Partial<Trade> = {}): Trade {
  return { type: "trade", symbol, price: "1", size: "1", seq: at(offset), event_ns: 1n, ingest_ns: 1n, ...more };
}

function book(symbol: string, offset: number, prev?: number): Book {
  const event: Book = { type: "book", symbol, bids: [[String(offset), "1"]], asks: [], seq: at(offset), event_ns: 1n, ingest_ns: 1n };
  return prev === undefined ? { ...event, snapshot: true } : { ...event, prev: at(prev) };
}

/** The parts of a client that know what it holds, and a session that answers when it is told to. */
class Client {
  readonly events: TickgateEvent[] = [];
  readonly lost: string[] = [];
  readonly asked: { body: Record<string, unknown>; answered: (answer: Answer) => void }[] = [];
  readonly held = new Held();
  readonly broken: string[] = [];
  readonly streams = new Streams({ handOut: (event) => this.events.push(event), bookBroke: (symbol) => this.broken.push(symbol), bookIsWhole: none, isLive: none, booksFull: none }, this.held, 10);
  readonly recovery: Recovery = new Recovery(this.held, this.streams, new Backoff(), { onLost: ({ symbol }) => this.lost.push(symbol), onNoReplay: (channel, symbol) => this.events.push({ type: "replay_done", channel, symbol }), onProgress: none });

  acknowledged(channel: Channel, symbol: string, options: SubscribeOptions = {}): void {
    this.held.add(channel, symbol, options);
    if (beginsInPast(options)) this.streams.begun(channel, symbol);
    else this.streams.subscribed(channel, symbol, true);
  }

  ended(channel: Channel, symbol: string): void {
    this.streams.unsubscribed(channel, symbol, this.recovery.forget(channel, symbol));
  }

  /** Begins a session; gives what it asks for. */
  comeBack(): Record<string, unknown>[] {
    this.asked.length = 0;
    const session = {
      isReady: true,
      request: (body: Record<string, unknown>, answered: (answer: Answer) => void): number => this.asked.push({ body, answered }),
    };
    this.recovery.begin(session as unknown as Session);
    return this.asked.map(({ body }) => body);
  }

  /** A replay is done; gives whether the user is told. */
  isDone(channel: Channel, symbol: string): boolean {
    let isTold = false;
    this.recovery.replayDone(channel, symbol, () => (isTold = true));
    return isTold;
  }

  /** The session acknowledges everything. */
  takeAll(): void {
    for (const { answered } of this.asked) answered({ op: "ack", ok: true });
  }
}

// A cursor had come before a subscription with a past was acknowledged, and the session was lost before the next one: it went on from
// that cursor, which says nothing of the past, and all between its beginning and the cursor was gone without a gap.
test("what a cursor does not cover goes on from where it was, or from where it was to begin", () => {
  const held = new Held();
  const past = { from: { time_ns: 3n } };
  held.add("quotes", "Q", {});
  held.covered();
  for (const name of ["P*", "NONE", "SOME"]) held.add("trades", name, { snapshot: 5, ...past });
  held.add("trades", "DONE*", past);
  held.takeDone("trades", "DONE*");
  held.add("status", "*", {});
  held.add("status", "SEEN", {});
  const last = (_: Channel, symbol: string): string | undefined => (["Q", "SOME", "SEEN"].includes(symbol) ? at(9) : undefined);
  const positions = [
    { channel: "trades", symbols: ["SOME"], from: { seq: at(9) } },
    { channel: "status", symbols: ["SEEN"], from: { seq: at(9) } },
  ];
  assert.deepEqual(held.resume("c", last), [
    { subscriptions: positions },
    // What was played to its end, or had no past, needs nothing that is older than any cursor.
    {
      cursor: "c",
      subscriptions: [
        { channel: "quotes", symbols: ["Q"] },
        { channel: "trades", symbols: ["DONE*"] },
        { channel: "status", symbols: ["*"] },
      ],
    },
    { subscriptions: [{ channel: "trades", symbols: ["P*", "NONE"], from: { time_ns: "3" } }] },
  ]);
  held.covered();
  assert.deepEqual(held.resume("d", last).map(({ cursor }) => cursor), ["d"]);
});

// Who waited for the end of a past that was cut off in its midst waited for ever: after a new session no `replay_done` was handed out.
test("the end of a past is told once, also when another session brings it", () => {
  const client = new Client();
  client.acknowledged("quotes", "Q");
  client.recovery.keepCursor("c");
  client.acknowledged("trades", "*", { from: { time_ns: 3n } });
  client.streams.frame([trade("A", 1, { replay: true }), trade("A", 4, { prev: at(1), replay: true })], 100);
  assert.deepEqual(client.comeBack(), [
    { op: "subscribe", subscriptions: [{ channel: "quotes", symbols: ["Q"] }], cursor: "c" },
    { op: "subscribe", subscriptions: [{ channel: "trades", symbols: ["*"], from: { time_ns: "3" } }] },
  ]);
  client.takeAll();
  client.streams.frame([trade("A", 1, { replay: true }), trade("A", 4, { prev: at(1), replay: true }), trade("A", 6, { prev: at(4), replay: true })], 100);
  assert.deepEqual(client.events.map((event) => (event as Trade).seq), [at(1), at(4), at(6)]);
  assert.deepEqual([client.isDone("quotes", "Q"), client.isDone("trades", "*")], [false, true]);
  client.comeBack();
  assert.equal(client.isDone("trades", "*"), false);
});

// The key that cursors are made with had been changed: the client asked for everything as if it had never seen it, with a gap of each symbol, though
// it knew where it stood in each of them.
test("where a cursor is refused, symbols go on from their last positions", () => {
  const client = new Client();
  for (const name of ["A", "NEW", "P*"]) client.acknowledged("trades", name);
  client.streams.frame([trade("A", 5), trade("PA", 3)], 10);
  client.recovery.keepCursor("c");
  const [{ cursor }, ...others] = client.comeBack() as [{ cursor: string }];
  assert.deepEqual([cursor, others], ["c", []]);
  client.asked[0]?.answered({ op: "error", id: 1, code: "bad_request", number: 4400, message: "not a cursor", fatal: false });
  assert.equal(client.recovery.cursor, undefined);
  assert.deepEqual(client.asked.slice(1).map(({ body }) => body), [
    { op: "subscribe", subscriptions: [{ channel: "trades", symbols: ["A"], from: { seq: at(5) } }] },
    { op: "subscribe", subscriptions: [{ channel: "trades", symbols: ["NEW", "P*"] }] },
  ]);
  client.streams.frame([trade("A", 7, { prev: at(5), replay: true })], 10);
  assert.deepEqual(client.events.filter(({ type }) => type === "gap").map((gap) => (gap as Gap).symbol), ["NEW", "P*"]);
  assert.equal(client.streams.counts.unannounced, 0);
  assert.deepEqual(client.lost, []);
});

// A pattern had brought a symbol of which the past was then asked for: what came of the past stood before what the pattern had brought, and
// was discarded as duplicates.
test("a past that is asked for is given, also of what was seen", () => {
  const client = new Client();
  client.acknowledged("trades", "*");
  client.streams.frame([trade("A", 8)], 10);
  client.acknowledged("trades", "A", { from: { seq: at(2) } });
  assert.equal(client.streams.last("trades", "A"), undefined);
  client.streams.frame([trade("A", 5, { prev: at(2), replay: true }), trade("A", 8, { prev: at(5), replay: true })], 10);
  assert.deepEqual(client.events.map((event) => (event as Trade).seq), [at(8), at(5), at(8)]);
});

// `book *` was unsubscribed from, and the books that were held by their names ended with it: their next updates were ignored, no snapshot came
// as the gateway had ended nothing, and they were never complete again.
test("what becomes of a pattern is nothing to what is held by name, or by a longer pattern", () => {
  const client = new Client();
  for (const [name, depth] of [["A", 5], ["B*", 5], ["*", 1]] as const) client.acknowledged("book", name, { depth });
  client.streams.frame(["A", "BA", "C"].map((symbol) => book(symbol, 1)), 10);
  const [a, b, c] = ["A", "BA", "C"].map((symbol) => client.streams.book(symbol));
  client.ended("book", "*");
  client.streams.frame([book("A", 2, 1), book("BA", 2, 1)], 10);
  assert.deepEqual([a?.levelCounts, b?.levelCounts, c?.isComplete], [[2, 0], [2, 0], false]);
  // A break right behind it is still one.
  client.acknowledged("book", "*");
  client.streams.frame([book("A", 4, 3)], 10);
  assert.deepEqual([client.streams.counts.unannounced, a?.isComplete], [1, false]);
});

// A book was given up by its name while a pattern went on that brings it just so: the gateway sends no state then, as nothing has ended, but
// the client had thrown its book away and ignored all that came. With another depth the state comes, into a book that nobody had.
test("what a pattern goes on to bring is kept, or begins anew where its options are others", () => {
  const client = new Client();
  client.acknowledged("book", "*", { on_slow: "skip" });
  client.acknowledged("book", "A");
  client.streams.frame([book("A", 1)], 10);
  const keeper = client.streams.book("A");
  client.ended("book", "A");
  client.streams.frame([book("A", 2, 1)], 10);
  assert.equal(client.streams.book("A"), keeper);
  assert.deepEqual([keeper?.isComplete, keeper?.levelCounts], [true, [2, 0]]);
  client.acknowledged("book", "A*", { depth: 1 });
  client.streams.frame([book("A", 2)], 10);
  assert.deepEqual(keeper?.levelCounts, [1, 0]);
  client.ended("book", "A*");
  assert.equal(keeper?.isComplete, false);
  client.streams.frame([book("A", 2), book("A", 3, 2)], 10);
  assert.deepEqual(keeper?.levelCounts, [2, 0]);
  assert.equal(client.streams.counts.duplicates + client.streams.counts.unannounced, 0);
  // Nobody asks for it any more.
  client.ended("book", "*");
  assert.equal(keeper?.isComplete, false);
  assert.equal(client.streams.last("book", "A"), undefined);
});

// `Live.cursor` promised that a client of another process could go on from it, and nothing took one. With the cursor of the session itself, which is
// newer, all in between would be lost.
test("what was to begin at a cursor of its own goes on from that until another one covers it", () => {
  const client = new Client();
  client.acknowledged("quotes", "Q");
  client.recovery.keepCursor("new");
  for (const name of ["P*", "NONE", "SOME"]) client.acknowledged("trades", name, { cursor: "old", snapshot: 3 });
  client.streams.frame([trade("SOME", 4, { replay: true })], 10);
  const some = { op: "subscribe", subscriptions: [{ channel: "trades", symbols: ["SOME"], from: { seq: at(4) } }] };
  const quotes = { op: "subscribe", cursor: "new", subscriptions: [{ channel: "quotes", symbols: ["Q"] }] };
  const others = { op: "subscribe", cursor: "old", subscriptions: [{ channel: "trades", symbols: ["P*", "NONE"] }] };
  assert.deepEqual(client.comeBack(), [some, quotes, others]);
  client.takeAll();
  client.recovery.keepCursor("newer");
  assert.deepEqual(client.comeBack().map(({ cursor }) => cursor), ["newer"]);
  assert.equal(client.isDone("trades", "P*"), true);
});

test("whoever waits for a past whose cursor is refused is told of a gap, and waits no longer", () => {
  const client = new Client();
  client.acknowledged("trades", "P*", { cursor: "old" });
  assert.deepEqual(client.comeBack().map(({ cursor }) => cursor), ["old"]);
  client.asked[0]?.answered({ op: "error", id: 1, code: "bad_request", number: 4400, message: "not a cursor", fatal: false });
  assert.deepEqual(client.asked[1]?.body, { op: "subscribe", subscriptions: [{ channel: "trades", symbols: ["P*"] }] });
  assert.deepEqual(client.events.map(({ type }) => type), ["gap", "replay_done"]);
});

// Something live of `AB1` said that `A*` had caught up, where `AB*` was what brought it: the session was live before `A*` was.
test("what is live says that the most specific subscription has caught up, and no other", () => {
  for (const [symbol, name] of [["AB1", "AB*"], ["A", "A*"], ["B", "*"], ["ABX", "ABX"]] as const) {
    const client = new Client();
    const names = ["*", "A*", "AB*", "ABX"];
    for (const one of names) client.acknowledged("trades", one);
    client.recovery.keepCursor("c");
    client.comeBack();
    client.takeAll();
    for (let n = 0; n < 2; n++) client.recovery.live("trades", symbol);
    for (const other of names.filter((one) => one !== name)) {
      assert.equal(client.recovery.isDone, false, `${symbol} before ${other}`);
      client.isDone("trades", other);
    }
    assert.equal(client.recovery.isDone, true, symbol);
  }
});

// A whole book that nobody had seen, or whose depth was another one before, went on with its changes alone: it was never complete, or said that it was and had
// some of its levels.
test("a whole book that lacks its state begins anew, and what is answered with a state goes on", () => {
  const client = new Client();
  client.acknowledged("quotes", "Q");
  client.recovery.keepCursor("c");
  for (const name of ["SEEN", "DEEPER", "BROKEN"]) client.acknowledged("book", name, name === "DEEPER" ? { depth: 1 } : {});
  client.streams.frame(["SEEN", "DEEPER", "BROKEN"].map((symbol) => book(symbol, 1)), 10);
  client.streams.frame([book("BROKEN", 5, 4)], 10);
  client.acknowledged("book", "DEEPER");
  for (const name of ["NEW", "P*"]) client.acknowledged("book", name, { on_slow: "skip" });
  for (const [name, options] of [["TOP*", { depth: 5 }], ["SLOW*", { conflate_ms: 100 }]] as const) client.acknowledged("book", name, options);
  client.acknowledged("book", "MINE*", { cursor: "kept with the book" });
  const asked = client.comeBack() as { cursor?: string; subscriptions: { symbols: string[]; from?: unknown }[] }[];
  const how = asked.flatMap(({ cursor, subscriptions }) => subscriptions.map(({ symbols, from }) => [symbols.join(), cursor ?? from]));
  assert.deepEqual(how, [
    ["SEEN", { seq: at(1) }],
    ["Q", "c"],
    ["TOP*", "c"],
    ["SLOW*", "c"],
    ["MINE*", "kept with the book"],
    ["DEEPER,BROKEN", undefined],
    ["NEW,P*", undefined],
  ]);
  const gaps = client.events.filter((event) => event.type === "gap").map((gap) => (gap as Gap).symbol);
  assert.deepEqual(gaps, ["BROKEN", "DEEPER", "BROKEN", "NEW", "P*"]);
  // What a cursor covers has its state.
  client.takeAll();
  client.recovery.keepCursor("d");
  assert.deepEqual(client.comeBack().map(({ cursor }) => cursor), ["d"]);
});

// A gap was told, and the session ended before the state behind it came: the next one brought changes, and the book stayed empty for ever.
test("changes of a book that was whole and is not are a break, unless they are of the past", () => {
  const client = new Client();
  client.acknowledged("book", "*");
  client.streams.frame([book("A", 1), book("NEW", 1)], 10);
  client.streams.frame([{ type: "gap", channel: "book", symbol: "A", cause: "overload", after: at(1), upto: at(4) }], 10);
  client.streams.frame([{ ...book("A", 5, 4), replay: true }], 10);
  assert.deepEqual(client.broken, []);
  client.streams.frame([book("A", 6, 5)], 10);
  assert.deepEqual(client.broken, ["A"]);
});
