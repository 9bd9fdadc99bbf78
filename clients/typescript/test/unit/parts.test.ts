/** Parts that need no connection: frames, numbers, times, books, waits, latencies, what a new session asks for. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import {
  type AckResult,
  Backoff,
  BadFrame,
  type Book,
  BookKeeper,
  compareDecimals,
  connect,
  decode,
  Histogram,
  isDecimal,
  type TickgateError,
  toDate,
  toFixedPoint,
  toIso,
  toNs,
} from "../../src/index.js";
import { hintOf, withHint } from "../../src/errors.js";
import { Held, parts } from "../../src/held.js";
import { Skew } from "../../src/latency.js";
import { plainly } from "../../src/socket.js";
import { worstOf } from "../../src/stats.js";
import { Line } from "../support/line.js";
import { until } from "../support/programs.js";

const GOLDEN = resolve("../../protocol/tests/golden/events.jsonl");

test("the golden events of the protocol are read as they are", () => {
  const lines = readFileSync(GOLDEN, "utf8").trim().split("\n");
  const message = decode(`[${lines.join(",")}]`);
  assert.equal(message.kind, "events");
  const texts = (message.kind === "events" ? message.events : []).map((event) =>
    JSON.stringify(event, (_, value: unknown) => (typeof value === "bigint" ? value.toString() : value)),
  );
  assert.deepEqual(texts, lines);
});

test("whatever comes, it is read or refused", () => {
  const good = readFileSync(GOLDEN, "utf8").trim().split("\n");
  const read = (text: string): void => {
    try {
      decode(text);
    } catch (error) {
      assert.ok(error instanceof BadFrame, `${text}: ${String(error)}`);
    }
  };
  fc.assert(fc.property(fc.string(), read));
  fc.assert(fc.property(fc.json(), (text) => (read(text), read(`[${text}]`))));
  // A good one with one field that is something else.
  fc.assert(
    fc.property(fc.constantFrom(...good), fc.nat(20), fc.jsonValue(), (line, at, value) => {
      const event = JSON.parse(line) as Record<string, unknown>;
      const names = Object.keys(event);
      event[names[at % names.length] as string] = value;
      read(`[${JSON.stringify(event)}]`);
    }),
  );
  for (const bad of ['[{"type":"trade","symbol":"A","price":"1","size":"1","seq":"1:0:1","event_ns":"","ingest_ns":"1"}]', '{"op":"hello"}', '{"op":"constructor"}', "{}"]) {
    assert.throws(() => decode(bad), BadFrame, bad);
  }
});

// Chance found it: an event whose type is an object with a `toString` made the error message throw, and that was no bad frame but the end of
// whoever read it.
test("a type that is no text is refused without asking it what it is called", () => {
  for (const event of [{ symbol: "A", type: { toString: [] } }, { type: { toString: 1, valueOf: 1 } }, { symbol: "A" }, {}]) {
    assert.throws(() => decode(JSON.stringify([event])), BadFrame);
  }
});

test("a field that cannot be taken is refused, whichever it is", () => {
  const lines = readFileSync(GOLDEN, "utf8").trim().split("\n");
  const gap = '{"type":"gap","symbol":"A","channel":"trades","cause":"overload","after":"1:0:1","upto":"1:0:2","count":1}';
  for (const line of [...lines, gap]) {
    const event = JSON.parse(line) as Record<string, unknown>;
    for (const name of Object.keys(event)) {
      assert.throws(() => decode(JSON.stringify([{ ...event, [name]: { no: 1 } }])), BadFrame, `${line}: ${name}`);
    }
  }
  assert.doesNotThrow(() => decode(`[${gap.replace("}", ',"new":{"field":1}}')}]`), "what nobody knows yet is no fault");
});

test("decimals are exact", () => {
  const decimal = fc.tuple(fc.bigInt({ min: -(10n ** 18n), max: 10n ** 18n }), fc.integer({ min: 0, max: 12 })).map(([mantissa, scale]) => {
    const digits = (mantissa < 0n ? -mantissa : mantissa).toString().padStart(scale + 1, "0");
    const text = scale === 0 ? digits : `${digits.slice(0, -scale)}.${digits.slice(-scale)}`;
    return { text: mantissa < 0n ? `-${text}` : text, value: mantissa * 10n ** BigInt(12 - scale) };
  });
  fc.assert(
    fc.property(decimal, decimal, (a, b) => {
      assert.ok(isDecimal(a.text), a.text);
      assert.equal(toFixedPoint(a.text, 12), a.value);
      assert.equal(Math.sign(compareDecimals(a.text, b.text)), a.value < b.value ? -1 : a.value > b.value ? 1 : 0);
    }),
  );
  for (const [less, more] of [["9007199254740992", "9007199254740993"], ["0.100000000000000001", "0.100000000000000002"], ["-2", "-1.99999999999999999"]] as const) {
    assert.ok(compareDecimals(less, more) < 0 && compareDecimals(more, less) > 0, `${less} and ${more}`);
  }
  assert.equal(compareDecimals("9.50", "9.5"), 0);
  assert.equal(toFixedPoint("487.50", 1), 4_875n);
  assert.throws(() => toFixedPoint("487.55", 1), RangeError);
  for (const text of ["", "-", ".5", "5.", "1e3", "NaN", " 1", "0x1", 5]) assert.equal(isDecimal(text), false, String(text));
});

test("times keep their nanoseconds", () => {
  assert.equal(toIso(1_381_150_800_000_000_001n), "2013-10-07T13:00:00.000000001Z");
  assert.equal(toIso(-1n), "1969-12-31T23:59:59.999999999Z");
  assert.equal(toDate(1_381_150_800_123_999_999n).toISOString(), "2013-10-07T13:00:00.123Z");
  assert.equal(toDate(-1n).getTime(), -1);
  assert.equal(toNs("2013-10-07T13:00:00.123Z"), 1_381_150_800_123_000_000n);
  assert.throws(() => toNs("yesterday"), RangeError);
});

const change = (bids: [string, string][], asks: [string, string][], snapshot = false): Book => {
  const event: Book = { type: "book", symbol: "B", seq: "1:0:1", event_ns: 1n, ingest_ns: 1n, bids, asks };
  return snapshot ? { ...event, snapshot: true } : event;
};

test("a book is what its changes make of it", () => {
  const level = fc.tuple(fc.integer({ min: 1, max: 40 }).map((n) => (n % 2 === 0 ? `${n}` : `${n}.0`)), fc.integer({ min: 0, max: 3 }).map(String));
  const event = fc.record({ bids: fc.array(level, { maxLength: 6 }), asks: fc.array(level, { maxLength: 6 }), snapshot: fc.boolean() });
  fc.assert(
    fc.property(fc.array(event, { maxLength: 20 }), fc.constantFrom(0, 1, 5), (events, depth) => {
      const book = new BookKeeper(depth);
      let [bids, asks, isComplete] = [new Map<number, string>(), new Map<number, string>(), false];
      for (const { bids: b, asks: a, snapshot } of events) {
        book.apply(change(b, a, snapshot));
        if (snapshot) [bids, asks, isComplete] = [new Map(), new Map(), true];
        if (!isComplete) continue;
        for (const [side, levels, up] of [[bids, b, -1], [asks, a, 1]] as const) {
          for (const [price, size] of levels) size === "0" ? side.delete(Number(price)) : side.set(Number(price), size);
          const kept = [...side.entries()].sort(([x], [y]) => (x - y) * up);
          if (depth > 0) for (const [price] of kept.slice(depth)) side.delete(price);
        }
      }
      assert.equal(book.isComplete, isComplete);
      assert.deepEqual(book.bids().map(([price, size]) => [Number(price), size]), [...bids.entries()].sort(([x], [y]) => y - x));
      assert.deepEqual(book.asks().map(([price, size]) => [Number(price), size]), [...asks.entries()].sort(([x], [y]) => x - y));
    }),
  );
});

test("waits grow to a bound, and who was told when to come comes then", () => {
  for (const random of [() => 0, () => 0.999_999]) {
    const backoff = new Backoff({}, random);
    const bounds = [[0, 100], [100, 200], [200, 400], [400, 800], [800, 1_600], [1_600, 3_200], [2_500, 5_000], [2_500, 5_000]] as const;
    for (const [least, most] of bounds) {
      const wait = backoff.next();
      assert.ok(wait >= least && wait <= most, `${wait}`);
    }
    backoff.reset();
    assert.ok(backoff.next() <= 100);
    for (const [told, least, most] of [[1_000, 1_000, 1_500], [1e9, 30_000, 45_000]] as const) {
      const wait = backoff.next(told);
      assert.ok(wait >= least && wait <= most, `${wait}`);
    }
  }
});

/** A session that was ended as soon as it was live made the next wait a first one. */
test("only a session that lasts shows that all is well", () => {
  const backoff = new Backoff();
  for (let attempts = 1; attempts < 10; attempts++) {
    backoff.lived(1_999);
    backoff.next();
    assert.equal(backoff.attempts, attempts);
  }
  backoff.lived(2_000);
  assert.equal(backoff.attempts, 0);
});

