/** The examples against simulated markets, and the first script of the README as it stands there. */

import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { asyncBufferFromFile, parquetReadObjects } from "hyparquet";
import { produce } from "../support/kafka.js";
import { type Gateway, Stage, until } from "../support/programs.js";
import { range, trade } from "../support/records.js";
import { Relay } from "../support/relay.js";

/** What each of them prints of a market. */
const PRINTED: Record<string, RegExp> = {
  capture: /^[1-9]\d* trades, 0 gaps\nwritten to .+\.parquet$/m,
  imbalance: /^\w+ +mean -?[01]\.\d{3}  last -?[01]\.\d{3}  of [1-9]/m,
  latency: /^[1-9]\d* events; p50 [\d.]+ ms, p99 [\d.]+ ms, most [\d.]+ ms\n.* not known to better than [\d.]+ ms; .*\n0 gaps of 0 events/m,
  resume: /^the first client had [1-9].*\nthe second had [1-9].*\nof the symbols [1-9]\d* went on where they were, 0 did not, .*\nmissing: 0 trades in 0 gaps, 0 of them/m,
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

/** An address at which nobody listens. */
async function nobody(): Promise<string> {
  const server = createServer();
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const { port } = server.address() as AddressInfo;
  await new Promise((closed) => server.close(closed));
  return `127.0.0.1:${port}`;
}

/** Starts an example. What it writes goes where the stage is. */
function example(name: string, ...args: string[]): Running {
  return start(`examples/${name}.mjs`, ...args, ...(name === "capture" ? ["--out", join(stage.dir, "out.parquet")] : []));
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

// The licence was named in `package.json` alone.
test("the package has the licence, and what it takes to run", async () => {
  const run = promisify(execFile)("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"]);
  const [packed] = JSON.parse((await run).stdout) as { files: { path: string }[] }[];
  const files = new Set(packed?.files.map(({ path }) => path));
  for (const file of ["LICENSE", "README.md", "package.json", "dist/index.js", "dist/index.d.ts", "dist/mending.js"]) assert.ok(files.has(file), file);
  assert.deepEqual([...files].filter((file) => !/^(dist\/\w+(\.d)?\.(js|ts)|[A-Z]+(\.md)?|package\.json)$/.test(file)), []);
  assert.equal(readFileSync("LICENSE", "utf8"), readFileSync("../../LICENSE", "utf8"));
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
        run = example(name, "--url", gateway.url, "--seconds", `${seconds}`);
        code = await run.ended;
        if ((code === 0 && printed.test(run.text)) || seconds > 30) break;
      }
      assert.equal(code, 0, run.errors);
      assert.match(run.text, printed);
      assert.match(run.errors, /Ctrl-C ends it early/);
    });
  }

  test("Ctrl-C ends them, with what they have", async () => {
    const runs = NAMES.map((name) => example(name, "--url", gateway.url, "--seconds", "600"));
    for (const run of runs) {
      await until(() => run.errors.includes("Ctrl-C ends it early"), "something that comes");
      run.child.kill("SIGINT");
      assert.equal(await run.ended, 0, run.errors);
      assert.notEqual(run.text, "");
    }
  });

  test("they say what may be wrong when nothing comes, and end with 1", async () => {
    // vwap ended with 1 and without a word.
    const runs = NAMES.map((name) => example(name, "--url", quiet.url, "--seconds", "600", "--symbols", "TPYO,NO*"));
    for (const run of runs) {
      await until(() => /of TPYO,NO\* yet\. Are the symbols right/.test(run.errors), "a hint");
      assert.match(run.errors, /TPYO: no record has named this symbol yet: is it right\?/);
      run.child.kill("SIGINT");
      assert.equal(await run.ended, 1, run.errors);
    }
    const at = await nobody();
    const nowhere = start("examples/vwap.mjs", "--url", `ws://${at}/v1/stream`, "--seconds", "1");
    assert.equal(await nowhere.ended, 1);
    assert.match(nowhere.errors.replaceAll(at, "there"), /^no connection to ws:\/\/there\/v1\/stream yet, reconnecting: .*Is a gateway there\?/m);
  });

  test("what is wrong with a command line, or an address, is told in a line", async () => {
    const wrong = ["--secons 3", "--seconds soon", "--seconds 0", "--symbols A,,B", "--url http://127.0.0.1/", "--url ws://127.0.0.1/?token=x", "--out", "more"];
    const all = [...NAMES.map((name) => [name, "--wrong"] as const), ...wrong.map((args) => ["capture", args] as const), ["vwap", "--top none"] as const];
    for (const [name, args] of all) {
      const run = start(`examples/${name}.mjs`, ...args.split(" "));
      assert.equal(await run.ended, 2, `${name} ${args}: ${run.errors}`);
      assert.match(run.errors, /^[^\n]+(; see --help|are host, port and path right\?)\n$/);
    }
    const path = example("vwap", "--url", gateway.url.replace("/v1/", "/v2/"));
    assert.equal(await path.ended, 1);
    assert.match(path.errors, /^bad_url: [^\n]*404: the stream is at \/v1\/stream[^\n]*\n$/);
    for (const name of NAMES) {
      const help = start(`examples/${name}.mjs`, "--help");
      assert.equal(await help.ended, 0);
      assert.match(help.text, /\n  --url ADDRESS +a gateway: ws:.*\n  --symbols A,B\* .*\n  --seconds N .*Ctrl-C ends it early: 10\n/);
    }
  });

  test("what is left out is told, and shown where it is asked for", async () => {
    for (const args of [["--top", "3"], ["--all"]]) {
      let lines: string[] = [];
      // However long it takes until there are more than three symbols.
      for (let seconds = 1; lines.length < 4 && seconds <= 64; seconds *= 4) {
        const run = example("spread", "--url", gateway.url, "--seconds", `${seconds}`, ...args);
        await run.ended;
        lines = run.text.trim().split("\n");
      }
      const isLeft = /^… and [1-9]\d* more \(--all, or --top N\)$/.test(lines.at(-1) ?? "");
      assert.deepEqual([lines.length > 3, isLeft], [true, args.length === 2], lines.join("\n"));
      if (isLeft) assert.equal(lines.length, 4);
    }
  });

  test("a capture has every trade, with exact times, and is written in parts", async () => {
    const relay = await Relay.start(gateway.url);
    let isAsked = false;
    relay.filter = (text) => {
      isAsked ||= text.includes('"op":"ack"') && text.includes('"CAPTURE"');
      return text;
    };
    const out = join(stage.dir, "captured.parquet");
    const run = start("examples/capture.mjs", "--url", relay.url, "--seconds", "600", "--symbols", "CAPTURE", "--out", out);
    await until(() => isAsked || run.child.exitCode !== null, "a subscription");
    // Two parts, and the beginning of a third.
    const count = 20_500;
    let seen = 0;
    relay.filter = (text) => {
      seen += text.split('"type":"trade"').length - 1;
      return text;
    };
    await produce(stage.broker, range(0, count).map((n) => trade("CAPTURE", n, n % 2 === 0 ? { side: "buy", venue: "Q" } : {})));
    await until(() => seen === count, "all of them");
    // What is told behind them has them all before it.
    relay.say('[{"type":"gap","symbol":"CAPTURE","channel":"trades","cause":"overload","count":1}]');
    await until(() => run.errors.includes("missing:") || run.child.exitCode !== null, "a gap");
    run.child.kill("SIGINT");
    assert.equal(await run.ended, 0, run.errors);
    relay.close();
    assert.equal(run.text, `${count} trades, 1 gaps\nwritten to ${out}\n`);
    const parsers = { timestampFromNanoseconds: (ns: bigint) => ns };
    const rows = await parquetReadObjects({ file: await asyncBufferFromFile(out), parsers: parsers as never });
    assert.equal(rows.length, count);
    rows.forEach((row, n) => {
      const { seq, prev, ingest_time, received_time, ...rest } = row;
      const [side, venue] = n % 2 === 0 ? ["buy", "Q"] : [null, null];
      const event_time = 1_763_000_000_000_000_000n + BigInt(n);
      const more = { conditions: null, send_time: null, merged: 1n, snapshot: false, replay: false };
      assert.deepEqual(rest, { symbol: "CAPTURE", price: 100.5 + n, size: 1, side, trade_id: String(n), venue, event_time, ...more });
      if (n > 0) assert.equal(prev, rows[n - 1]?.seq);
      assert.ok(typeof seq === "string" && ingest_time > event_time && received_time > event_time);
    });
    assert.deepEqual(readdirSync(stage.dir).filter((file) => file.endsWith(".part")), []);
  });

  // The example broke its own socket, which nobody had asked about: what of a gateway that is killed?
  test("a gateway is killed under the resume example, and nothing is missing", async () => {
    let text = "";
    for (let seconds = 12; !/of the symbols 2 went on/.test(text) && seconds <= 192; seconds *= 4) text = await killed(seconds);
    assert.match(text, /^the first client had 40 trades of 2 symbols in 2 sessions, and is gone$/m);
    assert.match(text, /^the second had 10 more in 1 sessions, /m);
    assert.match(text, /^of the symbols 2 went on where they were, 0 did not, of 0 the gateway could not say, 0 had no trade since$/m);
    assert.match(text, /^missing: 0 trades in 0 gaps, 0 of them gaps that the gateway had not told$/m);
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
    const early = start("--input-type=module", "--eval", script.replace("127.0.0.1:8080", await nobody()));
    const told = /state: 'reconnecting',\n  attempt: \d+,[^}]*ECONNREFUSED[^}]*Is a gateway there\?/g;
    await until(() => (early.errors.match(told) ?? []).length >= 2, "why there is no connection");
    early.child.kill();
    await early.ended;
    // Each attempt was told twice.
    assert.equal(early.errors.match(told)?.length, early.errors.match(/ECONNREFUSED/g)?.length);
    const wrong = start("--input-type=module", "--eval", whole.replace("/v1/stream", "/stream"));
    assert.notEqual(await wrong.ended, 0);
    assert.match(wrong.errors, /code: 'bad_url',\n.*404: the stream is at \/v1\/stream/);
  });
});

