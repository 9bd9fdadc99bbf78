/** What a client does when something breaks: gateways that die or leave, lines, frames, tokens. */

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { WebSocket } from "ws";
import { connect, type TickgateError, type TokenVia } from "../../src/index.js";
import { Collected } from "../support/collect.js";
import { produce } from "../support/kafka.js";
import { Stage, until } from "../support/programs.js";
import { book, quote, range, trade } from "../support/records.js";
import { Relay } from "../support/relay.js";

let stage: Stage;

before(async () => (stage = await Stage.start()));
after(() => stage.end());

/** Trades of a symbol, each once and in order. */
function assertAll(client: Collected, symbol: string, count: number): void {
  const ids = client.of("trade").filter((event) => event.symbol === symbol).map(({ trade_id }) => Number(trade_id));
  assert.deepEqual(ids, range(0, count));
  assert.deepEqual(client.of("gap"), []);
}

for (const [how, heartbeatMs] of [["its cursor", 100], ["the last positions", 60_000]] as const) {
  test(`a gateway is killed: with ${how} the client goes on at another one`, async () => {
    const [one, two] = [await stage.gateway(), await stage.gateway()];
    const client = new Collected([one.url, two.url], { heartbeatMs });
    const symbol = `KILL${heartbeatMs}`;
    await client.live.subscribe("trades", [symbol]);
    await produce(stage.broker, range(0, 50).map((n) => trade(symbol, n)));
    await client.wait("trade", 50);
    if (heartbeatMs === 100) await until(() => client.live.cursor, "a cursor");
    await one.program.stop("SIGKILL");
    await produce(stage.broker, range(50, 100).map((n) => trade(symbol, n)));
    await client.wait("trade", 100);
    await until(() => client.states.includes("resyncing") && client.live.state === "live", "a session that is live again");
    await produce(stage.broker, range(100, 110).map((n) => trade(symbol, n)));
    await client.wait("trade", 110);
    assertAll(client, symbol, 110);
    // Where the machine has no time at all for heartbeats a line may be lost beside.
    assert.deepEqual(client.steps.slice(0, 4), ["connecting", "live", "reconnecting 1", "resyncing"]);
    assert.ok(client.live.stats().reconnects >= 1);
    client.live.close();
    await two.program.stop();
  });
}

test("a gateway drains: it says so, and the client goes on at another one", async () => {
  const [one, two] = [await stage.gateway(), await stage.gateway()];
  const client = new Collected([one.url, two.url]);
  await client.live.subscribe("trades", "DRAIN*");
  await client.live.subscribe("quotes", "DRAIN", { conflate_ms: 10 });
  await produce(stage.broker, [quote("DRAIN", 1), ...range(0, 20).map((n) => trade("DRAIN", n))]);
  await client.wait("trade", 20);
  await client.wait("quote", 1);
  one.program.signal("SIGTERM");
  await produce(stage.broker, [...range(20, 40).map((n) => trade("DRAIN", n)), quote("DRAIN", 2)]);
  await client.waitState("live", 2);
  await client.wait("trade", 40);
  await until(() => client.of("quote").at(-1)?.bid_price === "2.00", "the newest quote");
  assertAll(client, "DRAIN", 40);
  assert.ok(client.of("goaway").length >= 1);
  client.live.close();
  await two.program.stop();
});

test("a line that is cut again and again loses nothing", async () => {
  const gateway = await stage.gateway();
  const relay = await Relay.start(gateway.url);
  const client = new Collected(relay.url, { heartbeatMs: 100 });
  await client.live.subscribe("trades", ["CUT"]);
  for (let round = 0; round < 5; round++) {
    await produce(stage.broker, range(round * 20, round * 20 + 10).map((n) => trade("CUT", n)));
    if (round % 2 === 0) await client.wait("trade", round * 20 + 10);
    relay.cut();
    await produce(stage.broker, range(round * 20 + 10, round * 20 + 20).map((n) => trade("CUT", n)));
    await client.waitState("live", round + 2);
  }
  await client.wait("trade", 100);
  assertAll(client, "CUT", 100);
  client.live.close();
  relay.close();
  await gateway.program.stop();
});

