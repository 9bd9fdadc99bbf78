/** What a visitor does with the page, in a real Chromium, against real gateways. */

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { produce } from "../../../clients/typescript/build/test/support/kafka.js";
import { until } from "../../../clients/typescript/build/test/support/programs.js";
import { book, quote, range, trade } from "../../../clients/typescript/build/test/support/records.js";
import { accessible, copied, DIST, hash, held, noteStates, row, Scene, shot, states, text } from "./browser.mjs";
import { PageServer } from "./serve.mjs";

/** @typedef {import("playwright-core").Page} Page */

/** @type {Scene} */
let scene;
/** @type {string} */
let broker;

before(async () => {
  scene = await Scene.start(["ticks:2", "market:4"]);
  broker = scene.stage.broker;
});
after(() => scene?.end());
afterEach(() => scene.afterEach());

/** However slow the machine is. */
const NEVER_STALE = '[[feeds]]\ntopic = "ticks"\nsilence_ms = 600000\n';
const MARKET = '[[feeds]]\ntopic = "market"\n';

async function market() {
  for (const [model, rate] of [["us-equities", "300"], ["crypto-perp", "300"]]) {
    const program = scene.stage.run("tickgate-sim", ["run", "--model", String(model), "--symbols", "12", "--rate", String(rate), "--brokers", broker, "--topic", "market", "--partitions", "0"]);
    scene.later(() => program.stop());
  }
  const gateway = await scene.gateway({ config: MARKET });
  return gateway;
}

/** The page's clock begins at 0, and so did the time at which it was slow last: each visit was degraded for five seconds, without a word why. */
test("a visit to a feed that is live is not degraded", async () => {
  const gateway = await scene.gateway({ config: NEVER_STALE });
  await produce(broker, [quote("WELL", 1)]);
  const page = await scene.open(gateway, "#s=WELL", { init: noteStates });
  await text(page, `${row("WELL")} .bid`, /^1\.00$/);
  // Health was told by then.
  await text(page, "#details", /feeds: ticks live/);
  const shown = await states(page);
  assert.ok(shown.includes("live") && !shown.includes("degraded"), `${shown}`);
});

/** A gap told to the page's worker, of the first symbol or pattern that is granted. @param {string} symbol */
const withGap = (symbol) => (/** @type {string} */ script) => `{
  let isTold = false;
  self.WebSocket = class extends self.WebSocket {
    constructor(...all) {
      super(...all);
      this.addEventListener("message", ({ data }) => {
        if (isTold || !String(data).includes('"op":"ack"') || !String(data).includes('"trades"')) return;
        isTold = true;
        // Behind what grants it.
        setTimeout(() => this.dispatchEvent(new MessageEvent("message", { data: '[{"type":"gap","channel":"trades","symbol":"${symbol}","cause":"slow_consumer","count":3}]' })));
      });
    }
  };
}
${script}`;

/** Nobody had asked for what was missing: the page listened for the names of symbols, and was degraded for five seconds. */
test("a gap of what is only listened for is counted, and makes nobody degraded", async () => {
  const gateway = await scene.gateway({ config: NEVER_STALE });
  await produce(broker, [quote("WHICH", 1)]);
  const [listening, holding] = await Promise.all(["", "#s=WHICH"].map(async (address) => scene.open(gateway, address, { init: noteStates, through: await PageServer.start(gateway.address, { worker: withGap("WHICH") }) })));
  await text(/** @type {Page} */ (holding), "#notices .gap", /WHICH: 3 trades missing \(slow consumer\)/);
  await until(async () => (await states(/** @type {Page} */ (holding))).includes("degraded"), "a page that misses something");
  await text(/** @type {Page} */ (listening), "#details", /^[1-9]\d* gaps .* feeds: ticks live/);
  const shown = await states(/** @type {Page} */ (listening));
  assert.ok(shown.includes("live") && !shown.includes("degraded"), `${shown}`);
  assert.equal(await /** @type {Page} */ (listening).locator("#notices .gap").count(), 0);
});