test("latencies are within their buckets, and the quickest round trip tells the skew", () => {
  const histogram = new Histogram();
  for (let ns = 1; ns <= 1_000; ns++) histogram.record(ns * 1_000);
  for (const share of [0.01, 0.5, 0.99, 1]) {
    const error = histogram.quantileNs(share) / (share * 1_000_000);
    assert.ok(error > 0.99 && error < 1.06, `${share}: ${error}`);
  }
  histogram.record(-5);
  assert.equal(histogram.count, 1_001);
  assert.equal(new Histogram().quantileNs(0.5), 0);
  const skew = new Skew();
  skew.trip(0, 100, 1_050);
  skew.trip(200, 210, 1_225); // quicker: 20 ahead of 1,005 + 200
  assert.deepEqual(skew.best, { roundTripNs: 10, skewNs: 1_020 });
});

test("a new session asks for what is held, from the cursor or from positions", () => {
  const held = new Held();
  held.add("trades", "A", { snapshot: 5 });
  held.add("trades", "B", { snapshot: 5, from: { time_ns: 3n } });
  held.add("quotes", "Q*", { conflate_ms: 100 });
  held.add("book", "A", { depth: 5 });
  held.covered();
  assert.deepEqual(held.resume("c", () => undefined), [
    {
      cursor: "c",
      subscriptions: [
        { channel: "trades", symbols: ["A", "B"] },
        { channel: "quotes", symbols: ["Q*"], conflate_ms: 100 },
        { channel: "book", symbols: ["A"], depth: 5 },
      ],
    },
  ]);
  const last = (_: string, symbol: string): string | undefined => (symbol === "A" ? "1:0:9" : undefined);
  assert.deepEqual(held.resume(undefined, last), [
    {
      subscriptions: [
        { channel: "trades", symbols: ["A"], from: { seq: "1:0:9" } },
        { channel: "book", symbols: ["A"], depth: 5, from: { seq: "1:0:9" } },
      ],
    },
    {
      subscriptions: [
        { channel: "trades", symbols: ["B"], from: { time_ns: "3" } },
        { channel: "quotes", symbols: ["Q*"], conflate_ms: 100 },
      ],
    },
  ]);
  held.add("book", "A*", { depth: 1 });
  held.add("book", "*", {});
  assert.deepEqual([held.optionsOf("book", "A"), held.optionsOf("book", "AB"), held.optionsOf("book", "C"), held.optionsOf("status", "C")], [{ depth: 5 }, { depth: 1 }, {}, undefined]);
  const many = parts(Array.from({ length: 2_500 }, (_, n) => `S${n}`));
  assert.deepEqual(many.map((part) => part.length), [1_000, 1_000, 500]);
});

