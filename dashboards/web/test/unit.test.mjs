/** Parts of the page that need no browser. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, mock, test } from "node:test";
import { createServer } from "vite";

// The sources are TypeScript: Vite reads them for Node, too.
const vite = await createServer({ server: { middlewareMode: true, ws: false, hmr: false, watch: null }, appType: "custom", logLevel: "error", optimizeDeps: { noDiscovery: true } });
after(() => vite.close());
const { faultOf, readHash, writeHash, gatewayUrl } = await vite.ssrLoadModule("/src/hash.ts");
const { Candles } = await vite.ssrLoadModule("/src/candles.ts");
const { heard_ms, Rows } = await vite.ssrLoadModule("/src/rows.ts");
const { Wants } = await vite.ssrLoadModule("/src/wants.ts");
const { Notices } = await vite.ssrLoadModule("/src/notices.ts");
const { Bursts } = await vite.ssrLoadModule("/src/bursts.ts");
const { Recent } = await vite.ssrLoadModule("/src/latency.ts");
const { feedHint, silent, watchHint } = await vite.ssrLoadModule("/src/hint.ts");
const { size } = await vite.ssrLoadModule("/src/dom.ts");
const { watchlistCsv, tapeCsv } = await vite.ssrLoadModule("/src/csv.ts");

/** Of a watchlist that is copied. */
const HEAD = "symbol,bid_size,bid,ask,ask_size,last,change_percent,last_time,trades\n";

test("an address is read back as it was written, and nonsense is left out and told", () => {
  const view = { symbols: ["AAPL", "BRK.B", "A&B=C", "É 1"], focus: "BRK.B", interval_s: 60, theme: "light", panels: ["chart", "tape"], sizeMin: 2.5 };
  assert.deepEqual(readHash(`#${writeHash(view)}`), { view, leftOut: [] });
  const { view: plain } = readHash("");
  assert.equal(writeHash(plain), "");
  const { view: mended, leftOut } = readHash("#s=A,*,,A,B*&i=7&t=pink&p=chart,walls&z=-1&q&gateway=x");
  assert.deepEqual(mended, { ...plain, symbols: ["A"], focus: "A", panels: ["chart"] });
  assert.deepEqual(leftOut, ["q", "s=*,B*", "p=walls", "i=7", "t=pink", "z=-1"]);
  assert.deepEqual(readHash("#s=*&f=*"), { view: plain, leftOut: ["s=*", "f=*"] });
  const long = readHash(`#s=${Array.from({ length: 5_000 }, (_, n) => n).join(",")}`);
  assert.deepEqual([long.view.symbols.length, long.leftOut], [1_000, ["4000 symbols beyond 1000"]]);
});

/** It hid all panels. */
test("a layout of which nothing is known is the default, one without any panel is none", () => {
  const { view: plain } = readHash("");
  assert.deepEqual(readHash("#p=zz"), { view: plain, leftOut: ["p=zz"] });
  assert.deepEqual(readHash(`#${writeHash({ ...plain, panels: [] })}`), { view: { ...plain, panels: [] }, leftOut: [] });
});