test("a first visit shows what is there, with nothing from outside, dark and light, and passes axe", async () => {
  const page = await scene.open(await market());
  await text(page, "#state", /^(live|degraded)$/);
  await text(page, "#rows-space .row:not([hidden]) .last", /\d/);
  await page.waitForFunction(() => location.hash.includes("s="));
  // A symbol with a book.
  const symbol = await until(() => page.evaluate(() => [...document.querySelectorAll("#rows-space .row .symbol")].map((cell) => cell.textContent ?? "").find((name) => name.endsWith("USDT"))), "a symbol with a book");
  await page.click(row(symbol));
  await text(page, "#bids .level:not([hidden]) .price", /\d/);
  await page.waitForFunction(() => document.querySelectorAll("#bids .level:not([hidden])").length > 5);
  await text(page, "#spread", /^spread .* bps\)$/);
  await text(page, "#prints .print:not([hidden]) .price", /\d/);
  await page.waitForSelector("#no-candles", { state: "hidden" });
  await text(page, "#latency", /p50 [\d.]+ ms · p99 [\d.]+ ms · skew -?[\d.]+ ms/);
  await text(page, "#rates", /[1-9]\d* messages\/s/);
  await text(page, "#details", /^\d+ gaps .* feeds: market live$/);
  await page.waitForFunction(() => document.querySelectorAll(".print.buy").length > 0 && document.querySelectorAll(".print.sell").length > 0);
  // No price is cut off, however small its steps.
  const cut = await page.locator("#rows-space .row:not([hidden]) .cell:is(.bid, .ask, .last)").evaluateAll((all) => all.filter((cell) => cell.scrollWidth > cell.clientWidth).map((cell) => cell.textContent));
  assert.deepEqual(cut, []);
  await accessible(page, "dark");
  await shot(page, "dark");
  await page.keyboard.press("t");
  assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "light");
  await accessible(page, "light");
  await shot(page, "light");
  await page.keyboard.press("?");
  await page.waitForSelector("#help[open]");
  await accessible(page, "help");
  assert.match(await page.locator(".credit").innerText(), /TradingView/);
});

test("the gateway sends what was built, compressed, to be kept where its name says its content", async (context) => {
  const gateway = await scene.gateway();
  if (!(await scene.embedded(gateway))) return context.skip("this gateway has another page, or none");
  const files = readdirSync(DIST, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile() && !/^\.|\.(gz|br)$/.test(entry.name));
  assert.ok(files.length >= 5);
  const policy = readFileSync(join(DIST, "../csp.txt"), "utf8").trim();
  for (const { name, parentPath } of files) {
    const path = name === "index.html" ? "" : `assets/${name}`;
    for (const encoding of ["br", "gzip", "identity"]) {
      // It is unpacked on the way.
      const response = await fetch(`http://${gateway.address}/${path}`, { headers: { "accept-encoding": encoding } });
      assert.equal(response.headers.get("content-encoding") ?? "identity", encoding, name);
      assert.deepEqual(Buffer.from(await response.arrayBuffer()), readFileSync(join(parentPath, name)), name);
      assert.equal(response.headers.get("content-security-policy"), policy);
      assert.equal(response.headers.get("cache-control"), path === "" ? "no-cache" : "public, max-age=31536000, immutable");
    }
  }
});

