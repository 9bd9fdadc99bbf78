/**
 * The page in a real Chromium. It comes from the gateway of the test where that has in it what `dist` holds; where it has another page, or none, from a
 * server of the tests. `TICKGATE_PAGE_EMBEDDED=1` wants the former, `TICKGATE_SCREENSHOTS` names a folder for pictures.
 */

import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { Stage, until } from "../../../clients/typescript/build/test/support/programs.js";
import { PageServer } from "./serve.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const SHOTS = process.env.TICKGATE_SCREENSHOTS;
export const DIST = fileURLToPath(new URL("../dist", import.meta.url));

/** @typedef {import("playwright-core").Page} Page */
/** @typedef {import("../../../clients/typescript/build/test/support/programs.js").Gateway} Gateway */

/** Starts Chromium: `CHROMIUM`, or where Debian has it. @param {string[]} args */
export function launch(args = []) {
  const executablePath = process.env.CHROMIUM ?? ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);
  assert.ok(executablePath, "no Chromium: name one with CHROMIUM");
  return chromium.launch({ executablePath, args: ["--no-sandbox", ...args] });
}

/** Whether a gateway has in it the page that was built. @param {string} address */
export async function isEmbedded(address) {
  const response = await fetch(`http://${address}/`);
  return response.ok && (await response.text()) === readFileSync(join(DIST, "index.html"), "utf8");
}

/** What one file of tests runs. */
export class Scene {
  /** @type {Promise<boolean> | undefined} */
  #isEmbedded;
  /** @type {(() => unknown)[]} */
  #cleanUp = [];

  /** @param {import("playwright-core").Browser} browser @param {Stage} stage */
  constructor(browser, stage) {
    this.browser = browser;
    this.stage = stage;
  }

  /** @param {readonly string[]} topics */
  static async start(topics = ["ticks:2"]) {
    assert.ok(existsSync(join(DIST, "index.html")), "there is no page in dist: npm run build");
    return new Scene(await launch(), await Stage.start(topics));
  }

  /** Does something after the test. @param {() => unknown} what */
  later(what) {
    this.#cleanUp.push(what);
  }

  async afterEach() {
    const all = this.#cleanUp.reverse();
    this.#cleanUp = [];
    for (const one of all) await one();
  }

  async end() {
    await this.browser.close();
    await this.stage.end();
  }

  /** A gateway for one test. @param {{ config?: string, listen?: string }} options */
  async gateway(options = {}) {
    const gateway = await this.stage.gateway([], options);
    this.later(() => gateway.program.stop());
    return gateway;
  }

  /** Whether the page is the gateway's own; said once. @param {Gateway} gateway */
  embedded({ address }) {
    this.#isEmbedded ??= isEmbedded(address).then((is) => {
      assert.ok(is || process.env.TICKGATE_PAGE_EMBEDDED !== "1", "the gateway's page is not what dist holds: build it after the page");
      console.log(`# the page comes from ${is ? "the gateway itself" : "a server of the tests: the gateway has another page, or none"}`);
      return is;
    });
    return this.#isEmbedded;
  }

  /**
   * Opens the page of a gateway. What it logs as an error, what it asks others for, and what it does not get, fails the test. A test in
   * which the gateway goes away says so: the browser itself logs sockets that cannot connect. `through` serves the page in any case,
   * `init` is run in it before its own scripts, and faults that match `expects` are no faults.
   *
   * @param {Gateway} gateway @param {string} hash
   * @param {import("playwright-core").BrowserContextOptions & { losesGateway?: boolean, through?: PageServer, init?: () => void, expects?: RegExp }} options
   */
  async open(gateway, hash = "", { losesGateway = false, through, init, expects, ...options } = {}) {
    const server = through ?? ((await this.embedded(gateway)) ? undefined : await PageServer.start(gateway.address));
    const url = server?.url ?? `http://${gateway.address}/`;
    const context = await this.browser.newContext({ viewport: { width: 1400, height: 900 }, colorScheme: "dark", ...options });
    await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: new URL(url).origin });
    if (init !== undefined) await context.addInitScript(init);
    const page = await context.newPage();
    /** @type {string[]} */
    const faults = [];
    page.on("pageerror", (error) => faults.push(error.stack ?? error.message));
    page.on("console", (message) => {
      const isOfSocket = losesGateway && /WebSocket connection/.test(message.text());
      if (message.type() === "error" && !isOfSocket) faults.push(message.text());
    });
    page.on("request", (request) => {
      if (!request.url().startsWith(url)) faults.push(`asked for ${request.url()}`);
    });
    page.on("requestfailed", (request) => {
      const error = request.failure()?.errorText;
      // What the browser itself gives up as the page is left.
      if (error !== "net::ERR_ABORTED") faults.push(`${request.url()}: ${error}`);
    });
    page.on("response", (response) => {
      if (response.status() >= 400) faults.push(`${response.url()}: ${response.status()}`);
    });
    this.later(async () => {
      await context.close();
      server?.close();
      assert.deepEqual(faults.filter((fault) => expects?.test(fault) !== true), []);
    });
    await page.goto(`${url}${hash}`);
    return page;
  }
}