test("what is no symbol is said to be none for one reason", () => {
  assert.equal(faultOf("É 1"), undefined);
  const faults = ["", "A*", "A,B", "A".repeat(65), "A\u0007"].map(faultOf);
  assert.deepEqual(faults, ["it is empty", "* stands for many symbols, and a row shows one", "a symbol has no comma", "a symbol has at most 64 characters", "a symbol has no control characters"]);
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

test("gaps of one cause that follow each other are one notice, which counts", () => {
  let ids = 0;
  const bursts = new Bursts(() => ++ids);
  const gap = (/** @type {string} */ symbol, /** @type {number | undefined} */ count, /** @type {number} */ at_ms, more = {}) =>
    bursts.take({ type: "gap", channel: "trades", symbol, cause: "slow_consumer", ...(count === undefined ? {} : { count }), ...more }, at_ms);
  const { id, text } = gap("A", 3, 0);
  assert.equal(text, "A: 3 trades missing (slow consumer)");
  assert.deepEqual(gap("A", 4, 400), { id, text: "A: 7 trades missing in 2 gaps (slow consumer)" });
  assert.deepEqual(gap("B", 1, 5_000), { id, text: "A, B: 8 trades missing in 3 gaps within 5 s (slow consumer)" });
  assert.equal(gap("C", 2, 10_000, { channel: "book" }).text, "A, B and 1 more: 10 events missing in 4 gaps within 10 s (slow consumer)");
  assert.equal(gap("C", undefined, 10_000).text, "A, B and 1 more: 10 or more events missing in 5 gaps within 10 s (slow consumer)");
  const other = gap("C", undefined, 10_000, { cause: "upstream" });
  assert.equal(other.text, "C: some trades missing (upstream)");
  const later = gap("A", 1, 15_001);
  assert.equal(later.text, "A: 1 trades missing (slow consumer)");
  assert.equal(new Set([id, other.id, later.id]).size, 3);
  const many = Array.from({ length: 2_000 }, (_, n) => gap(`S${n}`, 1, 16_000)).at(-1);
  assert.equal(many?.text, "A, S0 and at least 998 more: 2001 trades missing in 2001 gaps within 1 s (slow consumer)");
});

/** What took the place of another was told with the kind, and at the time, of that. */
test("a notice in the place of another has its own kind, and what is moved its own time and place", () => {
  const notices = new Notices();
  const add = (/** @type {number} */ time_ms, /** @type {string} */ kind, /** @type {string} */ text, more = {}) => notices.add({ time_ms, kind, text, ...more });
  add(1, "gap", "a", { id: 1, isMoved: false });
  add(2, "error", "down", { id: 2, isMoved: true });
  add(3, "info", "other");
  add(4, "slow", "b", { id: 1, isMoved: false });
  add(5, "info", "live", { id: 2, isMoved: true });
  assert.deepEqual(notices.take(), [
    { time_ms: 1, kind: "slow", text: "b", id: 1, isMoved: false },
    { time_ms: 3, kind: "info", text: "other" },
    { time_ms: 5, kind: "info", text: "live", id: 2, isMoved: true },
  ]);
  assert.deepEqual(notices.take(), []);
  for (let n = 0; n < 60; n++) add(n, "info", "many");
  assert.deepEqual(notices.take().map((/** @type {any} */ { time_ms }) => time_ms), Array.from({ length: 50 }, (_, n) => n + 10));
});

/** After a client had been slowed down its latencies of then were told for ten seconds. */
test("latencies are those of the last five seconds", () => {
  const recent = new Recent();
  recent.record(9e9, 100_000);
  recent.record(1e6, 102_500);
  assert.deepEqual([recent.of(104_999).count, recent.of(104_999).maxNs], [2, 9e9]);
  assert.deepEqual([recent.of(105_000).count, recent.of(105_000).maxNs], [1, 1e6]);
  recent.record(2e6, 106_999);
  assert.deepEqual([recent.of(107_000).count, recent.of(107_000).maxNs], [1, 2e6]);
  assert.equal(recent.of(500_000).count, 0);
  recent.record(2e6, 500_000);
  recent.clear();
  assert.equal(recent.of(500_000).count, 0);
});

test("where nothing is to be seen, it is said why", () => {
  const [fine, down, stale] = [[{ name: "a", state: "live" }], [{ name: "a", state: "down" }, { name: "b", state: "stale" }, { name: "c", state: "down" }], [{ name: "b", state: "stale" }]].map(silent);
  assert.equal(feedHint(fine), "");
  assert.match(feedHint(down), /^The gateway's feed a, c is down: .* The gateway's feed b is stale: /);
  const empty = (/** @type {string} */ connection, feeds = fine, looking = "no") => watchHint(connection, feeds, looking, true);
  assert.match(empty("connecting", down), /^Connecting to the gateway/);
  for (const lost of ["reconnecting", "resyncing", "stale"]) assert.match(empty(lost, down), /^The connection is lost/);
  assert.match(empty("closed", down), /^Not connected/);
  assert.match(empty("live", fine, "begun"), /^Looking for symbols: .* 27 of which most comes/);
  assert.match(empty("live", fine, "waiting"), /^No record has come so far/);
  assert.match(empty("live", fine, "refused"), /^This gateway does not tell you which symbols/);
  assert.match(empty("live"), /^No symbols in the watchlist/);
  assert.match(empty("degraded", stale, "waiting"), /^The gateway's feed b is stale: .* Symbols show up here/);
  assert.equal(watchHint("live", fine, "begun", false), "");
  assert.equal(watchHint("degraded", stale, "no", false), "", "grey rows say it");
  assert.match(watchHint("degraded", down, "no", false), /^The gateway's feed a, c is down: [^.]*\.$/);
  assert.equal(watchHint("reconnecting", down, "no", false), "", "nobody knows");
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

/** Rows of a long list: the middle of what is in sight is asked for otherwise. */
function sight() {
  const [seen, unseen, trades] = [{ conflate_ms: 100 }, { conflate_ms: 1_000 }, {}];
  const all = ["A", "B", "C", "D"];
  /** @type {string[]} */
  let view = ["A", "B"];
  /** @type {string[]} */
  const told = [];
  const wants = new Wants(
    () => new Map([["quotes", new Map(all.map((symbol) => [symbol, view.includes(symbol) ? seen : unseen]))], ["trades", new Map(view.map((symbol) => [symbol, trades]))]]),
    (/** @type {string} */ channel, /** @type {object} */ _, /** @type {any[]} */ results, /** @type {(symbol: string) => boolean} */ isNew) =>
      told.push(...results.filter(({ symbol }) => isNew(symbol)).map(({ symbol, ok }) => `${channel} ${symbol} ${ok}`)),
  );
  const see = (/** @type {string[]} */ ...symbols) => {
    view = symbols;
    wants.ask();
  };
  return { wants, see, told, scrolled: (/** @type {string[]} */ ...symbols) => void (view = symbols) };
}

test("what is in sight when the gateway is back is what is asked for, however often it changed meanwhile", async () => {
  const { wants, see } = sight();
  const gateway = client();
  wants.begin(gateway);
  assert.deepEqual(gateway.said().sort(), ["subscribe quotes A,B", "subscribe quotes C,D", "subscribe trades A,B"]);
  await gateway.answer();
  // The client holds its requests until it is connected again, and so there is one difference alone.
  see("B", "C");
  see("C", "D");
  see("A", "D");
  assert.deepEqual(gateway.said().sort(), ["subscribe quotes A", "subscribe quotes C", "subscribe trades C", "unsubscribe trades A"]);
  await gateway.answer();
  assert.deepEqual(gateway.said().sort(), ["subscribe quotes A,D", "subscribe quotes B,C", "subscribe trades A,D", "unsubscribe trades B,C"]);
  await gateway.answer();
  assert.deepEqual([gateway.said(), ["A", "B", "C", "D"].map((symbol) => wants.has("trades", symbol))], [[], [true, false, false, true]]);
});

test("with another token all is asked for anew, as it is in sight by then", async () => {
  const { wants, see, told } = sight();
  const [first, second] = [client(), client()];
  wants.begin(first);
  await first.answer();
  see("C", "D");
  told.length = 0;
  wants.begin(second);
  assert.deepEqual(second.said().sort(), ["subscribe quotes A,B", "subscribe quotes C,D", "subscribe trades C,D"]);
  await first.answer();
  assert.deepEqual([told, wants.has("trades", "C")], [[], false], "what the first is answered counts no more");
  see("B");
  await second.answer();
  assert.deepEqual(second.said().sort(), ["subscribe quotes B", "subscribe quotes C,D", "subscribe trades B", "unsubscribe trades C,D"]);
  await second.answer();
  assert.deepEqual(["A", "B", "C", "D"].map((symbol) => wants.has("trades", symbol)), [false, true, false, false]);
});

test("a symbol that is refused is told once, however often it comes into sight", async () => {
  const { wants, see, told } = sight();
  const gateway = client();
  const of = (/** @type {string} */ symbol) => ({ ok: symbol !== "B" });
  wants.begin(gateway);
  await gateway.answer(of);
  assert.deepEqual(told.filter((line) => line.startsWith("quotes")), ["quotes A true", "quotes B false", "quotes C true", "quotes D true"]);
  told.length = 0;
  for (let n = 0; n < 3; n++) {
    for (const view of [["C"], ["B", "C"]]) {
      see(...view);
      await gateway.answer(of);
    }
  }
  assert.deepEqual(told.filter((line) => line.startsWith("quotes")), []);
  wants.ask();
  assert.deepEqual(gateway.said(), [], "nothing is asked for twice while nothing moves");
});

test("what was refused as a whole is asked for as it is in sight when it is time", async () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  try {
    const { wants, see, scrolled } = sight();
    const gateway = client();
    wants.begin(gateway);
    await gateway.answer();
    see("C");
    await gateway.refuse();
    assert.deepEqual(gateway.said(), []);
    scrolled("D");
    mock.timers.tick(1_000);
    assert.deepEqual(gateway.said().sort(), ["subscribe quotes A,B", "subscribe quotes D", "subscribe trades D", "unsubscribe trades A,B"]);
    await gateway.answer();
    mock.timers.tick(10_000);
    assert.deepEqual([gateway.said(), ["A", "B", "C", "D"].map((symbol) => wants.has("trades", symbol))], [[], [false, false, false, true]]);
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

/** Last prices of rows out of sight were left out. */
test("of a row whose trades are not followed the last one that was seen is copied, with its time and a word on it", () => {
  const rows = ["A", "B", "C"].map((symbol) => ({ symbol, bid: "1", direction: 0, changed_ms: 0, gap_ms: 0, ...(symbol === "C" ? {} : { last: "2", last_ns: 1_500_000_000n, change: 3 }) }));
  const csv = watchlistCsv(rows, (/** @type {string} */ symbol) => symbol === "A");
  assert.equal(csv, `${HEAD}A,,1,,,2,3.00,1970-01-01T00:00:01.500Z,followed\nB,,1,,,2,3.00,1970-01-01T00:00:01.500Z,out of sight\nC,,1,,,,,,out of sight\n`);
});

test("what is copied is safe to open", () => {
  assert.equal(watchlistCsv([{ symbol: '=cmd|"x"' }, { symbol: "A,B", bid: "-1.5" }]), `${HEAD}"'=cmd|""x""",,,,,,,,followed\n"A,B",,-1.5,,,,,,followed\n`);
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