// The past of a subscription that no cursor covered was skipped by the session after a loss, without a gap, and its end was never told.
test("a past that is cut off before a cursor covers it comes whole, and its end is told", async () => {
  const gateway = await stage.gateway();
  const relay = await Relay.start(gateway.url);
  await produce(stage.broker, range(0, 500).map((n) => trade("CUTOFF", n)));
  const client = new Collected(relay.url, { heartbeatMs: 100 });
  await client.live.subscribe("trades", "CUTOFF", { snapshot: 1 });
  await until(() => client.of("trade").at(-1)?.trade_id === "499", "the gateway has read all of it");
  await client.live.unsubscribe("trades", "CUTOFF");
  await client.live.subscribe("quotes", "CUTOFF");
  const seen = client.events.length;
  const cursor = client.live.cursor;
  // While nothing comes it stays what it is.
  await produce(stage.broker, [quote("CUTOFF", 1)]);
  await until(() => client.live.cursor !== cursor && client.live.cursor, "a cursor");
  // Nothing behind the ack is passed on: neither the past nor a cursor.
  let isAsked = false;
  relay.filter = (text) => {
    if (isAsked) return undefined;
    isAsked = text.includes('"op":"ack"') && text.includes('"CUTOF*"');
    return text;
  };
  await client.live.subscribe("trades", "CUTOF*", { from: { time_ns: "0" } });
  relay.filter = (text) => text;
  relay.cut();
  await client.wait("replay_done", 1);
  const ids = client.events.slice(seen).flatMap((event) => (event.type === "trade" ? [Number(event.trade_id)] : []));
  assert.deepEqual(ids, range(0, 500));
  assert.deepEqual(client.of("replay_done").map(({ channel, symbol }) => `${channel} ${symbol}`), ["trades CUTOF*"]);
  assert.deepEqual(client.of("gap"), []);
  client.live.close();
  relay.close();
  await gateway.program.stop();
});

test("a client of another process goes on from a cursor, also over a loss before the next one", async () => {
  const gateway = await stage.gateway();
  const relay = await Relay.start(gateway.url);
  const first = new Collected(gateway.url, { heartbeatMs: 100 });
  await first.live.subscribe("trades", "OTHER*");
  await produce(stage.broker, range(0, 50).map((n) => trade("OTHER", n)));
  await first.wait("trade", 50);
  const before = first.live.cursor;
  await produce(stage.broker, [trade("ELSEWHERE", 0)]);
  const cursor = await until(() => first.live.cursor !== before && first.live.cursor, "a cursor behind them");
  first.live.close();
  await produce(stage.broker, range(50, 80).map((n) => trade("OTHER", n)));
  const second = new Collected(relay.url, { heartbeatMs: 100 });
  await second.live.subscribe("quotes", "OTHER");
  await until(() => second.live.cursor, "a cursor of its own");
  let isAsked = false;
  relay.filter = (text) => {
    if (isAsked) return undefined;
    isAsked = text.includes('"op":"ack"') && text.includes('"OTHER*"');
    return text;
  };
  await second.live.subscribe("trades", "OTHER*", { cursor });
  relay.filter = (text) => text;
  relay.cut();
  await second.wait("replay_done", 1);
  await produce(stage.broker, [trade("OTHER", 80)]);
  await until(() => second.of("trade").at(-1)?.trade_id === "80", "what is live");
  const ids = second.of("trade").map(({ trade_id }) => Number(trade_id));
  // A cursor may be a little behind.
  assert.deepEqual(ids, range(Math.min(ids[0] ?? 81, 50), 81));
  assert.deepEqual(second.of("gap"), []);
  second.live.close();
  relay.close();
  await gateway.program.stop();
});

test("a book goes on by a pattern when its name is given up, and by its name when the pattern is", async () => {
  const gateway = await stage.gateway();
  const client = new Collected(gateway.url);
  await produce(stage.broker, [book("BESIDE", [["1", "1"]], [], true)]);
  const levels = async (count: number): Promise<void> => {
    const price = String(count);
    await produce(stage.broker, [book("BESIDE", [[price, "1"]], [])]);
    await until(() => client.live.book("BESIDE").levelCounts[0] === count, `${count} levels; there are ${client.live.book("BESIDE").levelCounts[0]}`);
  };
  await client.live.subscribe("book", "BESID*");
  await levels(2);
  await client.live.subscribe("book", "BESIDE");
  await levels(3);
  await client.live.unsubscribe("book", "BESIDE");
  await levels(4);
  await client.live.subscribe("book", "BESIDE");
  await levels(5);
  await client.live.unsubscribe("book", "BESID*");
  await levels(6);
  await client.live.subscribe("book", "BESID*", { depth: 1 });
  await levels(7);
  await client.live.unsubscribe("book", "BESIDE");
  await produce(stage.broker, [book("BESIDE", [["8", "1"]], [])]);
  await until(() => client.live.book("BESIDE").bestBid?.[0] === "8", "a new best bid");
  assert.deepEqual(client.live.book("BESIDE").bids(), [["8", "1"]]);
  assert.deepEqual(client.of("gap"), []);
  client.live.close();
  await gateway.program.stop();
});