/** Waits until an element has a text. @param {Page} page @param {string} selector @param {RegExp} pattern */
export async function text(page, selector, pattern) {
  let last = "";
  try {
    await until(async () => pattern.test((last = (await page.locator(selector).first().textContent()) ?? "")), `${pattern}`);
  } catch (error) {
    throw new Error(`${selector} is ${JSON.stringify(last)}: ${/** @type {Error} */ (error).message}`);
  }
}

/** The line of the watchlist that shows a symbol. @param {string} symbol */
export const row = (symbol) => `#rows-space .row[data-symbol="${symbol}"]:not([hidden])`;

/** Runs in the page: each state that its badge shows, in `states`. */
export function noteStates() {
  const states = /** @type {string[]} */ ([]);
  Object.assign(globalThis, { states });
  addEventListener("DOMContentLoaded", () => {
    const badge = /** @type {Element} */ (document.querySelector("#state"));
    new MutationObserver(() => states.push(badge.textContent ?? "")).observe(badge, { childList: true, characterData: true, subtree: true });
  });
}

/** What the page's address has behind its host by now: what the browser tells of it comes later. @param {Page} page */
export const hash = (page) => page.evaluate(() => location.hash);

/** What {@link noteStates} has noted. @param {Page} page @returns {Promise<string[]>} */
export const states = (page) => page.evaluate(() => /** @type {any} */ (globalThis).states);

/** Subscriptions of all sessions of a gateway. @param {Gateway} gateway */
export async function held({ program }) {
  const admin = (await program.said(/admin: (http:\/\/[^ "]+)/)).replace(/\/$/, "");
  return Number(/^tickgate_subscriptions_held(?:\{[^}]*\})? (\d+)/m.exec(await (await fetch(`${admin}/metrics`)).text())?.[1]);
}

/** Presses a button that copies. @param {Page} page @param {string} button */
export async function copied(page, button) {
  await page.evaluate(() => navigator.clipboard.writeText("nothing"));
  await page.click(button);
  return until(async () => {
    const csv = await page.evaluate(() => navigator.clipboard.readText());
    return csv !== "nothing" && csv;
  }, "something copied");
}

/** @param {Page} page @param {string} name */
export async function shot(page, name) {
  if (SHOTS === undefined) return;
  mkdirSync(SHOTS, { recursive: true });
  await page.screenshot({ path: join(SHOTS, `${name}.png`) });
}

/** Axe finds nothing. @param {Page} page @param {string} what */
export async function accessible(page, what) {
  // By the debugger: the page's own policy forbids scripts of others.
  const client = await page.context().newCDPSession(page);
  await client.send("Runtime.evaluate", { expression: AXE });
  const told = "({id, nodes}) => [id, ...nodes.slice(0, 3).map(({html, failureSummary}) => html.slice(0, 150) + ' ' + failureSummary)]";
  const { result } = await client.send("Runtime.evaluate", {
    expression: `axe.run(document, {resultTypes: ['violations']}).then(({violations}) => JSON.stringify(violations.map(${told})))`,
    awaitPromise: true,
    returnByValue: true,
  });
  assert.deepEqual(JSON.parse(String(result.value)), [], what);
}