test("everything is done by keys: search, rows, removal, candles, panels, help; and the address says it", async () => {
  const gateway = await scene.gateway();
  await produce(broker, ["AAA", "AAB", "BAA", "CCC"].flatMap((symbol, n) => [quote(symbol, n + 1), trade(symbol, n)]));
  const page = await scene.open(gateway, "#s=AAA");
  await text(page, `${row("AAA")} .bid`, /^1\.00$/);
  await page.keyboard.press("/");
  await page.keyboard.type("a");
  await until(() => page.evaluate(() => document.querySelectorAll("#found li").length >= 3), "what is found");
  assert.deepEqual(await page.locator("#found li").allInnerTexts(), ["AAA", "AAB", "BAA", "Subscribe to a, not seen so far"]);
  await page.keyboard.press("ArrowDown");
  assert.equal(await page.locator("#found li.at").innerText(), "AAB");
  await page.keyboard.press("Enter");
  await text(page, `${row("AAB")} .bid`, /^2\.00$/);
  await page.keyboard.press("/");
  await page.keyboard.type("NEW1");
  await page.keyboard.press("Enter");
  await page.waitForSelector(row("NEW1"));
  await text(page, "#notices li", /NEW1: no record has named it so far/);
  assert.equal(await hash(page), "#s=AAA,AAB,NEW1&f=NEW1");
  assert.equal(await page.evaluate(() => document.activeElement?.id), "watchlist", "the keyboard is where the rows are");
  // Rows, by arrows; screen readers follow.
  await page.keyboard.press("ArrowUp");
  assert.equal(await hash(page), "#s=AAA,AAB,NEW1&f=AAB");
  const active = await until(() => page.evaluate(() => {
    const id = document.querySelector("#watchlist")?.getAttribute("aria-activedescendant");
    const found = id === null || id === undefined ? null : document.getElementById(id);
    return found?.getAttribute("aria-selected") === "true" && found.dataset.symbol === "AAB" ? found.getAttribute("aria-rowindex") : undefined;
  }), "the active row");
  assert.equal(active, "3");
  await text(page, "#tape h2", /AAB/);
  await page.keyboard.press("Delete");
  assert.equal(await hash(page), "#s=AAA,NEW1&f=NEW1");
  await page.waitForFunction(() => ![...document.querySelectorAll("#rows-space .row:not([hidden])")].some((found) => /** @type {HTMLElement} */ (found).dataset.symbol === "AAB"));
  await page.keyboard.press("Home");
  await page.keyboard.press("]");
  await page.keyboard.press("]");
  await page.keyboard.press("[");
  assert.equal(await page.locator('#intervals [aria-pressed="true"]').innerText(), "5 s");
  await page.keyboard.press("2");
  assert.equal(await page.isVisible("#ladder"), false);
  await page.keyboard.press("?");
  await page.waitForSelector("#help[open]");
  await page.keyboard.press("Escape");
  await page.waitForSelector("#help", { state: "hidden" });
  await page.keyboard.press("t");
  assert.equal(await hash(page), "#s=AAA,NEW1&i=5&t=light&p=chart,tape,health");
  // Somebody else opens that address.
  await page.reload();
  await text(page, `${row("AAA")} .bid`, /^1\.00$/);
  assert.equal(await page.isVisible("#ladder"), false);
  assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "light");
  await page.keyboard.press("c");
  const csv = await until(async () => {
    const now = await page.evaluate(() => navigator.clipboard.readText());
    return now.startsWith("symbol,") && now;
  }, "a copy");
  assert.match(csv, /^symbol,bid_size,bid,ask,ask_size,last,change_percent,last_time,trades\nAAA,3,1\.00,/);
  assert.match(csv, /\nNEW1,,,,,,,,followed\n$/);
});

/** A pattern was refused for one of two reasons, and what was typed was gone. */
test("what is no symbol is told while it is typed, and stays to be mended", async () => {
  const gateway = await scene.gateway();
  const page = await scene.open(gateway, "#s=TYPED");
  await page.keyboard.press("/");
  await page.keyboard.type("NO*");
  await text(page, "#found .fault", /^No symbol: \* stands for many symbols, and a row shows one$/);
  await accessible(page, "what is no symbol");
  await page.keyboard.press("Enter");
  await text(page, "#notices", /NO\* cannot be added: \* stands for many symbols, and a row shows one/);
  assert.equal(await page.inputValue("#search"), "NO*");
  await page.keyboard.press("Backspace");
  assert.deepEqual(await page.locator("#found .fault").count(), 0);
  await page.keyboard.press("Enter");
  await page.waitForSelector(row("NO"));
});

/** All panels were hidden, and nobody said why. */
test("a layout that nobody knows is the default, and told; also when the address changes", async () => {
  const gateway = await scene.gateway();
  const page = await scene.open(gateway, "#s=PLAN,P*&p=zz");
  await text(page, "#notices", /Left out of the address, as the page does not know it: s=P\* · p=zz$/);
  for (const panel of ["chart", "ladder", "tape", "health"]) assert.ok(await page.isVisible(`#${panel}`), panel);
  assert.equal(await hash(page), "#s=PLAN");
  await page.evaluate(() => (location.hash = "#s=PLAN&p=walls"));
  await text(page, "#notices li", /does not know it: p=walls$/);
  await page.waitForFunction(() => location.hash === "#s=PLAN");
});