// The last thing that it waited for was given up, and it was never live again.
test("what is given up while it is resumed is not waited for", async () => {
  const gateway = await stage.gateway();
  const relay = await Relay.start(gateway.url);
  const client = new Collected(relay.url);
  await client.live.subscribe("trades", "GIVEN");
  await client.waitState("live", 1);
  relay.filter = (text) => (text.includes('"replay_done"') ? undefined : text);
  await produce(stage.broker, [trade("GIVEN", 0)]);
  await client.wait("trade", 1);
  relay.cut();
  await client.waitState("resyncing", 1);
  await client.live.unsubscribe("trades", "GIVEN");
  await client.waitState("live", 2);
  client.live.close();
  relay.close();
  await gateway.program.stop();
});

test("a replay of which nobody says that it is done is done when something live comes, or when it is told as gone", async () => {
  const gateway = await stage.gateway();
  const relay = await Relay.start(gateway.url);
  const client = new Collected(relay.url, { heartbeatMs: 100 });
  await client.live.subscribe("trades", "MUTE*");
  await until(() => client.live.cursor, "a cursor");
  relay.filter = (text) => (text.includes('"replay_done"') ? undefined : text);
  relay.cut();
  await client.waitState("resyncing");
  // One that the gateway reads before it has begun to resume is part of the replay, and no sign of its end.
  for (let n = 0; client.live.state !== "live"; n++) {
    await produce(stage.broker, [trade("MUTE1", n)]);
    await client.wait("trade", n + 1);
  }
  const gone = (text: string): string => {
    const { op, id } = JSON.parse(text) as { op?: string; id?: number };
    return op === "replay_done" ? JSON.stringify({ op: "error", id, code: "replay_aged_out", number: 4410, message: "gone", fatal: false }) : text;
  };
  relay.filter = gone;
  relay.cut();
  await client.wait("error", 1);
  await until(() => client.live.state === "live", "a session that is live");
  assert.ok(client.of("error").every(({ code }) => code === "replay_aged_out"));
  assert.deepEqual(client.of("replay_done"), []);
  client.live.close();
  relay.close();
  await gateway.program.stop();
});

for (const speed of [undefined, 1_000]) {
  test(`a past that is broken off goes on and brings nothing twice, speed ${speed ?? "as fast as it is read"}`, async () => {
    // It threw, and whoever read it had to begin again and to sort out what came twice.
    const gateway = await stage.gateway();
    const relay = await Relay.start(gateway.url);
    const symbol = `PAST${speed ?? ""}`;
    await produce(stage.broker, range(0, 4_000).map((n) => trade(symbol, n)));
    const client = new Collected(gateway.url);
    await client.live.subscribe("trades", symbol, { snapshot: 1 });
    await until(() => client.of("trade").at(-1)?.trade_id === "3999", "the gateway has read all of it");
    let passed = 0;
    relay.filter = (text) => {
      const before = passed;
      passed += text.split('"type":"trade"').length - 1;
      if (before < 1_500 && passed >= 1_500) relay.cut();
      return text;
    };
    const options = { channel: "trades", symbols: symbol, from: new Date(Date.now() - 600_000), ...(speed === undefined ? {} : { speed }) } as const;
    const ids: number[] = [];
    const states: string[] = [];
    const past = connect(relay.url, { WebSocket });
    for await (const event of past.replay(options)) {
      if (event.type === "trade") ids.push(Number(event.trade_id));
      if (event.type === "state") states.push(event.state);
      assert.notEqual(event.type, "gap");
    }
    assert.deepEqual(ids, range(0, 4_000));
    assert.deepEqual(states.slice(0, 4), ["connecting", "live", "reconnecting", "live"]);
    past.close();

    // Who does not want to come back is told, with a code and what to do.
    passed = 0;
    const once = connect(relay.url, { WebSocket, reconnect: false });
    const broken = once.replay(options);
    await assert.rejects(
      (async () => {
        for await (const _ of broken);
      })(),
      (error: TickgateError) => error.code === "connection_lost" && error.hint !== "",
    );
    once.close();
    client.live.close();
    relay.close();
    await gateway.program.stop();
  });
}

