/**
 * What the page costs while a market runs: frames, main thread, memory, a line for each part of the time. `npm run build` first, and `npm test` once,
 * which compiles what starts the programs. They are those of `TICKGATE_BIN_DIR`: release ones, for figures that mean something.
 *
 *     node tools/measure.mjs --symbols 500 --rate 20000 --minutes 30 --json soak.json
 *
 * `--profile` adds what the main thread does, and what drawing takes.
 */

import { writeFileSync } from "node:fs";
import { loadavg } from "node:os";
import { parseArgs } from "node:util";
import { Stage, until } from "../../../clients/typescript/build/test/support/programs.js";
import { isEmbedded, launch } from "../test/browser.mjs";
import { PageServer } from "../test/serve.mjs";
import { Meter, profiled } from "./meter.mjs";
import { Tab } from "./tab.mjs";

const { values } = parseArgs({
  options: {
    symbols: { type: "string", default: "500" },
    rate: { type: "string", default: "20000" },
    seconds: { type: "string" },
    minutes: { type: "string" },
    every: { type: "string" },
    json: { type: "string" },
    profile: { type: "boolean", default: false },
  },
});
const seconds = values.minutes !== undefined ? Number(values.minutes) * 60 : Number(values.seconds ?? 30);
const every_s = Math.max(1, Number(values.every ?? Math.min(30, seconds / 6)));
if (!(seconds > 0) || !(every_s > 0)) throw new Error("--seconds, --minutes and --every are numbers above 0");

const stage = await Stage.start(["ticks:4"]);
const browser = await launch();
try {
  stage.run("tickgate-sim", ["run", "--model", "us-equities", "--symbols", values.symbols, "--rate", values.rate, "--brokers", stage.broker, "--topic", "ticks", "--partitions", "0"]);
  const gateway = await stage.gateway();
  const embedded = await isEmbedded(gateway.address);
  const server = embedded ? undefined : await PageServer.start(gateway.address);
  const system = await browser.newBrowserCDPSession();
  const page = await Tab.open(system, { width: 1400, height: 900 });
  await page.goto(server?.url ?? `http://${gateway.address}/`);
  const names = await symbols(page, Number(values.symbols));
  await page.evaluate((all) => (location.hash = `s=${all.join(",")}&f=AAPL`), names);
  await until(() => page.evaluate(() => [...document.querySelectorAll("#rows-space .row:not([hidden]) .last")].filter((cell) => cell.textContent !== "").length > 10), "rows");
  const meter = await Meter.start(system, page);
  /** @type {import("./meter.mjs").Sample[]} */
  const series = [];
  const line = (/** @type {(string | number)[]} */ cells) => console.log(cells.map((cell) => String(cell).padStart(9)).join(""));
  line(["at_s", "frames/s", "dropped", "p99_ms", "script_%", "main_%", "page_MiB", "work_MiB", "rss_MiB", "draw_%", "rend_%", "in/s", "load"]);
  const admin = (await gateway.program.said(/admin: (http:\/\/[^ "]+)/)).replace(/\/$/, "");
  const ticks = async () => Number(/^tickgate_feed_records_total(?:\{[^}]*\})? (\d+)/m.exec(await (await fetch(`${admin}/metrics`)).text())?.[1] ?? Number.NaN);
  let in_ = await ticks();
  for (let at_s = 0; at_s < seconds; at_s += every_s) {
    const sample = await meter.over(every_s);
    const now = await ticks();
    Object.assign(sample, { at_s: Math.round(at_s + every_s), in_s: Math.round((now - in_) / sample.seconds), load: Math.round((loadavg()[0] ?? 0) * 10) / 10 });
    in_ = now;
    series.push(sample);
    line([sample.at_s, sample.frames_s, sample.dropped, sample.frame_p99_ms, sample.scripting_percent, sample.main_percent, sample.page_mib, sample.worker_mib, sample.rss_mib, sample.gpu_process_percent, sample.renderer_percent, sample.in_s, sample.load]);
    // What was measured stays, whatever ends the rest.
    if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(report(), null, 1)}\n`);
  }
  function report() {
    const mean = (/** @type {keyof import("./meter.mjs").Sample} */ key) => Math.round((series.reduce((sum, one) => sum + Number(one[key]), 0) / series.length) * 10) / 10;
    const [first, last] = [series[Math.min(1, series.length - 1)], series.at(-1)];
    return {
      symbols: names.length,
      seconds: Math.round(series.reduce((sum, one) => sum + one.seconds, 0)),
      embedded,
      mean: { in_s: mean("in_s"), frames_s: mean("frames_s"), scripting_percent: mean("scripting_percent"), main_percent: mean("main_percent"), gpu_process_percent: mean("gpu_process_percent"), renderer_percent: mean("renderer_percent") },
      dropped: series.reduce((sum, one) => sum + one.dropped, 0),
      // The first part has the filling of what is bounded.
      memory_mib: { page: [first?.page_mib, last?.page_mib], worker: [first?.worker_mib, last?.worker_mib], rss: [first?.rss_mib, last?.rss_mib] },
      series,
    };
  }
  const { series: _, ...short } = report();
  const says = Object.fromEntries(await Promise.all(["state", "latency", "rates", "details"].map(async (id) => [id, await page.evaluate((of) => document.getElementById(of)?.textContent, id)])));
  console.log(JSON.stringify({ ...short, ...says }, null, 1));
  if (values.profile) await profiled(browser, page);
  server?.close();
} finally {
  await browser.close();
  await stage.end();
}

/** Symbols that there are, so many at the most, by a socket of the page's own. */
async function symbols(/** @type {Tab} */ page, /** @type {number} */ most) {
  const names = await page.evaluate((wanted) => new Promise((/** @type {(names: string[]) => void} */ found) => {
    const socket = new WebSocket(`ws://${location.host}/v1/stream`);
    /** @type {Set<string>} */
    const seen = new Set();
    const done = () => (socket.close(), found([...seen].slice(0, wanted)));
    socket.onopen = () => socket.send('{"op":"subscribe","subscriptions":[{"channel":"quotes","symbols":["*"],"conflate_ms":1000}]}');
    socket.onmessage = ({ data }) => {
      if (data[0] === "[") for (const { symbol } of JSON.parse(data)) seen.add(symbol);
      if (seen.size >= wanted) done();
    };
    setTimeout(done, 15_000);
  }), most);
  return names;
}