test("the help says what words mean, and can be read by keys on a small screen", async () => {
  const gateway = await scene.gateway();
  const page = await scene.open(gateway, "#s=WORD", { viewport: { width: 390, height: 500 } });
  await page.keyboard.press("?");
  await page.waitForSelector("#help[open]");
  const words = await page.locator("#words dt").allInnerTexts();
  for (const word of ["Change", "conflated", "degraded", "stale", "resyncing", "gap", "skew"]) assert.ok(words.includes(word), word);
  assert.ok(await page.evaluate(() => (document.querySelector("#help")?.scrollTop ?? -1) === 0), "it begins at its beginning");
  await page.keyboard.press("End");
  await page.waitForFunction(() => {
    const help = /** @type {Element} */ (document.querySelector("#help"));
    return help.scrollTop > 0 && help.scrollTop + help.clientHeight >= help.scrollHeight - 1;
  });
  await page.keyboard.press("?");
  await page.waitForSelector("#help", { state: "hidden" });
});

/** The chart of a symbol without trades had the prices of the one before at its right. */
test("a chart without candles has no axis of prices", async () => {
  const gateway = await scene.gateway();
  const page = await scene.open(gateway, "#s=PRICED,UNPRICED");
  await text(page, "#state", /^(live|degraded)$/);
  await page.waitForSelector("#no-candles", { state: "visible" });
  // The library lays out in a table: axis, chart, axis.
  const axis_px = () => page.evaluate(() => document.querySelector("#candles tr > td:nth-child(3)")?.getBoundingClientRect().width);
  await until(async () => (await axis_px()) === 0, "no axis before there is a candle");
  await produce(broker, [trade("PRICED", 1), quote("UNPRICED", 2)]);
  await page.waitForSelector("#no-candles", { state: "hidden" });
  await until(async () => Number(await axis_px()) > 0, "an axis");
  await page.click(row("UNPRICED"));
  await page.waitForSelector("#no-candles", { state: "visible" });
  await until(async () => (await axis_px()) === 0, "no axis");
  await page.click(row("PRICED"));
  await until(async () => Number(await axis_px()) > 0, "an axis again");
});

test("ladder, tape and rows show what was sent: sizes, spread, last trade, filter, pause, flash", async () => {
  const gateway = await scene.gateway();
  await produce(broker, [book("SHOW", [["99.5", "4"], ["99", "8"]], [["100.5", "2"], ["101", "1"]], true), quote("SHOW", 99)]);
  const page = await scene.open(gateway, "#s=SHOW");
  await text(page, "#spread", /^spread 1\.0 \(100\.0 bps\)$/);
  await produce(broker, [trade("SHOW", 0, { side: "buy", size: "5" }), trade("SHOW", 1, { side: "sell", size: "50", price: "99.5" })]);
  await text(page, `${row("SHOW")} .last`, /^▼ 99\.5$/);
  await text(page, `${row("SHOW")} .change`, /^-1\.00%$/);
  await text(page, "#bids .level.last .price", /^◆ 99\.5$/);
  const bars = await page.evaluate(() => [...document.querySelectorAll("#bids .level:not([hidden]) .bar")].map((bar) => /** @type {HTMLElement} */ (bar).style.backgroundSize));
  assert.deepEqual(bars, ["50% 100%", "100% 100%"]);
  const prints = () => page.locator("#prints .print:not([hidden])").evaluateAll((all) => all.map((print) => [print.className.replace("print", "").trim(), print.querySelector(".price")?.textContent, print.querySelector(".size")?.textContent]));
  assert.deepEqual(await prints(), [["sell", "▼ 99.5", "50"], ["buy", "▲ 100.50", "5"]]);
  await page.fill("#size-min", "10");
  await until(async () => (await prints()).length === 1, "the filter");
  assert.match(await hash(page), /z=10/);
  await page.fill("#size-min", "");
  await until(async () => (await prints()).length === 2, "no filter");
  // It stands still under the pointer, and goes on behind.
  await page.hover("#prints");
  await text(page, "#tape-note", /paused/);
  await produce(broker, [trade("SHOW", 2, { side: "buy" })]);
  await text(page, "#tape-note", /paused, 1 new/);
  assert.equal((await prints()).length, 2);
  await page.hover("h1");
  await until(async () => (await prints()).length === 3, "what came meanwhile");
  assert.match(await copied(page, "#copy-tape"), /^symbol,time,price,size,side\nSHOW,[^\n]*,100\.50,5,buy\nSHOW,[^\n]*,99\.5,50,sell\nSHOW/);
  // A price that moves flashes, by where it went.
  await page.evaluate((selector) => {
    const found = /** @type {Element} */ (document.querySelector(selector));
    const note = () => ["up", "down"].forEach((way) => found.classList.contains(way) && document.body.setAttribute(`data-${way}`, found.querySelector(".last")?.textContent?.[0] ?? ""));
    new MutationObserver(note).observe(found, { attributes: true });
  }, row("SHOW"));
  // Not each one does.
  let price = 50;
  for (const [way, step, sign] of /** @type {const} */ ([["up", 1, "▲"], ["down", -1, "▼"]])) {
    const flash = await until(async () => {
      await produce(broker, [trade("SHOW", (price += step))]);
      return page.getAttribute("body", `data-${way}`);
    }, `a flash ${way}`);
    assert.equal(flash, sign, "the colour says what the sign does");
  }
});