// A gateway that could not read a past from Kafka said so, and that it was done: whoever looked at trades alone saw none and no reason.
for (const [code, isThrown] of [["source_down", true], ["internal", true], ["replay_aged_out", false]] as const) {
  test(`a past that the gateway ends with ${code} ${isThrown ? "throws, whatever came of it" : "throws where nothing came of it"}`, async () => {
    const gateway = await stage.gateway();
    const relay = await Relay.start(gateway.url);
    const [some, none] = [`SOME${code}`, `NONE${code}`];
    await produce(stage.broker, range(0, 3).map((n) => trade(some, n)));
    const client = new Collected(gateway.url);
    await client.live.subscribe("trades", [some, none], { snapshot: 1 });
    await until(() => client.of("trade").at(-1)?.trade_id === "2", "the gateway has read all of it");
    let id = 0;
    relay.filter = (text) => {
      const { op, ...said } = JSON.parse(text) as { op?: string; id?: number };
      if (op === "ack") id = said.id ?? 0;
      if (op === "replay_done") relay.say(JSON.stringify({ op: "error", id, code, number: 4400, message: "no answer", fatal: false }));
      return text;
    };
    const past = connect(relay.url, { WebSocket });
    const play = async (symbols: string) => {
      const ids: (string | undefined)[] = [];
      try {
        for await (const event of past.replay({ channel: "trades", symbols, from: new Date(Date.now() - 600_000) })) {
          if (event.type === "trade") ids.push(event.trade_id);
        }
        return { ids, code: undefined };
      } catch (error) {
        return { ids, code: (error as TickgateError).code };
      }
    };
    assert.deepEqual(await play(some), { ids: ["0", "1", "2"], code: isThrown ? code : undefined });
    assert.deepEqual(await play(none), { ids: [], code });
    past.close();
    client.live.close();
    relay.close();
    await gateway.program.stop();
  });
}

test("what is refused as a whole names its symbol, where it is one", async () => {
  const gateway = await stage.gateway();
  const relay = await Relay.start(gateway.url);
  const client = new Collected(relay.url);
  relay.filter = (text) => {
    if (!text.includes('"op":"ack"')) return text;
    const { id } = JSON.parse(text) as { id: number };
    return JSON.stringify({ op: "error", id, code: "rate_limited", number: 4429, message: "too many", fatal: false, retry_after_ms: 800 });
  };
  await assert.rejects(client.live.subscribe("trades", "ALONE"), { code: "rate_limited", symbol: "ALONE", retryAfterMs: 800 });
  await assert.rejects(client.live.subscribe("trades", ["ONE", "TWO"]), (error: TickgateError) => error.symbol === undefined && error.hint !== "");
  assert.deepEqual(client.of("error").map(({ symbol }) => symbol), ["ALONE", undefined]);
  client.live.close();
  relay.close();
  await gateway.program.stop();
});

test("frames that are none are errors, and the session goes on", async () => {
  const gateway = await stage.gateway();
  const relay = await Relay.start(gateway.url);
  const client = new Collected(relay.url);
  await client.live.subscribe("trades", "FRAME");
  const good = '{"type":"trade","symbol":"FRAME","price":"1","size":"1","seq":"1:0:9","event_ns":"1","ingest_ns":"1"}';
  const bad = ["{no JSON", "7", '{"op":"surprise"}', `[${good},{"type":"weather","symbol":"SUN"}]`, '[{"type":"trade","symbol":"X"}]', "[null]", Buffer.from([1, 2])];
  for (const frame of bad) relay.say(frame);
  await client.wait("error", bad.length);
  await produce(stage.broker, [trade("FRAME", 0)]);
  await client.wait("trade", 1);
  assertAll(client, "FRAME", 1); // nothing of a bad frame is taken
  assert.ok(client.of("error").every(({ code, fatal, hint }) => code === "bad_frame" && !fatal && hint !== ""));
  assert.equal(client.of("error")[4]?.symbol, "X");
  assert.equal(client.live.stats().badFrames, bad.length);
  assert.deepEqual(client.steps, ["connecting", "live"]);
  client.live.close();
  relay.close();
  await gateway.program.stop();
});

test("a break that nothing announced is a gap, and a book is asked for anew", async () => {
  const gateway = await stage.gateway();
  const relay = await Relay.start(gateway.url);
  const client = new Collected(relay.url);
  await produce(stage.broker, [book("LOST", [["9", "1"]], [["10", "1"]], true)]);
  await client.live.subscribe("book", "LOST");
  await client.wait("book", 1);
  let dropped = 0;
  relay.filter = (text) => {
    if (!text.includes('"8.5"')) return text;
    dropped++;
    return undefined;
  };
  await produce(stage.broker, [book("LOST", [["8.5", "1"]], [])]);
  await until(() => dropped === 1, "a frame that is lost");
  relay.filter = (text) => text;
  await produce(stage.broker, [book("LOST", [["8", "1"]], [])]);
  await client.wait("resync", 1);
  await until(() => client.live.book("LOST").isComplete, "a whole book");
  assert.deepEqual(client.live.book("LOST").bids(), [["9", "1"], ["8.5", "1"], ["8", "1"]]);
  const gap = client.of("gap")[0];
  assert.equal(gap?.cause, "unannounced");
  // It stands right before the event that broke the chain.
  const at = client.events.indexOf(gap as never);
  assert.equal((client.events[at + 1] as { prev?: string }).prev, gap?.upto);
  client.live.close();
  relay.close();
  await gateway.program.stop();
});