// "AAPL,MSFT" was acknowledged as one symbol, and nothing came.
test("a name that nobody knows and that has a comma in it is told to be one name", () => {
  const hint = (symbol: string, more: Partial<AckResult>): string => withHint({ channel: "trades", symbol, ok: true, ...more }).hint ?? "";
  const [unseen, unknown] = [{ seen: false }, { ok: false, code: "unknown_symbol" }];
  for (const more of [unseen, unknown]) assert.match(hint("AAPL,MSFT", more), /as an array, \["AAPL", "MSFT"\]/);
  assert.match(hint("AAPL", unseen), /no record has named/);
  assert.match(hint("AAPL,MSFT", { ok: false, code: "forbidden" }), /does not grant/);
  assert.equal(hint("AAPL,MSFT", {}), "");
});

test("how the feeds are is that of the worst, and unknown until they are known", () => {
  const feed = (state: "live" | "stale" | "down") => ({ name: state, state, lag_records: 0 });
  assert.equal(worstOf([]), "unknown");
  assert.equal(worstOf([feed("live"), feed("live")]), "live");
  assert.equal(worstOf([feed("stale"), feed("live")]), "stale");
  assert.equal(worstOf([feed("live"), feed("stale"), feed("down")]), "down");
});

const addressOf = async (url: string): Promise<string> => {
  let opened = "";
  class Addressed extends Line {
    constructor(at: string) {
      super();
      opened = at;
    }
  }
  const live = connect(url, { WebSocket: Addressed });
  await until(() => opened, "a socket");
  live.close();
  return opened;
};