test("where a feed names no side, the tape says where the price went", async () => {
  const gateway = await scene.gateway();
  const page = await scene.open(gateway, "#s=TICK");
  await text(page, "#state", /^(live|degraded)$/);
  await produce(broker, [1, 2, 2, 1].map((n) => trade("TICK", n)));
  await text(page, "#prints .print:not([hidden]) .price", /^▽ 101\.50$/);
  const prints = await page.locator("#prints .print:not([hidden])").evaluateAll((all) => all.map((print) => `${print.className} ${print.querySelector(".price")?.textContent}`));
  assert.deepEqual(prints, ["print sell ▽ 101.50", "print buy △ 102.50", "print buy △ 102.50", "print · 101.50"]);
  assert.match(await copied(page, "#copy-tape"), /101\.50,1,\n$/, "a side is not made up");
});

/**
 * The tape stood still under the pointer, and an arrow key chose another symbol: the heading changed, and below it stayed the trades of the one before,
 * as what had been missed since was still counted, and nothing was painted while it was.
 */
test("a tape that stands still lets go of its lines when another symbol is chosen", async () => {
  const gateway = await scene.gateway();
  const page = await scene.open(gateway, "#s=STOOD,NEXT");
  await text(page, "#state", /^(live|degraded)$/);
  await produce(broker, [trade("STOOD", 1)]);
  await text(page, "#prints .print:not([hidden]) .price", /101\.50/);
  await page.hover("#prints");
  await text(page, "#tape-note", /^paused, 0 new$/);
  await produce(broker, [trade("STOOD", 2)]);
  await text(page, "#tape-note", /^paused, 1 new$/);
  await page.keyboard.press("w");
  await page.keyboard.press("ArrowDown");
  await text(page, "#tape h2", /NEXT/);
  await until(async () => (await page.locator("#prints .print:not([hidden])").count()) === 0, "no trade of another symbol");
  await text(page, "#tape-note", /^paused, 0 new$/);
  // An empty tape has nothing that could stand still.
  await produce(broker, [trade("NEXT", 3)]);
  await text(page, "#prints .print:not([hidden]) .price", /103\.50/);
  await produce(broker, [trade("NEXT", 4)]);
  await text(page, "#tape-note", /^paused, 1 new$/);
  assert.equal(await page.locator("#prints .print:not([hidden])").count(), 1);
});

/** The panel stood still under the pointer as a whole, with the filter in it: on a busy symbol a smallest size did nothing while the pointer was on its field. */
test("a filter of sizes counts at once, with the pointer on its field or on the tape", async () => {
  const gateway = await scene.gateway();
  const page = await scene.open(gateway, "#s=SIEVE");
  await text(page, "#state", /^(live|degraded)$/);
  const sizes = () => page.locator("#prints .print:not([hidden]) .size").allInnerTexts();
  const shows = (/** @type {string[]} */ ...wanted) => until(async () => (await sizes()).join() === wanted.join(), `sizes ${wanted}`);
  await produce(broker, [trade("SIEVE", 1, { size: "5" }), trade("SIEVE", 2, { size: "50" })]);
  await shows("50", "5");
  await page.hover("#size-min");
  await produce(broker, [trade("SIEVE", 3, { size: "7" })]);
  await shows("7", "50", "5");
  await page.fill("#size-min", "6");
  await shows("7", "50");
  await page.hover("#prints");
  await produce(broker, [trade("SIEVE", 4, { size: "70" })]);
  await text(page, "#tape-note", /^paused, 1 new$/);
  // The pointer stays where it is.
  await page.fill("#size-min", "10");
  await shows("70", "50");
  await text(page, "#tape-note", /^paused, 0 new$/);
});

