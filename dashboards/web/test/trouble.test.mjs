/** What the page shows when something goes wrong, in a real Chromium, against real gateways. */

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { produce } from "../../../clients/typescript/build/test/support/kafka.js";
import { Stage, until } from "../../../clients/typescript/build/test/support/programs.js";
import { quote, range, trade } from "../../../clients/typescript/build/test/support/records.js";
import { required, token } from "./auth.mjs";
import { accessible, copied, held, row, Scene, shot, text } from "./browser.mjs";
import { PageServer } from "./serve.mjs";

/** @type {Scene} */
let scene;
/** @type {string} */
let broker;

before(async () => {
  scene = await Scene.start();
  broker = scene.stage.broker;
});
after(() => scene?.end());
afterEach(() => scene.afterEach());

for (const signal of /** @type {const} */ (["SIGKILL", "SIGTERM"])) {
  test(`a gateway is ended by ${signal} and started again: the page goes on without a gap`, async () => {
    const symbol = `KEEP-${signal}`;
    const first = await scene.gateway();
    const page = await scene.open(first, `#s=${symbol}`, { losesGateway: true });
    await text(page, "#state", /^(live|degraded)$/);
    await produce(broker, range(0, 20).map((n) => trade(symbol, n)));
    await text(page, `${row(symbol)} .last`, /119\.50/);
    // A heartbeat has come, and with it a cursor to come back with.
    await text(page, "#details", /feeds: ticks/);
    // Each state that the badge shows from now on, however short.
    await page.evaluate(() => {
      const badge = /** @type {HTMLElement} */ (document.querySelector("#state"));
      /** @type {Set<string | null>} */
      const seen = new Set();
      const note = () => (badge.dataset.seen = [...seen].join());
      new MutationObserver((all) => {
        for (const { oldValue } of all) seen.add(oldValue?.replace(/\d+/, "n") ?? null);
        note();
      }).observe(badge, { characterData: true, characterDataOldValue: true, subtree: true });
    });
    await first.program.stop(signal);
    await text(page, "#state", /^reconnecting \d+$/);
    await text(page, "#details", /feeds: not known$/);
    await shot(page, "reconnecting");
    await produce(broker, range(20, 40).map((n) => trade(symbol, n)));
    await scene.gateway({ listen: first.address });
    await text(page, `${row(symbol)} .last`, /139\.50/);
    await text(page, "#state", /^(live|degraded)$/);
    assert.match((await page.getAttribute("#state", "data-seen")) ?? "", /reconnecting n,(.*,)?resyncing/);
    await produce(broker, range(40, 50).map((n) => trade(symbol, n)));
    await text(page, `${row(symbol)} .last`, /149\.50/);
    assert.deepEqual(await page.locator("#notices .gap").allInnerTexts(), []);
    await text(page, "#details", /^0 gaps .* 1 reconnects/);
    // What the broker holds is what the tape has: each trade, once, in order.
    const prices = (await copied(page, "#copy-tape")).trim().split("\n").slice(1).map((line) => line.split(",")[2]);
    assert.deepEqual(prices, range(0, 50).map((n) => `${100 + n}.50`));
    await text(page, "#notices", /live again after .* without a gap/);
    await text(page, "#details", /feeds: ticks (live|stale)$/);
  });
}

