/** The examples against simulated markets, and the first script of the README as it stands there. */

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { type Gateway, Stage, until } from "../support/programs.js";

/** What each of them prints of a market. */
const PRINTED: Record<string, RegExp> = {
  imbalance: /^\w+ +mean -?[01]\.\d{3}  last -?[01]\.\d{3}  of [1-9]/m,
  latency: /^[1-9]\d* events; p50 -?[\d.]+ ms, p99 [\d.]+ ms, most [\d.]+ ms\n.*\n0 gaps of 0 events/m,
  resume: /^[1-9]\d* trades over [1-9]\d* reconnects: 0 gaps, \d+ do not follow/m,
  spread: /^\w+ +[1-9]\d* quotes  mean -?[\d.]+ bps  -?[\d.]+ to [\d.]+$/m,
  // No float noise: `volume 1200.3000000000002`.
  vwap: /^\w+ +[\d.]+\.\d{4}  volume \d+(\.\d{1,9})?\n/m,
};
const NAMES = Object.keys(PRINTED);
let stage: Stage;
let gateway: Gateway;
let quiet: Gateway;

before(async () => {
  stage = await Stage.start(["ticks:4", "nothing:1"]);
  for (const [model, rate] of [["us-equities", "300"], ["crypto-perp", "200"]] as const) {
    stage.run("tickgate-sim", ["run", "--model", model, "--symbols", "20", "--rate", rate, "--brokers", stage.broker, "--topic", "ticks", "--partitions", "0"]);
  }
  [gateway, quiet] = await Promise.all([stage.gateway(), stage.gateway([], { config: '[[feeds]]\ntopic = "nothing"\n' })]);
});
after(() => stage.end());

interface Running {
  child: ChildProcess;
  text: string;
  errors: string;
  ended: Promise<number | null>;
}

/** Starts a script in this package. */
function start(...args: string[]): Running {
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] });
  const running: Running = { child, text: "", errors: "", ended: new Promise((ended) => child.on("close", ended)) };
  child.stdout.on("data", (part: Buffer) => (running.text = (running.text + part.toString()).slice(-100_000)));
  child.stderr.on("data", (part: Buffer) => (running.errors = (running.errors + part.toString()).slice(-100_000)));
  return running;
}

test("the README has the whole interface", async () => {
  const text = readFileSync("README.md", "utf8");
  const names = Object.keys(await import("../../src/index.js"));
  assert.deepEqual(names.filter((name) => !new RegExp(`\\b${name}\\b`).test(text)), []);
});

test("every example is looked at", () => {
  const files = readdirSync("examples").map((file) => file.replace(".mjs", ""));
  assert.deepEqual(files.filter((file) => file !== "arguments").sort(), NAMES);
});

describe("examples", { concurrency: 4 }, () => {
  for (const [name, printed] of Object.entries(PRINTED)) {
    test(name, async () => {
      // In a few seconds, or however long it takes here until something comes.
      let run: Running;
      let code: number | null;
      for (let seconds = name === "resume" ? 4 : 2; ; seconds *= 4) {
        run = start(`examples/${name}.mjs`, "--url", gateway.url, "--seconds", `${seconds}`);
        code = await run.ended;
        if ((code === 0 && printed.test(run.text)) || seconds > 30) break;
      }
      assert.equal(code, 0, run.errors);
      assert.match(run.text, printed);
      assert.match(run.errors, /Ctrl-C ends it early/);
    });
  }

  test("Ctrl-C ends them, with what they have", async () => {
    const runs = NAMES.map((name) => start(`examples/${name}.mjs`, "--url", gateway.url, "--seconds", "600"));
    for (const run of runs) {
      await until(() => run.errors.includes("Ctrl-C ends it early"), "something that comes");
      run.child.kill("SIGINT");
      assert.equal(await run.ended, 0, run.errors);
      assert.notEqual(run.text, "");
    }
  });

  test("they say what may be wrong when nothing comes, and end with 1", async () => {
    // vwap ended with 1 and without a word.
    const runs = NAMES.map((name) => start(`examples/${name}.mjs`, "--url", quiet.url, "--seconds", "600", "--symbols", "TPYO,NO*"));
    for (const run of runs) {
      await until(() => /of TPYO,NO\* yet\. Are the symbols right/.test(run.errors), "a hint");
      assert.match(run.errors, /TPYO: no record has named this symbol yet: is it right\?/);
      run.child.kill("SIGINT");
      assert.equal(await run.ended, 1, run.errors);
    }
    const nowhere = start("examples/vwap.mjs", "--url", "ws://127.0.0.1:9/v1/stream", "--seconds", "1");
    assert.equal(await nowhere.ended, 1);
    assert.match(nowhere.errors, /no connection to ws:\/\/127\.0\.0\.1:9\/v1\/stream yet, reconnecting: .*Is a gateway there\?/);
  });

  test("the first script of the README", async () => {
    const script = /```js\n([^`]*?)```/.exec(readFileSync("README.md", "utf8"))?.[1] ?? "";
    const lines = script.trim().split("\n");
    assert.ok(lines.length >= 3 && lines.length <= 10, `${lines.length} lines`);
    const whole = script.replace("ws://127.0.0.1:8080/v1/stream", gateway.url);
    assert.notEqual(whole, script);
    const run = start("--input-type=module", "--eval", whole);
    await until(() => /^\w+ \d+(\.\d+)? \d+(\.\d+)?$/m.test(run.text) || run.child.exitCode !== null, "a trade");
    run.child.kill();
    await run.ended;
    assert.match(run.text, /^\w+ \d+(\.\d+)? \d+(\.\d+)?$/m, run.errors);
    // Somebody's first try is often one without a gateway: it said nothing at all.
    const early = start("--input-type=module", "--eval", script.replace("127.0.0.1:8080", "127.0.0.1:1"));
    await until(() => /state: 'reconnecting'[^}]*ECONNREFUSED[^}]*Is a gateway there\?/.test(early.errors), "why there is no connection");
    early.child.kill();
    await early.ended;
    const wrong = start("--input-type=module", "--eval", whole.replace("/v1/stream", "/stream"));
    assert.notEqual(await wrong.ended, 0);
    assert.match(wrong.errors, /code: 'bad_url',\n.*404: the stream is at \/v1\/stream/);
  });
});