/** A picture of a busy page had a trade of AAPL among those of ADAUSDT: what the worker had said before it heard of the new symbol came after the page had. */
test("what was on its way when another symbol is chosen is not shown as that one's", async () => {
  const gateway = await scene.gateway();
  const page = await scene.open(gateway, "#s=LEFT,CHOSEN");
  await text(page, "#state", /^(live|degraded)$/);
  let [n, isOver] = [0, false];
  const load = (async () => {
    while (!isOver) await produce(broker, [trade("LEFT", ++n % 1_000)]);
  })();
  scene.later(async () => {
    isOver = true;
    await load;
  });
  await text(page, `${row("LEFT")} .last`, /\d/);
  // The page is busy while the worker answers, and then the visitor's click comes first.
  await page.evaluate((selector) => {
    const end_ms = performance.now() + 300;
    while (performance.now() < end_ms);
    /** @type {HTMLElement | null} */ (document.querySelector(selector))?.click();
  }, row("CHOSEN"));
  await produce(broker, [trade("CHOSEN", 5_000)]);
  await text(page, "#prints .print:not([hidden]) .price", /5100\.50/);
  assert.equal(await page.locator("#prints .print:not([hidden])").count(), 1);
});

test("candles have every length, with volume, and go on while trades come", async () => {
  const gateway = await scene.gateway();
  const start_ns = 1_763_000_000_000_000_000n;
  const page = await scene.open(gateway, "#s=BARS");
  await text(page, "#state", /^(live|degraded)$/);
  // Two hours, a trade each minute.
  await produce(broker, range(0, 121).map((n) => trade("BARS", n % 7, { size: "2", event_ns: String(start_ns + BigInt(n) * 60_000_000_000n) })));
  await until(async () => (await page.getAttribute("#candles", "data-count")) === "121", "the candles of all");
  await page.waitForSelector("#no-candles", { state: "hidden" });
  const lengths = await page.locator("#intervals button").allInnerTexts();
  assert.deepEqual(lengths, ["1 s", "5 s", "15 s", "1 min", "5 min", "15 min", "1 h"]);
  /** What is drawn, of the lengths. */
  const drawn = new Set();
  for (const length of lengths) {
    await page.click(`#intervals button:text-is("${length}")`);
    // It says how long they are, and how many.
    await until(async () => (await page.getAttribute("#candles", "aria-label"))?.match(`^Candles of ${length} and volume of BARS: [1-9]`), length);
    drawn.add(`${length}: ${await page.getAttribute("#candles", "data-count")}`);
  }
  assert.deepEqual([...drawn], ["1 s: 121", "5 s: 121", "15 s: 121", "1 min: 121", "5 min: 25", "15 min: 9", "1 h: 3"]);
  assert.ok(await page.evaluate(() => document.querySelectorAll("#candles canvas").length > 0));
  await page.click('#intervals button:text-is("1 s")');
  await produce(broker, [trade("BARS", 3, { event_ns: String(start_ns + 9_000_000_000_000n) })]);
  await until(async () => (await page.getAttribute("#candles", "data-count")) === "122", "one more");
  // There is a bound: the oldest go.
  const more = range(0, 1_100).map((n) => trade("BARS", n % 7, { event_ns: String(start_ns + BigInt(10_000 + n) * 1_000_000_000n) }));
  await produce(broker, [...more, trade("BARS", 70, { event_ns: String(start_ns + 20_000_000_000_000n) })]);
  await text(page, `${row("BARS")} .last`, /170\.50/);
  await until(async () => {
    const count = Number(await page.getAttribute("#candles", "data-count"));
    return count >= 900 && count <= 1_000;
  }, "a bounded chart");
});