/** The load came every 300 ms whatever the page did: where that was busy for longer than two rounds, they were merged, and the page was slow before anybody had slowed it down. */
test("a client that is slowed down sees conflation and gaps, and recovers", async () => {
  const gateway = await scene.gateway();
  const symbols = range(0, 60).map((n) => `LOAD${n}`);
  // High enough that every row is in sight.
  const page = await scene.open(gateway, `#s=${symbols.join(",")}`, { viewport: { width: 1_400, height: 2_400 } });
  const other = await scene.open(gateway, "#s=LOAD59");
  const bids = (/** @type {import("playwright-core").Page} */ of) => of.locator("#rows-space .row:not([hidden]) .bid").allInnerTexts();
  let [isSlow, isOver] = [false, false];
  const load = (async () => {
    for (let round = 1; !isOver; round++) {
      await produce(broker, [...symbols.map((symbol) => quote(symbol, round)), ...range(0, 40).map((at) => trade("LOAD1", (round * 40 + at) % 1_000))]);
      // The page has shown a round before the next one comes, so nothing is merged. When it is slow, a page that is not says when.
      const [reader, rows] = isSlow ? [other, 1] : [page, symbols.length];
      await until(async () => {
        if (isOver || (isSlow && reader === page)) return true;
        const shown = await bids(reader);
        return shown.length === rows && shown.every((bid) => bid === `${round}.00`);
      }, `round ${round} on a page`);
    }
  })();
  load.catch(() => undefined);
  scene.later(async () => {
    isOver = true;
    await load;
  });
  await text(page, "#state", /^(live|degraded)$/);
  await text(page, "#rates", /[1-9]\d* messages\/s · [0-9]\.\d% conflated/);
  assert.equal(await page.locator("#notices .gap").count(), 0);
  isSlow = true;
  await page.keyboard.press("s");
  assert.equal(await page.getAttribute("#slow", "aria-pressed"), "true");
  await text(page, "#notices", /Slowed down to 8 KiB a second/);
  await text(page, "#rates", /([5-9]\d|100)\.\d% conflated/);
  await text(page, "#notices .gap", /LOAD1: \d+ trades missing in \d+ gaps/);
  await text(page, "#state", /^degraded$/);
  await page.waitForSelector(`${row("LOAD1")}.gap`);
  await text(page, "#details", /^[1-9]\d* gaps/);
  await shot(page, "slow");
  isSlow = false;
  await page.keyboard.press("s");
  assert.equal(await page.getAttribute("#slow", "aria-pressed"), "false");
  await text(page, "#notices", /Not slowed down any more: all comes again/);
  await text(page, "#rates", /[1-9]\d* messages\/s · [0-9]\.\d% conflated/);
  await text(page, "#notices", /This client keeps up again, after \d+\.\d s/);
});

/**
 * An empty watchlist said "No symbols yet" while no broker answered the gateway. And a feed that was live again was told as the error that it had been
 * before, at the time of that, below what was told meanwhile.
 */
