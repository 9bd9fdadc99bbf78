/** What a page in Chromium takes: by its own frames, by the debugger, and by what the system says of its processes. */

import { readFileSync } from "node:fs";

/** Time between two frames at 60 a second, in milliseconds. */
const FRAME_MS = 1_000 / 60;

/**
 * @typedef {object} Sample
 * @property {number} at_s
 * @property {number} seconds
 * @property {number} frames_s
 * @property {number} dropped Frames that a screen of 60 Hz would have had and did not get.
 * @property {number} frame_p99_ms
 * @property {number} scripting_percent JavaScript, of one core.
 * @property {number} style_percent Styles and layout.
 * @property {number} main_percent All that the main thread does.
 * @property {number} renderer_percent The whole process of the page: main thread, worker, and threads that draw.
 * @property {number} gpu_process_percent The process that draws: in software, without a graphics card.
 * @property {number} page_mib Heap after a garbage collection.
 * @property {number} worker_mib The worker's.
 * @property {number} rss_mib Resident memory of the page's process.
 * @property {number} nodes
 * @property {number} in_s Records that the gateway read, a second.
 * @property {number} load
 */

export class Meter {
  /** @param {import("playwright-core").CDPSession} system @param {import("./tab.mjs").Tab} page */
  constructor(system, page) {
    this.client = page;
    this.system = system;
    this.page = page;
    /** @type {string | undefined} */
    this.worker = undefined;
    this.calls = 0;
    /** @type {Map<number, (value: any) => void>} */
    this.waiting = new Map();
  }

  /** @param {import("playwright-core").CDPSession} system @param {import("./tab.mjs").Tab} page */
  static async start(system, page) {
    const meter = new Meter(system, page);
    const { client } = meter;
    // Processor time: what waits for others on a machine that is busy does not count.
    await client.send("Performance.enable", { timeDomain: "threadTicks" });
    await client.send("HeapProfiler.enable");
    client.on("Target.attachedToTarget", ({ sessionId, targetInfo }) => {
      if (targetInfo.type === "worker") meter.worker = sessionId;
    });
    client.on("Target.receivedMessageFromTarget", ({ message }) => {
      const { id, result } = JSON.parse(message);
      meter.waiting.get(id)?.(result);
      meter.waiting.delete(id);
    });
    await client.send("Target.setAutoAttach", { autoAttach: true, waitForDebuggerOnStart: false, flatten: false });
    await page.evaluate(() => {
      const frames = { last: performance.now(), gaps: /** @type {number[]} */ ([]) };
      Object.assign(globalThis, { measured: frames });
      const step = (/** @type {number} */ now) => {
        frames.gaps.push(now - frames.last);
        frames.last = now;
        requestAnimationFrame(step);
      };
      requestAnimationFrame(step);
    });
    return meter;
  }

  /** Asks the worker's debugger. @param {string} method @returns {Promise<any>} */
  ask(method) {
    if (this.worker === undefined) return Promise.resolve(undefined);
    const id = ++this.calls;
    const answer = new Promise((resolve) => this.waiting.set(id, resolve));
    return this.client.send("Target.sendMessageToTarget", { message: JSON.stringify({ id, method }), sessionId: this.worker }).then(() => answer);
  }