test("a line that falls silent is stale, and given up when it stays so", async () => {
  const gateway = await stage.gateway();
  const relay = await Relay.start(gateway.url);
  const client = new Collected(relay.url, { heartbeatMs: 100, clockMs: 0 });
  await client.live.subscribe("trades", "STALE");
  const comes = (state: string): Promise<true> => until(() => client.live.state === state, `${state}; there was ${client.states.join()}`);
  await comes("live");
  relay.isHeld = true;
  await comes("stale");
  relay.isHeld = false;
  await comes("live");
  relay.isHeld = true;
  await client.waitState("reconnecting");
  relay.isHeld = false;
  await comes("live");
  // It may look so at other times as well, where the machine has no time for heartbeats.
  const { states } = client;
  const lost = states.indexOf("reconnecting 1");
  assert.deepEqual([states.slice(0, 3), states[lost - 1], states[lost + 1]], [["connecting", "live", "stale"], "stale", "resyncing"]);
  client.live.close();
  relay.close();
  await gateway.program.stop();
});

const SECRET = "a secret of the tests that has more than 32 bytes";

function token(subject: string, forS: number): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  const exp = Math.floor(Date.now() / 1_000) + forS;
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part({ iss: "tests", aud: "tickgate", sub: subject, exp, tickgate: { symbols: ["TOKEN"] } })}`;
  return `${signed}.${createHmac("sha256", SECRET).update(signed).digest("base64url")}`;
}

async function guarded(): ReturnType<Stage["gateway"]> {
  const key = join(stage.dir, "secret");
  writeFileSync(key, SECRET);
  const config = `[auth]\nmode = "required"\nissuers = ["tests"]\naudiences = ["tickgate"]\nkey_files = ["HS256:${key}"]\n`;
  return stage.gateway(["auth.warn_s=300", "auth.leeway_s=0"], { config });
}

test("a token is shown each way, refused ones end the client, and one that is over soon is replaced", async () => {
  const gateway = await guarded();
  for (const tokenVia of ["message", "subprotocol", "header"] satisfies TokenVia[]) {
    const client = new Collected(gateway.url, { token: token("ann", 3_600), tokenVia });
    const results = await client.live.subscribe("trades", ["TOKEN", "OTHER"]);
    assert.deepEqual(results.map(({ ok, code }) => [ok, code]), [[true, undefined], [false, "forbidden"]], tokenVia);
    client.live.close();

    const refused = new Collected(gateway.url, { token: "not.a.token", tokenVia });
    await refused.waitState("closed");
    const [error] = refused.of("error");
    assert.deepEqual([error?.code, error?.fatal], ["unauthenticated", true], tokenVia);
    assert.ok(!JSON.stringify(refused.of("error")).includes("not.a.token"));
  }
  const none = new Collected(gateway.url);
  await none.waitState("closed");
  assert.equal(none.of("error")[0]?.code, "unauthenticated");

  let calls = 0;
  const renewed = new Collected(gateway.url, { token: () => token("bob", ++calls === 1 ? 200 : 3_600) });
  await renewed.live.subscribe("trades", "TOKEN");
  await renewed.wait("auth", 1);
  assert.equal(renewed.of("auth")[0]?.ok, true);
  assert.equal(calls, 2);
  assert.equal(renewed.of("error")[0]?.code, "token_expiring");
  await produce(stage.broker, [trade("TOKEN", 0)]);
  await renewed.wait("trade", 1);
  assert.deepEqual(renewed.steps, ["connecting", "live"]);
  renewed.live.close();

  // One that is over without another ends the client, with a function it comes back.
  let code: string | undefined;
  // It has to be shown before that.
  for (const forS of [2, 8, 24]) {
    const over = new Collected(gateway.url, { token: token("cid", forS) });
    await over.waitState("closed");
    code = over.of("error").at(-1)?.code;
    if (code === "token_expired") break;
  }
  assert.equal(code, "token_expired");
  await gateway.program.stop();
});
