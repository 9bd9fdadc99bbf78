/** The page in a real Chromium, against real gateways. `TICKGATE_SCREENSHOTS` names a folder for pictures. */

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { chromium } from "playwright-core";
import { produce } from "../../../clients/typescript/build/test/support/kafka.js";
import { Stage, until } from "../../../clients/typescript/build/test/support/programs.js";
import { book, quote, range, trade } from "../../../clients/typescript/build/test/support/records.js";
import { PageServer } from "./serve.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const CHROMIUM = process.env.CHROMIUM ?? ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);
const SHOTS = process.env.TICKGATE_SCREENSHOTS;

/** @type {import("playwright-core").Browser} */
let browser;
/** @type {Stage} */
let stage;
/** @type {(() => unknown)[]} */
let cleanUp = [];

before(async () => {
  assert.ok(CHROMIUM, "no Chromium: name one with CHROMIUM");
  browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] });
  stage = await Stage.start(["ticks:2", "market:4"]);
});
after(async () => {
  await browser?.close();
  await stage?.end();
});
afterEach(async () => {
  for (const one of cleanUp.reverse()) await one();
  cleanUp = [];
});

/** Opens the page of a gateway. What it logs as an error, and what it asks others for, fails the test. */
async function open(/** @type {{ address: string }} */ gateway, hash = "", options = {}) {
  const server = await PageServer.start(gateway.address);
  const context = await browser.newContext({ viewport: { width: 1600, height: 900 }, colorScheme: "dark", ...options });
  await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: new URL(server.url).origin });
  const page = await context.newPage();
  /** @type {string[]} */
  const faults = [];
  page.on("pageerror", (error) => faults.push(error.stack ?? error.message));
  page.on("console", (message) => {
    // Sockets that cannot connect are logged by the browser itself.
    if (message.type() === "error" && !/WebSocket connection|ERR_/.test(message.text())) faults.push(message.text());
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(server.url)) faults.push(`asked for ${request.url()}`);
  });
  cleanUp.push(async () => {
    await context.close();
    server.close();
    assert.deepEqual(faults, []);
  });
  await page.goto(`${server.url}${hash}`);
  return { page, server };
}

/** Waits until an element has a text. */
async function text(/** @type {import("playwright-core").Page} */ page, /** @type {string} */ selector, /** @type {RegExp} */ pattern) {
  let last = "";
  try {
    await until(async () => pattern.test((last = (await page.locator(selector).first().textContent()) ?? "")), `${pattern}`);
  } catch (error) {
    throw new Error(`${selector} is ${JSON.stringify(last)}: ${/** @type {Error} */ (error).message}`);
  }
}

const row = (/** @type {string} */ symbol) => `#rows-space .row[data-symbol="${symbol}"]:not([hidden])`;

async function copied(/** @type {import("playwright-core").Page} */ page, /** @type {string} */ button) {
  await page.evaluate(() => navigator.clipboard.writeText("nothing"));
  await page.click(button);
  return until(async () => {
    const csv = await page.evaluate(() => navigator.clipboard.readText());
    return csv !== "nothing" && csv;
  }, "something copied");
}

async function shot(/** @type {import("playwright-core").Page} */ page, /** @type {string} */ name) {
  if (SHOTS === undefined) return;
  mkdirSync(SHOTS, { recursive: true });
  await page.screenshot({ path: join(SHOTS, `${name}.png`) });
}

async function accessible(/** @type {import("playwright-core").Page} */ page, /** @type {string} */ what) {
  // By the debugger: the page's own policy forbids scripts of others.
  const client = await page.context().newCDPSession(page);
  await client.send("Runtime.evaluate", { expression: AXE });
  const { result } = await client.send("Runtime.evaluate", { expression: "axe.run(document, {resultTypes: ['violations']}).then(({violations}) => JSON.stringify(violations.map(({id, nodes}) => [id, ...nodes.slice(0, 3).map(({html, failureSummary}) => html.slice(0, 150) + ' ' + failureSummary)])))", awaitPromise: true, returnByValue: true });
  assert.deepEqual(JSON.parse(String(result.value)), [], what);
}

const MARKET = '[[feeds]]\ntopic = "market"\n';

