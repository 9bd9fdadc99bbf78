/** Books that break, or whose state is lost on its way. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Collected } from "../support/collect.js";
import { produce } from "../support/kafka.js";
import { type Gateway, Stage, until } from "../support/programs.js";
import { book, range } from "../support/records.js";
import { Relay } from "../support/relay.js";

let stage: Stage;
let gateway: Gateway;

before(async () => {
  stage = await Stage.start();
  gateway = await stage.gateway();
});
after(() => stage.end());

const LEVELS: [string, string][] = [["9", "1"], ["8", "1"], ["7", "1"]];

/** Passes on what the gateway says up to an acknowledgement of a name, and nothing behind that. */
function silentBehind(relay: Relay, name: string): void {
  let isOver = false;
  relay.filter = (text) => {
    if (isOver) return undefined;
    isOver = text.includes('"op":"ack"') && text.includes(`"${name}"`);
    return text;
  };
}

/** Cuts a line; the book has a change by the time that the line is there again. */
async function changeWhileCut(relay: Relay, symbol: string, price: string): Promise<void> {
  const other = new Collected(gateway.url);
  await other.live.subscribe("book", symbol);
  relay.target = "ws://127.0.0.1:1/";
  relay.filter = (text) => text;
  relay.cut();
  await produce(stage.broker, [book(symbol, [[price, "1"]], [])]);
  await until(() => other.live.book(symbol).bids().some(([level]) => level === price), "a change that the gateway has read");
  other.live.close();
  relay.target = gateway.url;
}

// The next session went on from an older cursor, or from the last position, behind which a gateway gives the changes of a whole book: of a book
// of which the client had nothing, or not all of its levels.
for (const heartbeatMs of [100, 60_000]) {
  for (const [how, depth] of [["that is new", undefined], ["of another depth", 1]] as const) {
    for (const name of ["STATE", "STAT*"]) {
      test(`a whole book ${how} whose session ends before its state came begins anew: ${name}, heartbeats of ${heartbeatMs} ms`, async () => {
        const symbol = `STATE${heartbeatMs}${depth ?? 0}${name.length}`;
        const asked = name.endsWith("*") ? `${symbol.slice(0, -1)}*` : symbol;
        const relay = await Relay.start(gateway.url);
        const client = new Collected(relay.url, { heartbeatMs });
        await produce(stage.broker, [book(symbol, LEVELS, [["10", "1"]], true)]);
        await client.live.subscribe("quotes", symbol);
        if (depth !== undefined) {
          await client.live.subscribe("book", asked, { depth });
          await client.wait("book", 1);
        }
        if (heartbeatMs === 100) await until(() => client.live.cursor, "a cursor");
        silentBehind(relay, asked);
        await client.live.subscribe("book", asked);
        await changeWhileCut(relay, symbol, "6");
        await client.waitState("live", 2);
        await produce(stage.broker, [book(symbol, [["5", "1"]], [])]);
        const keeper = client.live.book(symbol);
        await until(() => keeper.bids().some(([price]) => price === "5"), "the last change");
        assert.deepEqual(keeper.bids().map(([price]) => price), ["9", "8", "7", "6", "5"]);
        // Nobody knows which of its changes are not shown.
        assert.deepEqual(client.of("gap").filter(({ channel }) => channel === "book").map(({ symbol, cause }) => [symbol, cause]), [[asked, "unannounced"]]);
        assert.equal(keeper.isComplete, true);
        client.live.close();
        relay.close();
      });
    }
  }
}

/** Loses the one message that has `text` in it. */
async function lose(relay: Relay, text: string, produced: () => Promise<void>): Promise<void> {
  let lost = 0;
  relay.filter = (message) => (message.includes(text) && ++lost ? undefined : message);
  await produced();
  await until(() => lost > 0, "a message that is lost");
  relay.filter = (message) => message;
}

// A book that broke was asked for by its name where a pattern brought it, and that name was held for ever: it counted against the bounds of the
// session, and went on when the pattern was given up.
test("books that broke under a pattern are mended, and nothing of that is left", async () => {
  const relay = await Relay.start(gateway.url);
  const client = new Collected(relay.url);
  const symbols = range(0, 30).map((n) => `MEND${n}`);
  const change = (price: string): Promise<void> => produce(stage.broker, symbols.map((symbol) => book(symbol, [[price, "1"]], [])));
  await produce(stage.broker, [...symbols, "MENDNAME"].map((symbol) => book(symbol, LEVELS, [["10", "1"]], true)));
  await client.live.subscribe("book", "MEN*", { on_slow: "skip" });
  await client.live.subscribe("book", "MENDNAME");
  await client.wait("book", 31);
  for (const [lost, next] of [["6", "5"], ["4", "3"]] as const) {
    await lose(relay, `["${lost}","1"]`, async () => {
      await change(lost);
      await produce(stage.broker, [book("MENDNAME", [[lost, "1"]], [])]);
    });
    await change(next);
    await produce(stage.broker, [book("MENDNAME", [[next, "1"]], [])]);
    const isWhole = (symbol: string): boolean => client.live.book(symbol).bids().at(-1)?.[0] === next && client.live.book(symbol).bids().some(([price]) => price === lost);
    await until(() => [...symbols, "MENDNAME"].every(isWhole), "whole books");
    await until(async () => (await client.live.list()).length === 2, "names that are given up again");
    assert.deepEqual((await client.live.list()).map(({ symbol, on_slow }) => [symbol, on_slow]), [["MEN*", "skip"], ["MENDNAME", "conflate"]]);
  }
  // They go on by the pattern alone, and end with it.
  await change("2");
  await until(() => symbols.every((symbol) => client.live.book(symbol).bids().at(-1)?.[0] === "2"), "the next change");
  assert.equal(client.live.stats().unannounced, client.of("gap").length);
  assert.deepEqual(client.of("error"), []);
  await client.live.unsubscribe("book", "MEN*");
  assert.deepEqual((await client.live.list()).map(({ symbol }) => symbol), ["MENDNAME"]);
  client.live.close();
  relay.close();
});