test("the page fits its window: nothing to scroll sideways, and usable on a phone", async () => {
  const gateway = await scene.gateway();
  await produce(broker, [book("WIDE", range(0, 20).map((n) => [`${99_000 - n}.25`, "12.5"]), range(0, 20).map((n) => [`${99_001 + n}.25`, "2"]), true), quote("WIDE", 99_000), trade("WIDE", 99_000), quote("TALL", 7)]);
  const page = await scene.open(gateway, "#s=TALL,WIDE&f=WIDE");
  await text(page, "#asks .level:not([hidden]) .price", /\d/);
  await text(page, "#rates", /messages/);
  for (const [width, height] of [[1920, 1080], [1400, 900], [1280, 800], [1024, 768], [390, 844]]) {
    await page.setViewportSize({ width: Number(width), height: Number(height) });
    const outside = await page.evaluate(() => {
      /** @type {string[]} */
      const found = [];
      for (const box of document.querySelectorAll("html, body, header, main")) if (box.scrollWidth > box.clientWidth) found.push(`${box.tagName} scrolls`);
      for (const part of document.querySelectorAll(".panel, .panel h2, button, input, #rows-space .row:not([hidden]) .cell, .print:not([hidden]) span, .level:not([hidden]) span")) {
        if (part.closest("dialog") !== null || part.getClientRects().length === 0) continue;
        const { left, right } = part.getBoundingClientRect();
        const panel = part.parentElement?.closest(".panel")?.getBoundingClientRect();
        if (left < 0 || right > innerWidth || (panel !== undefined && right > panel.right)) found.push(`${part.id || part.className || part.tagName} ${left}–${right}`);
      }
      return found;
    });
    assert.deepEqual(outside, [], `${width} pixels`);
    // All levels of both sides, where there is the height for the page at all.
    assert.equal(await page.locator("#bids .level:not([hidden])").count(), 10);
  }
  // On the phone: a finger chooses a symbol, everything can be scrolled to, and the search is there.
  await page.click(row("TALL"));
  await text(page, "#tape h2", /TALL/);
  await page.locator("#prints").scrollIntoViewIfNeeded();
  await page.locator("#notices").scrollIntoViewIfNeeded();
  await page.click("#search");
  await page.keyboard.type("WIDE");
  await page.keyboard.press("Enter");
  await text(page, "#tape h2", /WIDE/);
  await accessible(page, "a phone");
  await shot(page, "phone");
});

test("trades are asked for of rows in sight, and a row that comes into it has its last one", async () => {
  const gateway = await scene.gateway();
  const names = range(0, 130).map((n) => `ROW${String(n).padStart(3, "0")}`);
  await produce(broker, names.flatMap((name) => [quote(name, 1), trade(name, 1)]));
  const page = await scene.open(gateway, `#s=${names.join(",")}&f=ROW000`);
  await text(page, `${row("ROW002")} .last`, /101\.50/);
  await page.click("#watchlist .cell.symbol >> nth=1");
  await page.keyboard.press("End");
  await text(page, `${row("ROW129")} .last`, /101\.50/);
  // Quotes and status of each row, one book, and trades of those in sight.
  const trades = async () => (await held(gateway)) - 2 * names.length - 1;
  await until(async () => (await trades()) < 40, "trades of rows out of sight are not asked for any more");
  // What was seen of them stays, with its time; of what was never in sight nothing is known.
  const csv = await until(async () => {
    const now = await copied(page, "#copy");
    // Rows out of sight are told once a second.
    return /\nROW060,3,/.test(now) && now;
  }, "a copy of rows out of sight");
  assert.match(csv, /\nROW002,3,1\.00,[^,]*,4,101\.50,0\.00,\d{4}-\d\d-\d\dT[\d:.]+Z,out of sight\n/);
  assert.match(csv, /\nROW060,3,1\.00,[^,]*,4,,,,out of sight\n/);
  assert.match(csv, /\nROW129,3,1\.00,[^,]*,4,101\.50,0\.00,\d{4}-\d\d-\d\dT[\d:.]+Z,followed\n/);
  await text(page, "#notices", /Watchlist, with last prices of \d+ symbols out of sight that are as old as last_time says, copied as CSV/);
  // Traded while nobody saw it.
  await produce(broker, [trade("ROW002", 7)]);
  await page.keyboard.press("w");
  await page.keyboard.press("Home");
  await text(page, `${row("ROW002")} .last`, /107\.50/);
  await produce(broker, [trade("ROW002", 8)]);
  await text(page, `${row("ROW002")} .last`, /108\.50/);
  await until(async () => (await trades()) < 40 && (await trades()) > 10, "what came into sight is asked for, what left it is not");
});

