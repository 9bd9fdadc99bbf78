/** What a first visit shows, of whom nobody has chosen anything, in a real Chromium, against real gateways. */

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { produce } from "../../../clients/typescript/build/test/support/kafka.js";
import { quote, trade } from "../../../clients/typescript/build/test/support/records.js";
import { required, token } from "./auth.mjs";
import { row, Scene, text } from "./browser.mjs";
import { PageServer } from "./serve.mjs";

/** Longer than symbols are listened for. */
const LONG_MS = 3_500;

/** Runs in the page: what its watchlist says, one after the other. */
function noteHints() {
  const hints = /** @type {string[]} */ ([]);
  Object.assign(globalThis, { hints });
  addEventListener("DOMContentLoaded", () => {
    const hint = /** @type {Element} */ (document.querySelector("#watch-hint"));
    const note = () => hints.at(-1) !== hint.textContent && hints.push(hint.textContent ?? "");
    new MutationObserver(note).observe(hint, { childList: true, characterData: true, subtree: true });
  });
}

/** @type {Scene} */
let scene;
/** @type {string} */
let broker;

before(async () => {
  scene = await Scene.start(["slowly:1", "trades:1", "secret:1", "emptied:1"]);
  broker = scene.stage.broker;
});
after(() => scene?.end());
afterEach(() => scene.afterEach());

/** Symbols were listened for in the two seconds behind the question, not behind its answer: over a line that took longer to connect the page stayed blank. */
test("a first visit whose connection takes its time shows what is there", async () => {
  const gateway = await scene.gateway({ config: '[[feeds]]\ntopic = "slowly"\nsilence_ms = 600000\n' });
  await produce(broker, [quote("EARLY", 5), quote("SECOND", 6)], 0, "slowly");
  /** @type {(value?: undefined) => void} */
  let open = () => undefined;
  const through = await PageServer.start(gateway.address, { open: new Promise((resolve) => (open = resolve)) });
  const page = await scene.open(gateway, "", { through, init: noteHints });
  await text(page, "#watch-hint", /^Connecting to the gateway/);
  await page.waitForFunction((ms) => performance.now() > ms, LONG_MS);
  open();
  await text(page, `${row("EARLY")} .bid`, /^5\.00$/);
  await text(page, `${row("SECOND")} .bid`, /^6\.00$/);
  await page.waitForSelector("#watch-hint", { state: "hidden" });
  const hints = /** @type {string[]} */ (await page.evaluate(() => /** @type {any} */ (globalThis).hints));
  assert.match(hints.join(), /^Looking for symbols[^,]*,(.*,)?$/, "what it does, as long as it does it");
});

/** Quotes and status alone were asked for: of a feed of trades nothing was seen. And what came after two seconds was not seen either. */
test("a first visit shows a feed of trades alone, also one that begins later", async () => {
  const gateway = await scene.gateway({ config: '[[feeds]]\ntopic = "trades"\n' });
  const early = await scene.open(gateway);
  await text(early, "#state", /^(live|degraded)$/);
  await text(early, "#watch-hint", /Symbols show up here when /);
  await early.waitForFunction((ms) => performance.now() > ms, LONG_MS);
  await produce(broker, [trade("SOLO", 1)], 0, "trades");
  await text(early, `${row("SOLO")} .last`, /101\.50/);
  const late = await scene.open(gateway);
  await text(late, `${row("SOLO")} .last`, /101\.50/);
});

/** The first question was still listened for when the token was there: the second was not asked at all, and the page stayed blank. */
test("a first visit that is asked for a token shows what is there", async () => {
  const secret = "a secret of these tests that has more than 32 bytes";
  const gateway = await scene.gateway({ config: `${required(scene, "first", secret)}[[feeds]]\ntopic = "secret"\n` });
  await produce(broker, [quote("HIDDEN", 7)], 0, "secret");
  const page = await scene.open(gateway);
  await page.waitForSelector("#token[open]");
  await page.fill("#token-text", token(secret));
  await page.keyboard.press("Enter");
  await text(page, `${row("HIDDEN")} .bid`, /^7\.00$/);
});

/** Only what is found on a first visit is shown by itself: who had emptied the watchlist was promised it all the same. */
test("a watchlist that was emptied says so, and promises nothing, also while names are looked for", async () => {
  const gateway = await scene.gateway({ config: '[[feeds]]\ntopic = "emptied"\nsilence_ms = 600000\n' });
  await produce(broker, [trade("LAST", 1), trade("OTHER", 2)], 0, "emptied");
  const page = await scene.open(gateway, "#s=LAST", { init: noteHints });
  await text(page, `${row("LAST")} .last`, /101\.50/);
  await page.keyboard.press("w");
  await page.keyboard.press("Delete");
  await text(page, "#watch-hint", /^No symbols in the watchlist\. Press \/ /);
  await page.keyboard.press("/");
  await page.keyboard.type("OTH");
  // By then the names are known.
  await text(page, "#found", /OTHER/);
  await text(page, "#watch-hint", /^No symbols in the watchlist\. Press \/ /);
  const hints = /** @type {string[]} */ (await page.evaluate(() => /** @type {any} */ (globalThis).hints));
  assert.deepEqual(hints.filter((hint) => /^Looking|show up here/.test(hint)), []);
  assert.equal(await page.locator("#rows-space .row:not([hidden])").count(), 0);
});
