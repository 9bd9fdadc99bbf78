/** Parts of the page that need no browser. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, mock, test } from "node:test";
import { createServer } from "vite";

// The sources are TypeScript: Vite reads them for Node, too.
const vite = await createServer({ server: { middlewareMode: true, ws: false, hmr: false, watch: null }, appType: "custom", logLevel: "error", optimizeDeps: { noDiscovery: true } });
after(() => vite.close());
const { readHash, writeHash, gatewayUrl } = await vite.ssrLoadModule("/src/hash.ts");
const { Candles } = await vite.ssrLoadModule("/src/candles.ts");
const { heard_ms, Rows } = await vite.ssrLoadModule("/src/rows.ts");
const { Wants } = await vite.ssrLoadModule("/src/wants.ts");
const { size } = await vite.ssrLoadModule("/src/dom.ts");
const { watchlistCsv, tapeCsv } = await vite.ssrLoadModule("/src/csv.ts");

test("an address is read back as it was written, and nonsense is left out", () => {
  const view = { symbols: ["AAPL", "BRK.B", "A&B=C", "É 1"], focus: "BRK.B", interval_s: 60, theme: "light", panels: ["chart", "tape"], sizeMin: 2.5 };
  assert.deepEqual(readHash(`#${writeHash(view)}`), view);
  const plain = readHash("");
  assert.equal(writeHash(plain), "");
  assert.deepEqual(readHash("#s=A,*,,A,B*&i=7&t=pink&p=chart,walls&z=-1"), { ...plain, symbols: ["A"], focus: "A", panels: ["chart"] });
  assert.equal(readHash(`#s=${Array.from({ length: 5_000 }, (_, n) => n).join(",")}`).symbols.length, 1_000);
});

test("only a page of this machine connects elsewhere, and only to this machine", () => {
  const page = { protocol: "https:", host: "gw.example", hostname: "gw.example", hash: "#gateway=ws://127.0.0.1:1/v1/stream" };
  assert.equal(gatewayUrl(page), "wss://gw.example/v1/stream");
  const here = { protocol: "http:", host: "localhost:5173", hostname: "localhost" };
  const named = (/** @type {string} */ url) => gatewayUrl({ ...here, hash: `#gateway=${encodeURIComponent(url)}` });
  assert.equal(named("ws://127.0.0.1:8080/v1/stream"), "ws://127.0.0.1:8080/v1/stream");
  for (const url of ["ws://evil.example/v1/stream", "http://127.0.0.1/", "ws://127.0.0.1/?token=x", "ws://a@127.0.0.1/", "nothing"]) {
    assert.equal(named(url), "ws://localhost:5173/v1/stream", url);
  }
});

test("candles of each length say the same of their trades", () => {
  const candles = new Candles();
  for (let n = 0; n < 600; n++) candles.trade(1_000_020 + n, 100 + (n % 7), 2);
  const [seconds, minutes, hours] = [1, 60, 3_600].map((length) => candles.all(length));
  assert.deepEqual([seconds.length, minutes.length, hours.length], [600, 10, 1]);
  assert.deepEqual(minutes[0], { time_s: 1_000_020, open: 100, high: 106, low: 100, close: 103, volume: 120 });
  for (const all of [seconds, minutes, hours]) assert.equal(all.reduce((/** @type {number} */ sum, /** @type {any} */ { volume }) => sum + volume, 0), 1_200);
  candles.trade(1_000_025, 500, 1); // one that is late
  assert.equal(candles.all(1)[5].high, 500);
  assert.deepEqual(candles.since(60, 1_000_500).map((/** @type {any} */ { time_s }) => time_s), [1_000_500, 1_000_560]);
  for (let n = 0; n < 10_000; n++) candles.trade(2_000_000 + n, 1, 1);
  assert.equal(candles.all(1).length, 7_200);
});