// It died with `WebSocket is not defined` on Node 20.
test("the script of the repository's README, with what it says of a runtime without a WebSocket", async () => {
  const readme = readFileSync("../../README.md", "utf8");
  const [, said = "", script = ""] = /(A client is any WebSocket client[^`]*?`[^`]*`[^`]*`(?:import [^`]*)`[^`]*`npm install ws`\.)\n\n```js\n([^`]*?)```/.exec(readme) ?? [];
  assert.match(said, /Node from 22 on/);
  const first = "WebSocket" in globalThis ? "" : (/`(import [^`]*)`/.exec(said)?.[1] ?? "");
  const run = start("--input-type=module", "--eval", `${first}\n${script.replace("ws://127.0.0.1:8080/v1/stream", gateway.url)}`);
  await until(() => /op: 'ack'/.test(run.text) || run.child.exitCode !== null, "an answer");
  run.child.kill();
  await run.ended;
  assert.match(run.text, /op: 'hello'[^]*op: 'ack'/, run.errors);
});

/** Runs the example for so long, which may be too short on a machine that is busy, with a gateway that dies in its first half. Gives what it prints. */
async function killed(seconds: number): Promise<string> {
  const first = await stage.gateway();
  const relay = await Relay.start(first.url);
  let said = "";
  relay.filter = (text) => {
    said += text;
    return text;
  };
  const symbols = [`KILLED${seconds}A`, `KILLED${seconds}B`] as const;
  const trades = (from: number, to: number): Promise<void> => produce(stage.broker, range(from, to).map((n) => trade(symbols[n % 2 ? 1 : 0], n)));
  const run = start("examples/resume.mjs", "--url", relay.url, "--seconds", `${seconds}`, "--symbols", symbols.join());
  const comes = (what: string, isThere: () => boolean): Promise<boolean> => until(() => run.child.exitCode !== null || isThere(), what);
  await comes("a subscription", () => said.includes('"op":"ack"'));
  await trades(0, 20);
  const behind = (n: number): string => said.split(`"trade_id":"${n}"`)[1] ?? "";
  await comes("trades, and a cursor", () => behind(19).includes('"op":"heartbeat"'));
  await first.program.stop("SIGKILL");
  await trades(20, 30);
  const second = await stage.gateway([], { listen: first.address });
  await trades(30, 40);
  await comes("what was missed", () => behind(39) !== "");
  await comes("the end of its first half", () => run.text.includes("is gone"));
  await trades(40, 50);
  assert.notEqual(await run.ended, null, run.errors);
  relay.close();
  await second.program.stop();
  return run.text;
}
