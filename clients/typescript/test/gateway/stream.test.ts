/** What a client hands out of a real gateway: events, answers, books, gaps of a slow client, the past. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { WebSocket } from "ws";
import { connect, isMarketEvent, type Gap, type TickgateError, type Trade } from "../../src/index.js";
import { Collected } from "../support/collect.js";
import { produce } from "../support/kafka.js";
import { type Gateway, Stage, until } from "../support/programs.js";
import { book, quote, range, trade } from "../support/records.js";

const FEED = '[[feeds]]\ntopic = "ticks"\nsymbols = ["A", "B", "BOOK", "PAST", "SLOW", "ONE"]\n';
let stage: Stage;
let gateway: Gateway;

before(async () => {
  stage = await Stage.start();
  gateway = await stage.gateway(["session.heartbeat_ms=200"], { config: FEED });
});
after(() => stage.end());

test("events come with exact prices and times, and what was refused is named", async () => {
  const client = new Collected(gateway.url);
  const results = await client.live.subscribe("trades", ["A", "NOBODY"]);
  assert.deepEqual(
    results.map(({ symbol, ok, code }) => [symbol, ok, code]),
    [["A", true, undefined], ["NOBODY", false, "unknown_symbol"]],
  );
  // Of the one nothing was seen yet, the other is refused: both say what to do.
  assert.match(results[0]?.hint ?? "", /is it right\?/);
  assert.match(results[1]?.hint ?? "", /no such symbol/);
  assert.equal(client.live.stats().feedState, client.of("feed").at(-1)?.state ?? "unknown");
  assert.equal(client.of("ack")[0]?.ok, false);
  await produce(stage.broker, [trade("A", 1, { price: "487.50", side: "buy", venue: "Q" })]);
  await client.wait("trade", 1);
  const { seq, ingest_ns, ...rest } = client.of("trade")[0] as Trade;
  assert.match(seq, /^[0-9a-f]+:0:\d+$/);
  assert.ok(ingest_ns > 1_600_000_000_000_000_000n);
  assert.deepEqual(rest, {
    type: "trade",
    symbol: "A",
    price: "487.50",
    size: "1",
    side: "buy",
    trade_id: "1",
    venue: "Q",
    event_ns: 1_763_000_000_000_000_001n,
  });
  await until(() => client.live.stats().roundTrip_ns > 0 && client.live.cursor, "the gateway's clock and a cursor");
  assert.ok(client.live.stats().latency.count > 0);
  // As the next heartbeat says.
  await until(() => client.live.stats().feedState === "live", "a feed that is live");
  assert.deepEqual(client.steps, ["connecting", "live"]);
  assert.deepEqual((await client.live.list()).map(({ channel, symbol }) => [channel, symbol]), [["trades", "A"]]);
  client.live.close();
  assert.equal(client.live.state, "closed");
});

test("a snapshot comes first, then what follows it", async () => {
  await produce(stage.broker, [quote("B", 7)]);
  const before = new Collected(gateway.url);
  await before.live.subscribe("quotes", "B");
  await before.wait("quote", 1); // the gateway has read it
  before.live.close();
  const client = new Collected(gateway.url);
  await client.live.subscribe("quotes", "B");
  await client.wait("quote", 1);
  await produce(stage.broker, [quote("B", 8), quote("B", 9)]);
  await client.wait("quote", 3);
  assert.deepEqual(client.of("quote").map(({ bid_price, snapshot }) => [bid_price, snapshot]), [["7.00", true], ["8.00", undefined], ["9.00", undefined]]);
  const { duplicates, unannounced, gaps } = client.live.stats();
  assert.deepEqual({ duplicates, unannounced, gaps }, { duplicates: 0, unannounced: 0, gaps: 0 });
  client.live.close();
});

test("a book is kept in step, whole and at a depth", async () => {
  await produce(stage.broker, [book("BOOK", [["9.5", "1"], ["9", "2"]], [["10", "3"], ["10.5", "4"]], true)]);
  const clients = [0, 1].map((depth) => ({ depth, client: new Collected(gateway.url) }));
  for (const { depth, client } of clients) {
    await client.live.subscribe("book", "BOOK", { depth });
    await client.wait("book", 1);
  }
  await produce(stage.broker, [book("BOOK", [["9.50", "0"], ["9", "7"]], [["9.9", "1"]]), book("BOOK", [["9.7", "5"]], [["10.5", "0"]])]);
  const [whole, top] = clients.map(({ client }) => client.live.book("BOOK"));
  await until(() => whole?.bestBid?.[0] === "9.7" && top?.bestBid?.[0] === "9.7", "the last change");
  assert.deepEqual([whole?.bids(), whole?.asks()], [[["9.7", "5"], ["9", "7"]], [["9.9", "1"], ["10", "3"]]]);
  assert.deepEqual([top?.bids(), top?.asks()], [[["9.7", "5"]], [["9.9", "1"]]]);
  assert.equal(whole?.isComplete, true);
  for (const { client } of clients) client.live.close();
});

test("iterators give everything in order, and end with the client", async () => {
  const live = connect(gateway.url, { WebSocket });
  const acked = live.subscribe("trades", "ONE");
  const seen: string[] = [];
  const reading = (async () => {
    for await (const event of live) {
      seen.push(event.type === "state" ? event.state : event.type);
      if (event.type === "trade" && event.trade_id === "3") live.close();
    }
  })();
  await acked;
  await produce(stage.broker, range(1, 4).map((n) => trade("ONE", n)));
  await reading;
  // Where the machine has no time for heartbeats the line may look stale meanwhile.
  const steps = seen.filter((what, at) => what !== "feed" && what !== "stale" && !(what === "live" && seen.indexOf("live") < at));
  assert.deepEqual(steps, ["connecting", "ack", "live", "trade", "trade", "trade", "closed"]);
  await assert.rejects(live.subscribe("trades", "ONE"), { code: "closed" });
});

test("batches gather for as long as they may", async () => {
  const live = connect(gateway.url, { WebSocket });
  await live.subscribe("trades", "ONE");
  await produce(stage.broker, range(10, 20).map((n) => trade("ONE", n)));
  const ids: (string | undefined)[] = [];
  for await (const batch of live.batches({ maxWaitMs: 20 })) {
    for (const event of batch) if (event.type === "trade") ids.push(event.trade_id);
    if (ids.length >= 10) break;
  }
  live.close();
  assert.deepEqual(ids, range(10, 20).map(String));
});

test("the past is played and ends", async () => {
  await produce(stage.broker, range(0, 300).map((n) => trade("PAST", n)), 1);
  const client = new Collected(gateway.url);
  await client.live.subscribe("trades", "PAST");
  await produce(stage.broker, [trade("PAST", 300)], 1);
  await client.wait("trade", 1); // the gateway has read all of it
  const ids: (string | undefined)[] = [];
  for await (const event of client.live.replay({ channel: "trades", symbols: ["PAST"], from: new Date(Date.now() - 600_000) })) {
    if (event.type === "trade") {
      assert.equal(event.replay, true);
      ids.push(event.trade_id);
    }
  }
  assert.deepEqual(ids, range(0, 301).map(String));
  const books = client.live.replay({ channel: "trades", symbols: "NOBODY", from: new Date(0) });
  await assert.rejects(
    (async () => {
      for await (const _ of books);
    })(),
    (error: TickgateError) => error.code === "unknown_symbol" && error.symbol === "NOBODY" && error.hint !== "",
  );
  client.live.close();
});

test("a reader that stops is told what it missed, to the event", async () => {
  const small = await stage.gateway(["outbox.bytes_max=64KiB", "outbox.frame_bytes_max=64KiB", "outbox.stall_timeout_ms=60s"], { config: FEED });
  const total = 100_000;
  const live = connect(small.url, { WebSocket, queue: { onFull: "pause", eventsMax: 2_000 } });
  await live.subscribe("trades", "SLOW", { on_slow: "skip" });
  await produce(stage.broker, range(0, total).map((n) => trade("SLOW", n, { conditions: "x".repeat(60) })));
  // Somebody who reads has all of it: what the first one has not got now, it never will.
  const other = new Collected(small.url);
  await other.live.subscribe("trades", "SLOW", { snapshot: 1, on_slow: "skip" });
  await until(() => other.events.findLast((event) => event.type === "trade")?.trade_id === String(total - 1), "the last trade");
  let [trades, lost] = [0, 0];
  const gaps: Gap[] = [];
  for await (const event of live) {
    if (event.type === "gap") {
      gaps.push(event);
      lost += event.count ?? NaN;
    }
    if (isMarketEvent(event)) trades++;
    if (trades + lost >= total) break;
  }
  assert.equal(trades + lost, total);
  assert.ok(gaps.some(({ cause }) => cause === "slow_consumer"), "nothing was lost: the sockets have room for all of it");
  const { unannounced, queueDropped } = live.stats();
  assert.deepEqual({ unannounced, queueDropped }, { unannounced: 0, queueDropped: 0 });
  live.close();
  other.live.close();
});