test("rows keep the newest state, and give what has changed once", () => {
  const rows = new Rows();
  rows.watch(["A", "B"]);
  rows.see(["A"]);
  rows.take(true);
  const trade = (/** @type {string} */ price) => rows.trade({ type: "trade", symbol: "A", price, size: "1", seq: "1:0:1", event_ns: 1n, ingest_ns: 1n }, 5);
  trade("100");
  trade("110.50");
  trade("110.5");
  rows.gap("A", 7);
  rows.gap("B", 7);
  const [row, ...others] = rows.take(false);
  assert.deepEqual([row.last, row.direction, row.gap_ms, row.spark, others.length], ["110.5", 1, 7, undefined, 0], "B is not in sight");
  assert.equal(row.change.toFixed(2), "10.50");
  assert.equal(rows.take(false).length, 0);
  assert.deepEqual(rows.take(true).map((/** @type {any} */ { symbol }) => symbol), ["B"]);
  assert.equal(rows.take(true).length, 0);
  rows.second();
  rows.quote({ type: "quote", symbol: "A", bid_price: "1", bid_size: "1", ask_price: "2", ask_size: "1", seq: "1:0:1", event_ns: 1n, ingest_ns: 1n }, 6);
  rows.second();
  assert.deepEqual(rows.take(false).map((/** @type {any} */ { spark }) => spark), [[110.5, 1.5]], "the middle of bid and ask, where there is one");
  rows.trade({ type: "trade", symbol: "Z", price: "1", size: "1", seq: "1:0:1", event_ns: 1n, ingest_ns: 1n }, 5);
  assert.equal(rows.take(true).length, 0, "nobody watches it");
});

/** A client that answers when it is told to. */
function client() {
  /** @type {{ op: string, channel: string, symbols: string[], options?: object, resolve: (results: object[]) => void, reject: (error: Error) => void }[]} */
  const asked = [];
  const ask = (/** @type {string} */ op) => (/** @type {string} */ channel, /** @type {string[]} */ symbols, /** @type {object | undefined} */ options) =>
    new Promise((resolve, reject) => asked.push({ op, channel, symbols, ...(options === undefined ? {} : { options }), resolve, reject }));
  const said = () => asked.map(({ op, channel, symbols }) => `${op} ${channel} ${symbols}`);
  /** Answers everything that waits, and lets what follows from it happen. */
  const answer = async (/** @type {(symbol: string) => object} */ of = () => ({ ok: true })) => {
    for (const { channel, symbols, resolve } of asked.splice(0)) resolve(symbols.map((symbol) => ({ channel, symbol, ...of(symbol) })));
    await new Promise((turn) => setImmediate(turn));
  };
  const refuse = async () => {
    for (const { reject } of asked.splice(0)) reject(new Error("rate_limited"));
    await new Promise((turn) => setImmediate(turn));
  };
  return { subscribe: ask("subscribe"), unsubscribe: ask("unsubscribe"), said, answer, refuse };
}

/** Who held an arrow key had a thousand requests waiting, of which the last ones were thrown away: the symbol in focus never got its book. */
test("however fast somebody goes through rows, one difference is asked for at a time, and at last what is wanted", async () => {
  const options = {};
  let focus = "A";
  const gateway = client();
  const wants = new Wants(() => new Map([["book", new Map([[focus, options]])]]), () => undefined);
  wants.begin(gateway);
  assert.deepEqual(gateway.said(), ["subscribe book A"]);
  for (let n = 0; n < 2_000; n++) {
    focus = `S${n}`;
    wants.ask();
  }
  assert.equal(gateway.said().length, 1, "nothing more is under way");
  await gateway.answer();
  assert.deepEqual(gateway.said(), ["unsubscribe book A", "subscribe book S1999"]);
  await gateway.answer();
  wants.ask();
  assert.deepEqual(gateway.said(), [], "all that is wanted is there");
  assert.deepEqual([wants.has("book", "S1999"), wants.has("book", "A")], [true, false]);
});

/** A request that was refused as a whole counted as granted: its symbol stayed blank. */
test("what was refused as a whole is asked for again, a symbol that was refused is not", async () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  try {
    const options = {};
    /** @type {unknown[]} */
    const told = [];
    const gateway = client();
    const wants = new Wants(() => new Map([["quotes", new Map([["A", options], ["B", options]])]]), (/** @type {string} */ channel, /** @type {object} */ _, /** @type {any[]} */ results) => told.push([channel, results.map(({ symbol, ok }) => [symbol, ok])]));
    wants.begin(gateway);
    await gateway.refuse();
    assert.deepEqual([gateway.said(), told], [[], []]);
    mock.timers.tick(1_000);
    assert.deepEqual(gateway.said(), ["subscribe quotes A,B"]);
    await gateway.answer((symbol) => ({ ok: symbol === "A" }));
    assert.deepEqual(told, [["quotes", [["A", true], ["B", false]]]]);
    wants.ask();
    await gateway.answer();
    assert.deepEqual(gateway.said(), []);
    // The gateway takes it away: it is asked for again, which says why not.
    wants.lost("A");
    mock.timers.tick(1_000);
    assert.deepEqual(gateway.said(), ["subscribe quotes A"]);
  } finally {
    mock.timers.reset();
  }
});

