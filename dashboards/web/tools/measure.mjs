/**
 * What the page costs: frames a second, share of the main thread, memory, while a market runs. It builds nothing: `npm run build` first, and
 * `npm --prefix ../../clients/typescript run build` with its tests' support compiled, as `npm test` does.
 *
 *     node tools/measure.mjs --symbols 500 --rate 20000 --seconds 30
 */

import { existsSync } from "node:fs";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";
import { Stage } from "../../../clients/typescript/build/test/support/programs.js";
import { PageServer } from "../test/serve.mjs";

const { values } = parseArgs({
  options: { symbols: { type: "string", default: "500" }, rate: { type: "string", default: "20000" }, seconds: { type: "string", default: "30" }, json: { type: "boolean", default: false } },
});
const executablePath = process.env.CHROMIUM ?? ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync) ?? "";
const stage = await Stage.start(["ticks:4"]);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
try {
  stage.run("tickgate-sim", ["run", "--model", "us-equities", "--symbols", values.symbols, "--rate", values.rate, "--brokers", stage.broker, "--topic", "ticks", "--partitions", "0"]);
  const gateway = await stage.gateway();
  const server = await PageServer.start(gateway.address);
  const page = await browser.newPage({ viewport: { width: 1600, height: 900 } });
  await page.goto(server.url);
  await page.waitForFunction(() => location.hash.includes("s="));
  // Every symbol that there is, by the page's own search.
  const names = await page.evaluate(() => new Promise((found) => {
    const socket = new WebSocket(`ws://${location.host}/v1/stream`);
    const seen = new Set();
    socket.onopen = () => socket.send('{"op":"subscribe","subscriptions":[{"channel":"quotes","symbols":["*"],"conflate_ms":1000}]}');
    socket.onmessage = ({ data }) => data[0] === "[" && JSON.parse(data).forEach((/** @type {{ symbol: string }} */ event) => seen.add(event.symbol));
    setTimeout(() => (socket.close(), found([...seen])), 5_000);
  }));
  await page.evaluate((all) => (location.hash = `s=${all.join(",")}`), /** @type {string[]} */ (names));
  await page.waitForTimeout(5_000);
  const client = await page.context().newCDPSession(page);
  await client.send("Performance.enable");
  const metrics = async () => Object.fromEntries((await client.send("Performance.getMetrics")).metrics.map(({ name, value }) => [name, value]));
  const seconds = Number(values.seconds);
  const frames = page.evaluate((forMs) => new Promise((done) => {
    const [began, gaps] = [performance.now(), /** @type {number[]} */ ([])];
    let last = began;
    const step = (/** @type {number} */ now) => {
      gaps.push(now - last);
      last = now;
      if (now - began < forMs) requestAnimationFrame(step);
      else done(gaps.slice(1));
    };
    requestAnimationFrame(step);
  }), seconds * 1_000);
  const before = await metrics();
  const gaps = /** @type {number[]} */ (await frames).sort((a, b) => a - b);
  const after = await metrics();
  const share = (/** @type {string} */ name) => (((after[name] ?? 0) - (before[name] ?? 0)) / ((after.Timestamp ?? 0) - (before.Timestamp ?? 0))) * 100;
  const report = {
    symbols: /** @type {string[]} */ (names).length,
    frames_s: Math.round((gaps.length / seconds) * 10) / 10,
    frame_p99_ms: Math.round((gaps[Math.floor(gaps.length * 0.99)] ?? 0) * 10) / 10,
    scripting_percent: Math.round(share("ScriptDuration") * 10) / 10,
    main_thread_percent: Math.round(share("TaskDuration") * 10) / 10,
    heap_before_mib: Math.round((before.JSHeapUsedSize ?? 0) / 2 ** 20),
    heap_after_mib: Math.round((after.JSHeapUsedSize ?? 0) / 2 ** 20),
    rates: await page.textContent("#rates"),
    latency: await page.textContent("#latency"),
    details: await page.textContent("#details"),
  };
  if (values.json) console.log(JSON.stringify(report));
  else for (const [name, value] of Object.entries(report)) console.log(`${name.padEnd(20)} ${value}`);
  server.close();
} finally {
  await browser.close();
  await stage.end();
}