test("an address without a path is that of the stream there", async () => {
  for (const [url, opened] of [["ws://a:1", "ws://a:1/v1/stream"], ["wss://a/", "wss://a/v1/stream"], ["ws://a/other/stream", "ws://a/other/stream"]] as const) assert.equal(await addressOf(url), opened);
});

// The first script died of it in a line that nobody had written.
test("a runtime without a WebSocket is told, and what to pass", (t) => {
  const own = Object.getOwnPropertyDescriptor(globalThis, "WebSocket");
  t.after(() => own && Object.defineProperty(globalThis, "WebSocket", own));
  delete (globalThis as { WebSocket?: unknown }).WebSocket;
  assert.throws(() => connect("ws://a/"), (error: TickgateError) => error.code === "no_websocket" && /Node before version 22/.test(error.message) && /package `ws`.* Node from 22 on/.test(error.hint));
});

// Programs of Node were asked for the origin of their page.
test("only a page is told of origins", async (t) => {
  const codes = ["connect_failed", "forbidden"];
  for (const code of codes) assert.doesNotMatch(hintOf(code), /origin/);
  Object.defineProperty(globalThis, "location", { value: {}, configurable: true });
  t.after(() => delete (globalThis as { location?: unknown }).location);
  const again = "../../src/errors.js?of-a-page";
  const page = (await import(again)) as typeof import("../../src/errors.js");
  for (const code of codes) assert.match(page.hintOf(code), /origin/);
});

test("what OpenSSL says of a port without TLS is told plainly, and nothing else is", () => {
  const wrong = "write EPROTO 80BC:error:0A00010B:SSL routines:ssl3_get_record:wrong version number:../deps/openssl/ssl3_record.c:350:";
  const hungUp = "Client network socket disconnected before secure TLS connection was established";
  for (const why of [wrong, hungUp]) assert.match(plainly("wss://a/", why), /no TLS .* try ws:\/\/ in place of wss:\/\/$/);
  for (const [url, why] of [["ws://a/", wrong], ["wss://a/", "self-signed certificate"]] as const) assert.equal(plainly(url, why), why);
});

test("an address with something like a token in it is refused, and not repeated", () => {
  for (const url of ["http://a/v1/stream", "ws://user:secret@a/", "ws://a/v1/stream?token=secret", "nothing"]) {
    assert.throws(
      () => connect(url),
      (error: Error & { code?: string }) => error.code === "bad_url" && !error.message.includes("secret"),
    );
  }
});