  async #now() {
    const { metrics } = await this.client.send("Performance.getMetrics");
    const { processInfo } = await this.system.send("SystemInfo.getProcessInfo");
    // One page: of the renderers, the one that works.
    const renderer = processInfo.filter(({ type }) => type === "renderer").sort((a, b) => b.cpuTime - a.cpuTime)[0];
    return { at_s: performance.now() / 1_000, of: Object.fromEntries(metrics.map((/** @type {{ name: string, value: number }} */ { name, value }) => [name, value])), renderer, gpu: processInfo.find(({ type }) => type === "GPU") };
  }

  /** Measures for so long. @param {number} seconds @returns {Promise<Sample>} */
  async over(seconds) {
    await this.page.evaluate(() => void (/** @type {any} */ (globalThis).measured.gaps.length = 0));
    const before = await this.#now();
    await new Promise((wake) => setTimeout(wake, seconds * 1_000));
    const after = await this.#now();
    const gaps = /** @type {number[]} */ (await this.page.evaluate(() => /** @type {any} */ (globalThis).measured.gaps.slice())).sort((a, b) => a - b);
    const past_s = after.at_s - before.at_s;
    const share = (/** @type {number} */ spent_s) => Math.round((spent_s / past_s) * 1_000) / 10;
    const spent = (/** @type {string} */ name) => (after.of[name] ?? 0) - (before.of[name] ?? 0);
    const mib = (/** @type {number | undefined} */ bytes) => (bytes === undefined ? -1 : Math.round((bytes / 2 ** 20) * 100) / 100);
    // Last: a collection of garbage is not the page's work.
    await this.client.send("HeapProfiler.collectGarbage");
    const heap = await this.client.send("Runtime.getHeapUsage");
    await this.ask("HeapProfiler.collectGarbage");
    const workerHeap = await this.ask("Runtime.getHeapUsage");
    const rss = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${after.renderer?.id}/status`, "utf8"))?.[1];
    return {
      at_s: 0,
      seconds: past_s,
      frames_s: Math.round((gaps.length / past_s) * 10) / 10,
      dropped: gaps.reduce((sum, gap) => sum + Math.max(0, Math.round(gap / FRAME_MS) - 1), 0),
      frame_p99_ms: Math.round((gaps[Math.floor(gaps.length * 0.99)] ?? 0) * 10) / 10,
      scripting_percent: share(spent("ScriptDuration")),
      style_percent: share(spent("RecalcStyleDuration") + spent("LayoutDuration")),
      main_percent: share(spent("TaskDuration")),
      renderer_percent: share((after.renderer?.cpuTime ?? 0) - (before.renderer?.cpuTime ?? 0)),
      gpu_process_percent: share((after.gpu?.cpuTime ?? 0) - (before.gpu?.cpuTime ?? 0)),
      page_mib: mib(heap.usedSize),
      worker_mib: mib(workerHeap?.usedSize),
      rss_mib: Math.round(Number(rss ?? 0) / 1_024),
      nodes: after.of.Nodes ?? 0,
      in_s: 0,
      load: 0,
    };
  }
}

const PROFILE_MS = 10_000;

/** Prints where the main thread's time goes, and what of the rest is drawing. @param {import("playwright-core").Browser} browser @param {import("./tab.mjs").Tab} client */
export async function profiled(browser, client) {
  await client.send("Profiler.enable");
  await client.send("Profiler.setSamplingInterval", { interval: 200 });
  await client.send("Profiler.start");
  await new Promise((wake) => setTimeout(wake, PROFILE_MS));
  const { profile } = await client.send("Profiler.stop");
  const own = new Map(profile.nodes.map(({ id, callFrame }) => [id, `${callFrame.functionName || "(anonymous)"} ${callFrame.url.split("/").pop() ?? ""}:${callFrame.lineNumber + 1}:${callFrame.columnNumber + 1}`]));
  /** @type {Map<string, number>} */
  const spent = new Map();
  (profile.samples ?? []).forEach((id, at) => {
    const name = own.get(id) ?? "?";
    spent.set(name, (spent.get(name) ?? 0) + (profile.timeDeltas?.[at] ?? 0) / 1_000);
  });
  print("functions of the main thread, own time", spent, PROFILE_MS, 25);

  await browser.startTracing(undefined, { categories: ["toplevel", "devtools.timeline", "cc", "disabled-by-default-devtools.timeline"] });
  await new Promise((wake) => setTimeout(wake, PROFILE_MS));
  const trace = JSON.parse((await browser.stopTracing()).toString());
  const threads = new Map();
  for (const { ph, name, pid, tid, args } of trace.traceEvents) if (ph === "M" && name === "thread_name") threads.set(`${pid} ${tid}`, args.name);
  /** @type {Map<string, number>} */
  const tasks = new Map();
  for (const { ph, name, pid, tid, dur, tdur } of trace.traceEvents) {
    if (ph !== "X") continue;
    const thread = threads.get(`${pid} ${tid}`) ?? tid;
    tasks.set(`${thread}: ${name}`, (tasks.get(`${thread}: ${name}`) ?? 0) + (tdur ?? dur ?? 0) / 1_000);
  }
  print("tasks of all threads, with what is within them", tasks, PROFILE_MS, 40);
}

function print(/** @type {string} */ title, /** @type {Map<string, number>} */ spent, /** @type {number} */ past_ms, /** @type {number} */ most) {
  console.log(`\n${title}`);
  for (const [name, ms] of [...spent].sort((a, b) => b[1] - a[1]).slice(0, most)) console.log(`${((ms / past_ms) * 100).toFixed(2).padStart(8)} %  ${name}`);
}