async function market() {
  for (const [model, rate] of [["us-equities", "300"], ["crypto-perp", "300"]]) {
    const program = stage.run("tickgate-sim", ["run", "--model", String(model), "--symbols", "12", "--rate", String(rate), "--brokers", stage.broker, "--topic", "market", "--partitions", "0"]);
    cleanUp.push(() => program.stop());
  }
  const gateway = await stage.gateway([], { config: MARKET });
  cleanUp.push(() => gateway.program.stop());
  return gateway;
}

test("a first visit shows what is there, with nothing from outside, dark and light, and passes axe", async () => {
  const { page } = await open(await market());
  await text(page, "#state", /^live$/);
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
  await text(page, "#details", /^0 gaps .* feeds: market live$/);
  await page.waitForFunction(() => document.querySelectorAll(".print.buy").length > 0 && document.querySelectorAll(".print.sell").length > 0);
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

test("everything is done by keys: search, rows, removal, candles, panels, help; and the address says it", async () => {
  const gateway = await stage.gateway();
  cleanUp.push(() => gateway.program.stop());
  await produce(stage.broker, ["AAA", "AAB", "BAA", "CCC"].flatMap((symbol, n) => [quote(symbol, n + 1), trade(symbol, n)]));
  const { page } = await open(gateway, "#s=AAA");
  await text(page, `${row("AAA")} .bid`, /^1\.00$/);
  await page.keyboard.press("/");
  await page.keyboard.type("a");
  await until(() => page.evaluate(() => document.querySelectorAll("#found li").length >= 3), "what is found");
  assert.deepEqual(await page.locator("#found li").allInnerTexts(), ["AAA", "AAB", "BAA", "ask for a"]);
  await page.keyboard.press("ArrowDown");
  assert.equal(await page.locator("#found li.at").innerText(), "AAB");
  await page.keyboard.press("Enter");
  await text(page, `${row("AAB")} .bid`, /^2\.00$/);
  await page.keyboard.press("/");
  await page.keyboard.type("NEW1");
  await page.keyboard.press("Enter");
  await page.waitForSelector(row("NEW1"));
  assert.equal(new URL(page.url()).hash, "#s=AAA,AAB,NEW1&f=NEW1");
  assert.equal(await page.evaluate(() => document.activeElement?.id), "watchlist", "the keyboard is where the rows are");
  // Rows, by arrows; screen readers follow.
  await page.keyboard.press("ArrowUp");
  assert.equal(new URL(page.url()).hash, "#s=AAA,AAB,NEW1&f=AAB");
  const active = await until(() => page.evaluate(() => {
    const id = document.querySelector("#watchlist")?.getAttribute("aria-activedescendant");
    const found = id === null || id === undefined ? null : document.getElementById(id);
    return found?.getAttribute("aria-selected") === "true" && found.dataset.symbol === "AAB" ? found.getAttribute("aria-rowindex") : undefined;
  }), "the active row");
  assert.equal(active, "3");
  await text(page, "#tape h2", /AAB/);
  await page.keyboard.press("Delete");
  assert.equal(new URL(page.url()).hash, "#s=AAA,NEW1&f=NEW1");
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
  assert.equal(new URL(page.url()).hash, "#s=AAA,NEW1&i=5&t=light&p=chart,tape,health");
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
  assert.match(csv, /^symbol,bid_size,bid,ask,ask_size,last,change_percent\nAAA,3,1\.00,4?1?\.?1?0?,?4?/);
});

test("ladder, tape and rows show what was sent: sizes, spread, last trade, filter, pause, flash", async () => {
  const gateway = await stage.gateway();
  cleanUp.push(() => gateway.program.stop());
  await produce(stage.broker, [book("SHOW", [["99.5", "4"], ["99", "8"]], [["100.5", "2"], ["101", "1"]], true), quote("SHOW", 99)]);
  const { page } = await open(gateway, "#s=SHOW");
  await text(page, "#spread", /^spread 1\.0 \(100\.0 bps\)$/);
  await produce(stage.broker, [trade("SHOW", 0, { side: "buy", size: "5" }), trade("SHOW", 1, { side: "sell", size: "50", price: "99.5" })]);
  await text(page, `${row("SHOW")} .last`, /^▼ 99\.5$/);
  await text(page, `${row("SHOW")} .change`, /^-1\.00%$/);
  await text(page, "#bids .level.last .price", /^◆ 99\.5$/);
  const bars = await page.evaluate(() => [...document.querySelectorAll("#bids .level:not([hidden]) .bar")].map((bar) => /** @type {HTMLElement} */ (bar).style.transform));
  assert.deepEqual(bars, ["scaleX(0.5)", "scaleX(1)"]);
  const prints = () => page.locator("#prints .print:not([hidden])").evaluateAll((all) => all.map((print) => [print.className.replace("print", "").trim(), print.querySelector(".price")?.textContent, print.querySelector(".size")?.textContent]));
  assert.deepEqual(await prints(), [["sell", "▼ 99.5", "50"], ["buy", "▲ 100.50", "5"]]);
  await page.fill("#size-min", "10");
  await until(async () => (await prints()).length === 1, "the filter");
  assert.match(page.url(), /z=10/);
  await page.fill("#size-min", "");
  await until(async () => (await prints()).length === 2, "no filter");
  // It stands still under the pointer, and goes on behind.
  await page.hover("#prints");
  await text(page, "#tape-note", /paused/);
  await produce(stage.broker, [trade("SHOW", 2, { side: "buy" })]);
  await text(page, "#tape-note", /paused, 1 new/);
  assert.equal((await prints()).length, 2);
  await page.hover("h1");
  await until(async () => (await prints()).length === 3, "what came meanwhile");
  assert.match(await copied(page, "#copy-tape"), /^symbol,time,price,size,side\nSHOW,[^\n]*,100\.50,5,buy\nSHOW,[^\n]*,99\.5,50,sell\nSHOW/);
  // A price that moves flashes.
  await page.evaluate((selector) => {
    const found = document.querySelector(selector);
    new MutationObserver(() => found?.classList.contains("up") && document.body.setAttribute("data-flashed", "yes")).observe(/** @type {Element} */ (found), { attributes: true });
  }, row("SHOW"));
  // Not each one does: never more than three a second.
  let price = 9;
  await until(async () => {
    await produce(stage.broker, [trade("SHOW", price++)]);
    return page.getAttribute("body", "data-flashed");
  }, "a flash");
});

test("with reduced motion nothing flashes", async () => {
  const gateway = await stage.gateway();
  cleanUp.push(() => gateway.program.stop());
  const { page } = await open(gateway, "#s=CALM", { reducedMotion: "reduce" });
  await text(page, "#state", /^(live|degraded)$/);
  await page.evaluate(() => new MutationObserver(() => document.querySelector(".row.up, .row.down") && document.body.setAttribute("data-flashed", "yes")).observe(/** @type {Element} */ (document.querySelector("#rows")), { attributes: true, subtree: true }));
  await produce(stage.broker, [trade("CALM", 1)]);
  await text(page, `${row("CALM")} .last`, /101\.50/);
  await produce(stage.broker, [trade("CALM", 2)]);
  await text(page, `${row("CALM")} .last`, /^▲ 102\.50$/);
  assert.equal(await page.getAttribute("body", "data-flashed"), null);
});

test("a gateway is restarted: the page goes on without a gap", async () => {
  const first = await stage.gateway();
  const { page, server } = await open(first, "#s=KEEP");
  await text(page, "#state", /^(live|degraded)$/);
  await produce(stage.broker, range(0, 20).map((n) => trade("KEEP", n)));
  await text(page, `${row("KEEP")} .last`, /119\.50/);
  await first.program.stop("SIGTERM");
  await text(page, "#state", /^reconnecting \d+$/);
  await shot(page, "reconnecting");
  await produce(stage.broker, range(20, 40).map((n) => trade("KEEP", n)));
  const second = await stage.gateway();
  cleanUp.push(() => second.program.stop());
  server.target = second.address;
  await text(page, `${row("KEEP")} .last`, /139\.50/);
  await text(page, "#state", /^(live|degraded)$/);
  await produce(stage.broker, range(40, 50).map((n) => trade("KEEP", n)));
  await text(page, `${row("KEEP")} .last`, /149\.50/);
  await text(page, "#details", /^0 gaps .* 1 reconnects/);
  const prices = (await copied(page, "#copy-tape")).trim().split("\n").slice(1).map((line) => line.split(",")[2]);
  assert.deepEqual(prices, range(0, 50).map((n) => `${100 + n}.50`));
});

test("a client that is slowed down sees conflation, and recovers", async () => {
  const gateway = await stage.gateway();
  cleanUp.push(() => gateway.program.stop());
  const symbols = range(0, 60).map((n) => `LOAD${n}`);
  let [n, isOver] = [0, false];
  // Rarely enough that the page's own `conflate_ms` merges nothing, and far more than a slow client takes.
  const load = (async () => {
    while (!isOver) {
      await produce(stage.broker, symbols.map((symbol) => quote(symbol, ++n)));
      await new Promise((wake) => setTimeout(wake, 300));
    }
  })();
  cleanUp.push(async () => {
    isOver = true;
    await load;
  });
  const { page } = await open(gateway, `#s=${symbols.join(",")}`);
  await text(page, "#state", /^live$/);
  await text(page, "#rates", /[1-9]\d* events\/s · [0-9]\.\d% conflated/);
  await page.keyboard.press("s");
  assert.equal(await page.getAttribute("#slow", "aria-pressed"), "true");
  await text(page, "#rates", /([5-9]\d|100)\.\d% conflated/);
  await shot(page, "slow");
  await page.keyboard.press("s");
  assert.equal(await page.getAttribute("#slow", "aria-pressed"), "false");
  await text(page, "#rates", /[1-9]\d* events\/s · [0-9]\.\d% conflated/);
});

test("a feed that falls silent, and a line that does, are shown", async () => {
  const gateway = await stage.gateway([], { config: '[[feeds]]\ntopic = "ticks"\nsilence_ms = 1000\n' });
  cleanUp.push(() => gateway.program.stop());
  await produce(stage.broker, [trade("HUSH", 1)]);
  const { page, server } = await open(gateway, "#s=HUSH");
  await text(page, "#details", /ticks stale/);
  await text(page, "#state", /^degraded$/);
  await produce(stage.broker, [trade("HUSH", 2)]);
  await text(page, `${row("HUSH")} .last`, /102\.50/);
  assert.equal(await page.locator(row("HUSH")).evaluate((found) => found.classList.contains("stale")), false);
  // Ten seconds without anything of it, and it is grey.
  await page.waitForSelector(`${row("HUSH")}.stale`, { timeout: 30_000 });
  await shot(page, "stale");
  server.isHeld = true;
  await text(page, "#state", /^stale$/);
  server.isHeld = false;
  await text(page, "#state", /^(live|degraded)$/);
});

test("a gateway that asks for a token gets one, and a wrong one is told", async () => {
  const secret = "a secret of the tests that has more than 32 bytes";
  const key = join(stage.dir, "page-secret");
  writeFileSync(key, secret);
  const config = `[auth]\nmode = "required"\nissuers = ["tests"]\naudiences = ["tickgate"]\nkey_files = ["HS256:${key}"]\n`;
  const gateway = await stage.gateway([], { config });
  cleanUp.push(() => gateway.program.stop());
  await produce(stage.broker, [trade("MINE", 1)]);
  const { page } = await open(gateway, "#s=MINE");
  await page.waitForSelector("#token[open]");
  assert.equal(await page.isVisible("#token-refused"), false);
  await accessible(page, "the question for a token");
  await page.fill("#token-text", "wrong.token.here");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#token-refused", { state: "visible" });
  await shot(page, "token");
  const part = (/** @type {object} */ value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part({ iss: "tests", aud: "tickgate", sub: "ann", exp: Math.floor(Date.now() / 1_000) + 600, tickgate: { symbols: ["*"], wildcard: true } })}`;
  const token = `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
  await page.fill("#token-text", token);
  await page.keyboard.press("Enter");
  await produce(stage.broker, [trade("MINE", 2)]);
  await text(page, `${row("MINE")} .last`, /102\.50/);
  assert.ok(!page.url().includes(token) && !(await page.content()).includes(token));
});