test("a feed that is down is told where symbols are missed, and over when it is back", async () => {
  const own = new Scene(scene.browser, new Stage());
  scene.later(() => own.stage.end());
  const start = async (/** @type {string} */ listen) => {
    const program = own.stage.run("tickgate-broker", ["--listen", listen, "--topic", "ticks:1"]);
    own.stage.broker = await program.said(/^(127\.0\.0\.1:\d+)$/m);
    return program;
  };
  const first = await start("127.0.0.1:0");
  const gateway = await own.gateway({ config: '[[feeds]]\ntopic = "ticks"\nsilence_ms = 1000\n' });
  scene.later(() => gateway.program.stop());
  const page = await scene.open(gateway);
  await text(page, "#notices .info", /^[\d:]{8} Feed ticks of the gateway is stale: no record comes$/);
  await first.stop();
  await text(page, "#watch-hint", /^The gateway's feed ticks is down: no broker answers.* Symbols show up here/);
  await text(page, "#feed-hint", /^The gateway's feed ticks is down: /);
  await text(page, "#notices .error", /^[\d:]{8} Feed ticks of the gateway is down: no broker answers it/);
  await text(page, "#state", /^degraded$/);
  const isOld = () => page.evaluate(() => document.body.classList.contains("old"));
  await until(isOld, "what stood there before is grey");
  await accessible(page, "a feed that is down");
  await shot(page, "down");
  // What is told next stands above it, as long as nothing is new of the feed.
  await copied(page, "#copy");
  await text(page, "#notices li", /Watchlist copied/);
  await page.evaluate(() => (/** @type {Element} */ (document.querySelector("#notices .error time")).textContent = "then"));
  await start(own.stage.broker);
  await until(async () => {
    await produce(own.stage.broker, [quote("BACK", 3)]).catch(() => undefined);
    return page.locator(row("BACK")).count();
  }, "a symbol");
  await text(page, `${row("BACK")} .bid`, /^3\.00$/);
  await until(async () => !(await isOld()), "nothing is grey any more");
  // It falls silent again as soon as nothing comes.
  const told = await until(async () => {
    await produce(own.stage.broker, [quote("BACK", 3)]);
    return page.evaluate(() => {
      if (["watch-hint", "feed-hint"].some((id) => document.getElementById(id)?.hidden !== true)) return undefined;
      const all = [...document.querySelectorAll("#notices li")].map((item) => `${item.className} ${item.textContent}`);
      return all.some((notice) => /live again/.test(notice)) ? all : undefined;
    });
  }, "a feed that is live again");
  const ofFeed = told.filter((notice) => /Feed ticks/.test(notice));
  assert.equal(ofFeed.length, 1, `${told}`);
  assert.match(String(ofFeed[0]), /^info [\d:]{8} Feed ticks of the gateway is live again \(the \d+\. time\)$/);
  assert.ok(told.indexOf(String(ofFeed[0])) < told.findIndex((notice) => /Watchlist copied/.test(notice)), `${told}`);
});

test("a feed that falls silent, and a gateway that does, are shown", async () => {
  const gateway = await scene.gateway({ config: '[[feeds]]\ntopic = "ticks"\nsilence_ms = 1000\n' });
  await produce(broker, [trade("HUSH", 1), quote("HUSH", 1)]);
  const page = await scene.open(gateway, "#s=HUSH", { losesGateway: true });
  await text(page, "#details", /ticks stale/);
  await text(page, "#feed-hint", /^The gateway's feed ticks is stale: /);
  await text(page, "#state", /^degraded$/);
  // A heartbeat that comes late finds it stale again.
  await until(async () => {
    await produce(broker, [trade("HUSH", 2)]);
    return /Feed ticks of the gateway is live again/.test((await page.locator("#notices").textContent()) ?? "");
  }, "a feed that is live again");
  await text(page, `${row("HUSH")} .last`, /102\.50/);
  const isStale = () => page.locator(row("HUSH")).evaluate((found) => found.classList.contains("stale"));
  assert.equal(await isStale(), false);
  // Eleven seconds later, by the page's clock, it is grey.
  await page.evaluate(() => {
    const now = Date.now;
    Date.now = () => now() + 11_000;
  });
  await until(isStale, "a grey row");
  await accessible(page, "a grey row");
  await shot(page, "stale");
  // The last prices of before stood there as if they were those of now.
  const styles = () =>
    page.evaluate(() =>
      ["#prints .print .price", "#ladder .level .price", "#spread"].map((at) => {
        const found = document.querySelector(at);
        if (found === null) throw new Error(`no ${at}`);
        const { fontStyle, color } = getComputedStyle(found);
        return { fontStyle, color };
      }),
    );
  const isNow = (/** @type {Awaited<ReturnType<typeof styles>>} */ all) => all.every(({ fontStyle }) => fontStyle === "normal");
  const now = await until(async () => {
    // So that the feed is not silent, which is no reason for grey either.
    await produce(broker, [trade("HUSH", 3), quote("HUSH", 3)]);
    const all = await styles();
    return isNow(all) ? all : undefined;
  }, "prices of now");
  gateway.program.signal("SIGSTOP");
  await text(page, "#state", /^stale$/);
  await text(page, "#details", /feeds: not known$/);
  const quiet = await page.locator("#details").evaluate((found) => getComputedStyle(found).color);
  for (const { fontStyle, color } of await styles()) assert.deepEqual([fontStyle, color], ["italic", quiet]);
  await accessible(page, "a page of before");
  gateway.program.signal("SIGCONT");
  await text(page, "#state", /^(live|degraded)$/);
  await until(async () => isNow(await styles()), "prices of now again");
  assert.ok(now.slice(0, 2).every(({ color }) => color !== quiet));
});

test("a gateway that asks for a token gets one, and a wrong one is told", async () => {
  const secret = "a secret of the tests that has more than 32 bytes";
  const gateway = await scene.gateway({ config: required(scene, "asked", secret) });
  await produce(broker, [trade("MINE", 1)]);
  const page = await scene.open(gateway, "#s=MINE");
  await page.waitForSelector("#token[open]");
  assert.equal(await page.isVisible("#token-refused"), false);
  await accessible(page, "the question for a token");
  await page.fill("#token-text", "wrong.token.here");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#token-refused", { state: "visible" });
  await shot(page, "token");
  const right = token(secret);
  await page.fill("#token-text", right);
  await page.keyboard.press("Enter");
  await produce(broker, [trade("MINE", 2)]);
  await text(page, `${row("MINE")} .last`, /102\.50/);
  assert.ok(!page.url().includes(right) && !(await page.content()).includes(right));
});

/** Esc closed the question for a token, and nothing brought it back but loading the page anew. */
test("whoever leaves the question for a token can have it back", async () => {
  const secret = "another secret of the tests that has more than 32 bytes";
  const gateway = await scene.gateway({ config: required(scene, "back", secret) });
  const page = await scene.open(gateway, "#s=BACK");
  await page.waitForSelector("#token[open]");
  await page.keyboard.press("Escape");
  await page.waitForSelector("#token", { state: "hidden" });
  await text(page, "#state", /^closed$/);
  await accessible(page, "a question that was left");
  await page.click("#ask-token");
  await page.waitForSelector("#token[open]");
  await page.fill("#token-text", token(secret));
  await page.keyboard.press("Enter");
  await text(page, "#state", /^(live|degraded)$/);
  assert.equal(await page.isVisible("#ask-token"), false);
});

/** Runs in the page: the sum of volumes that its worker tells, in the document's `data-volume`. */
function noteVolume() {
  const volumes = new Map();
  globalThis.Worker = class extends Worker {
    /** @param {string | URL} url @param {WorkerOptions} options */
    constructor(url, options) {
      super(url, options);
      this.addEventListener("message", ({ data }) => {
        if (data.candles?.isAll) volumes.clear();
        for (const { time_s, volume } of data.candles?.candles ?? []) volumes.set(time_s, volume);
        document.documentElement.dataset.volume = String([...volumes.values()].reduce((sum, volume) => sum + volume, 0));
      });
    }
  };
}

/**
 * A page that has a token, which counts no more when the line breaks, and gets another one.
 *
 * @param {string} symbol @param {(page: import("playwright-core").Page) => Promise<unknown>} meanwhile @param {readonly string[]} symbols
 */
async function renewed(symbol, meanwhile, symbols = [symbol]) {
  const [secret, other] = ["the first of two secrets that have more than 32 bytes", "the other of two secrets that have more than 32 bytes"];
  const gateway = await scene.gateway({ config: `${required(scene, symbol, secret)}[kafka]\ntrades_kept = 100\n` });
  const through = await PageServer.start(gateway.address);
  const page = await scene.open(gateway, `#s=${symbols.join(",")}`, { losesGateway: true, through, init: noteVolume });
  const enter = async (/** @type {string} */ shown) => {
    await page.waitForSelector("#token[open]");
    await page.fill("#token-text", shown);
    await page.keyboard.press("Enter");
  };
  await enter(token(secret));
  await text(page, "#state", /^(live|degraded)$/);
  await meanwhile(page);
  required(scene, symbol, other);
  gateway.program.signal("SIGHUP");
  await gateway.program.said(/(configuration read again)/);
  through.cut();
  await enter(token(other));
  await text(page, "#notices", /live again after .* begun anew/);
  return { page, gateway };
}

/** With another token the last trades were asked for again, and put behind those that were there: the tape had each of them twice, the candles twice the volume. */
test("with another token each trade is there once, in the tape and in the candles", async () => {
  const { page } = await renewed("ANEW", async (page) => {
    await produce(broker, range(0, 20).map((n) => trade("ANEW", n)));
    await text(page, `${row("ANEW")} .last`, /119\.50/);
  });
  await produce(broker, [trade("ANEW", 20)]);
  await text(page, `${row("ANEW")} .last`, /120\.50/);
  const prices = (await copied(page, "#copy-tape")).trim().split("\n").slice(1).map((line) => line.split(",")[2]);
  assert.deepEqual(prices, range(0, 21).map((n) => `${100 + n}.50`));
  assert.equal(await page.getAttribute("html", "data-volume"), "21");
});

/** With another token the client took all it could get, while the button still said that it is slow. */
test("a slow client stays slow with another token", async () => {
  const { page } = await renewed("CRAWL", (page) => page.click("#slow"));
  assert.equal(await page.getAttribute("#slow", "aria-pressed"), "true");
  assert.equal(await page.locator("#notices .gap").count(), 0);
  await until(async () => {
    await produce(broker, range(0, 40).map((n) => trade("CRAWL", n)));
    return (await page.locator("#notices .gap").count()) > 0;
  }, "trades that a slow client does not get");
});

/** More rows than are followed all. @param {string} name */
const many = (name) => range(0, 130).map((n) => `${name}${String(n).padStart(3, "0")}`);
/** Quotes and status of so many, a book if there is one in focus, and trades of what is in sight. @param {import("./browser.mjs").Gateway} gateway */
const heldInSight = (gateway, symbols = 130, books = 1) => until(async () => {
  const trades = (await held(gateway)) - 2 * symbols - books;
  return trades > 10 && trades < 40;
}, "what is in sight, and nothing more");

/** Scrolls in a watchlist that has nothing else to wait for. @param {import("playwright-core").Page} page @param {"Home" | "End"} key */
async function go(page, key) {
  await page.keyboard.press("w");
  await page.keyboard.press(key);
}

test("what has come into sight while the gateway was away is followed when it is back, and nothing else is", async () => {
  const names = many("AWAY");
  const first = await scene.gateway();
  await produce(broker, names.map((name) => trade(name, 1)));
  const page = await scene.open(first, `#s=${names.join(",")}`, { losesGateway: true });
  await text(page, `${row("AWAY002")} .last`, /101\.50/);
  await first.program.stop("SIGKILL");
  await text(page, "#state", /^reconnecting \d+$/);
  await go(page, "End");
  await page.waitForSelector(row("AWAY129"));
  const second = await scene.gateway({ listen: first.address });
  await text(page, "#state", /^(live|degraded)$/);
  await produce(broker, [trade("AWAY002", 7), trade("AWAY120", 8)]);
  await text(page, `${row("AWAY120")} .last`, /108\.50/);
  await heldInSight(second);
  await go(page, "Home");
  await text(page, `${row("AWAY002")} .last`, /107\.50/);
  await heldInSight(second);
});

test("with another token what is in sight is followed, and nothing else is", async () => {
  const names = many("OTHER");
  const { page, gateway } = await renewed("in-sight", async (page) => {
    await produce(broker, names.map((name) => trade(name, 1)));
    await text(page, `${row("OTHER002")} .last`, /101\.50/);
    await go(page, "End");
    await text(page, `${row("OTHER129")} .last`, /101\.50/);
  }, names);
  await produce(broker, [trade("OTHER002", 7), trade("OTHER120", 8)]);
  await text(page, `${row("OTHER120")} .last`, /108\.50/);
  await heldInSight(gateway);
  await go(page, "Home");
  await text(page, `${row("OTHER002")} .last`, /107\.50/);
  await heldInSight(gateway);
});

test("rows that are refused are told once, wherever they are, and the others are followed by sight", async () => {
  const secret = "a secret of some rows that has more than 32 bytes";
  const gateway = await scene.gateway({ config: required(scene, "some", secret) });
  const names = many("SOME");
  await produce(broker, names.map((name) => trade(name, 1)));
  const page = await scene.open(gateway, `#s=${names.join(",")}`);
  await page.waitForSelector("#token[open]");
  await page.fill("#token-text", token(secret, range(0, 8).map((n) => `SOME0${n}*`)));
  await page.keyboard.press("Enter");
  for (let n = 2; n < 4; n++) {
    await produce(broker, [trade("SOME002", n)]);
    await text(page, `${row("SOME002")} .last`, new RegExp(`10${n}\\.50`));
    await heldInSight(gateway, 80);
    await go(page, "End");
    // All that is in sight by now is refused.
    await until(async () => (await held(gateway)) === 160, "nothing but quotes and status");
    await go(page, "Home");
  }
  await heldInSight(gateway, 80);
  const told = (await page.locator("#notices .error").allInnerTexts()).filter((notice) => notice.includes("SOME"));
  assert.equal(told.length, 1, `${told}`);
  assert.match(String(told[0]), /SOME080 and 49 more: /);
});

/** Nobody listened to errors of the worker: where its script did not load, or broke, the page said "connecting" for ever. */
test("a worker that does not begin is told", async () => {
  const gateway = await scene.gateway();
  const through = await PageServer.start(gateway.address, { worker: () => 'throw new Error("broken by the test");' });
  const page = await scene.open(gateway, "#s=NONE", { through, expects: /broken by the test/ });
  await text(page, "#state", /^closed$/);
  await text(page, "#notices .error", /worker: .*broken by the test.*Load the page anew/);
  await accessible(page, "a page without its worker");
});

/** An answer that failed was no answer: the page waited for it, asked for no other, and stood still. */
test("a page goes on behind an answer that failed", async () => {
  const gateway = await scene.gateway();
  // The fifth one, and only once.
  const worker = (/** @type {string} */ script) => `{
    const post = self.postMessage.bind(self);
    let told = 0;
    self.postMessage = (frame) => {
      if (++told === 5) throw new Error("broken by the test");
      post(frame);
    };
  }
  ${script}`;
  const page = await scene.open(gateway, "#s=ONWARD", { through: await PageServer.start(gateway.address, { worker }) });
  await text(page, "#notices .error", /failed to tell something: Error: broken by the test/);
  await produce(broker, [trade("ONWARD", 1)]);
  await text(page, `${row("ONWARD")} .last`, /101\.50/);
  await text(page, "#prints .print:not([hidden]) .price", /101\.50/);
  await text(page, "#state", /^(live|degraded)$/);
});