test("however often a price moves, its row flashes at most three times a second", async () => {
  const gateway = await scene.gateway();
  const page = await scene.open(gateway, "#s=FAST");
  await produce(broker, [trade("FAST", 1)]);
  await text(page, `${row("FAST")} .last`, /101\.50/);
  // By the time of the frame that began it: a slow machine paints late, and no other time.
  await page.evaluate((selector) => {
    const found = /** @type {Element} */ (document.querySelector(selector));
    const seen = { flashes: /** @type {number[]} */ ([]), painted: 0 };
    Object.assign(globalThis, { seen });
    let isLit = false;
    new MutationObserver(() => {
      const is = found.matches(".up, .down");
      if (is && !isLit) seen.flashes.push(Number(document.timeline.currentTime));
      isLit = is;
    }).observe(found, { attributes: true });
    new MutationObserver(() => seen.painted++).observe(/** @type {Element} */ (found.querySelector(".last")), { characterData: true, subtree: true });
  }, row("FAST"));
  let isEnough = false;
  const feeding = (async () => {
    for (let price = 2; !isEnough; price++) await produce(broker, [trade("FAST", price)]);
  })();
  const { flashes } = await until(async () => {
    const { flashes, painted } = await page.evaluate(() => /** @type {any} */ (globalThis).seen);
    // Prices that did not flash were there: the bound was tried.
    return flashes.length >= 6 && painted > flashes.length && { flashes };
  }, "flashes").finally(() => (isEnough = true));
  await feeding;
  const apart = flashes.slice(1).map((/** @type {number} */ at, /** @type {number} */ n) => at - flashes[n]);
  assert.ok(apart.every((/** @type {number} */ ms) => ms >= 1_000 / 3), `${apart}`);
});

test("with reduced motion nothing flashes", async () => {
  const gateway = await scene.gateway();
  const page = await scene.open(gateway, "#s=CALM", { reducedMotion: "reduce" });
  await text(page, "#state", /^(live|degraded)$/);
  await page.evaluate(() => new MutationObserver(() => document.querySelector(".row.up, .row.down") && document.body.setAttribute("data-flashed", "yes")).observe(/** @type {Element} */ (document.querySelector("#rows")), { attributes: true, subtree: true }));
  await produce(broker, [trade("CALM", 1)]);
  await text(page, `${row("CALM")} .last`, /101\.50/);
  await produce(broker, [trade("CALM", 2)]);
  await text(page, `${row("CALM")} .last`, /^▲ 102\.50$/);
  assert.equal(await page.getAttribute("body", "data-flashed"), null);
});

/** The field of the smallest size was set when the page was loaded alone: at another address the tape left out what the field did not say. */
test("the field of the smallest size says what the address does", async () => {
  const gateway = await scene.gateway();
  const page = await scene.open(gateway, "#s=FIELD&z=2.5");
  assert.equal(await page.inputValue("#size-min"), "2.5");
  await text(page, "#state", /^(live|degraded)$/);
  await page.evaluate(() => (location.hash = "#s=FIELD&z=10"));
  await until(async () => (await page.inputValue("#size-min")) === "10", "the new address");
  await produce(broker, [trade("FIELD", 1, { size: "9" }), trade("FIELD", 2, { size: "11" })]);
  await until(async () => (await page.locator("#prints .print:not([hidden]) .size").allInnerTexts()).join() === "11", "the filter");
  await page.evaluate(() => (location.hash = "#s=FIELD"));
  await until(async () => (await page.inputValue("#size-min")) === "", "no filter");
  // What is being typed is left alone.
  await page.fill("#size-min", "");
  await page.locator("#size-min").pressSequentially("1.50");
  assert.equal(await page.inputValue("#size-min"), "1.50");
  assert.match(await hash(page), /z=1\.5$/);
});

/** The system's theme was looked up when something else was painted: a page that was left open through the evening stayed light. */
test("the page follows the system's theme while it is open, unless one was chosen", async () => {
  const gateway = await scene.gateway();
  const page = await scene.open(gateway, "#s=DUSK");
  const shows = (/** @type {string} */ theme) => page.waitForFunction((wanted) => document.documentElement.dataset.theme === wanted, theme);
  await shows("dark");
  await page.emulateMedia({ colorScheme: "light" });
  await shows("light");
  await accessible(page, "light by the system");
  await page.emulateMedia({ colorScheme: "dark" });
  await shows("dark");
  await page.keyboard.press("t");
  await shows("light");
  await page.emulateMedia({ colorScheme: "light" });
  await page.emulateMedia({ colorScheme: "dark" });
  assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "light");
});