test("another client begins with nothing, and answers to the one before do not count", async () => {
  const options = {};
  const [first, second] = [client(), client()];
  let told = 0;
  const wants = new Wants(() => new Map([["quotes", new Map([["A", options]])]]), () => told++);
  wants.begin(first);
  wants.begin(second);
  await first.answer();
  assert.deepEqual([wants.has("quotes", "A"), told], [false, 0]);
  assert.deepEqual(second.said(), ["subscribe quotes A"]);
  await second.answer();
  assert.deepEqual([wants.has("quotes", "A"), told], [true, 1]);
});

test("a snapshot is as old as what it says, by the page's clock", () => {
  const event = (/** @type {object} */ more) => ({ type: /** @type {const} */ ("trade"), symbol: "A", price: "1", size: "1", seq: "1:0:1", event_ns: 1n, ingest_ns: 5_000_000_000n, ...more });
  assert.equal(heard_ms(event({}), 60_000, 100), 60_000);
  assert.equal(heard_ms(event({ snapshot: true }), 60_000, 100), 4_900, "the gateway's clock is ahead");
  assert.equal(heard_ms(event({ snapshot: true }), 3_000, 100), 3_000, "nothing is from the future");
  assert.equal(heard_ms(event({ snapshot: true }), 60_000, undefined), 60_000, "nobody knows the gateway's clock yet");
  const rows = new Rows();
  rows.watch(["A"]);
  rows.see(["A"]);
  rows.trade(event({}), 9_000);
  rows.trade(event({ snapshot: true }), 4_900);
  assert.equal(rows.take(false)[0].changed_ms, 9_000, "what is older makes nothing older");
});

test("sizes that are too long are rounded", () => {
  const cases = { "": "", 100: "100", 109631: "109631", 1234567: "1.235M", 4560123.55: "4.56M", 123456.7: "123.5k", 1429.355: "1429.4", "0.00012345678": "0.00012346", 7_000_000_000: "7G" };
  for (const [text, shown] of Object.entries(cases)) assert.equal(size(text), shown, text);
});

test("of a row whose trades are not followed no last price is copied", () => {
  const rows = ["A", "B"].map((symbol) => ({ symbol, bid: "1", last: "2", change: 3, direction: 0, changed_ms: 0, gap_ms: 0 }));
  assert.equal(watchlistCsv(rows, (/** @type {string} */ symbol) => symbol === "A"), "symbol,bid_size,bid,ask,ask_size,last,change_percent\nA,,1,,,2,3.00\nB,,1,,,,\n");
});

test("what is copied is safe to open", () => {
  assert.equal(watchlistCsv([{ symbol: '=cmd|"x"' }, { symbol: "A,B", bid: "-1.5" }]), 'symbol,bid_size,bid,ask,ask_size,last,change_percent\n"\'=cmd|""x""",,,,,,\n"A,B",,-1.5,,,,\n');
  assert.equal(tapeCsv("A", [{ time_ms: 0, price: "1", size: "2", side: "buy" }]), "symbol,time,price,size,side\nA,1970-01-01T00:00:00.000Z,1,2,buy\n");
});

test("what is written can be read: 4.5 to 1 on everything that may lie behind it, dark and light", () => {
  const css = readFileSync(new URL("../src/style.css", import.meta.url), "utf8");
  const colors = (/** @type {string} */ selector) => {
    const block = new RegExp(`^${selector} \\{(.*?)^\\}`, "ms").exec(css)?.[1] ?? "";
    return Object.fromEntries([...block.matchAll(/--([\w-]+): (#[0-9a-f]{6});/g)].map(([, name, value]) => [name, value]));
  };
  const light = (/** @type {string} */ color) => {
    const [r, g, b] = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16) / 255).map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * Number(r) + 0.7152 * Number(g) + 0.0722 * Number(b);
  };
  const panels = ["panel", "back", "focus-back"];
  // Prices lie on the bars of the ladder, last prices on what flashes.
  const pairs = [["text", [...panels, "up-back", "down-back"]], ["quiet", panels], ["accent", panels], ["up", [...panels, "up-back"]], ["down", [...panels, "down-back"]], ["warn", panels]];
  for (const selector of [":root", '\\[data-theme="light"\\]']) {
    const all = colors(selector);
    assert.ok(Object.keys(all).length > 10, selector);
    for (const [front, backs] of pairs) {
      for (const back of backs) {
        const [most, least] = [all[String(front)], all[back]].map(light).sort((a, b) => b - a);
        const contrast = (Number(most) + 0.05) / (Number(least) + 0.05);
        assert.ok(contrast >= 4.5, `${selector}: ${front} on ${back} has ${contrast.toFixed(2)}`);
      }
    }
  }
});
