/** The examples against simulated markets, and the first script of the README as it stands there. */

import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, symlinkSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { connect } from "../../src/index.js";
import { asyncBufferFromFile, parquetReadObjects } from "hyparquet";
import { WebSocket } from "ws";
import { Collected } from "../support/collect.js";
import { type KafkaRecord, produce } from "../support/kafka.js";
import { type Gateway, Stage, until } from "../support/programs.js";
import { quote, range, trade } from "../support/records.js";
import { Relay } from "../support/relay.js";

/** What each of them prints of a market. */
const PRINTED: Record<string, RegExp> = {
  capture: /^[1-9]\d* trades?; 0 gaps\nwritten to .+\.parquet$/m,
  imbalance: /^\w+ +mean -?[01]\.\d{3}  last -?[01]\.\d{3}  of [1-9]/m,
  latency: /^[1-9]\d* events; p50 [\d.]+ ms, p99 [\d.]+ ms, most [\d.]+ ms\n.* not known to better than [\d.]+ ms; .*\n0 gaps; \d+ conflated, \d+ came twice$/m,
  resume: /^the first client had [1-9].*\nthe second had [1-9].*\nof the symbols [1-9]\d* went on where they were, 0 did not, .*\nmissing: 0 gaps$/m,
  spread: /^symbol +quotes +mean bps +widest bps +crossed\n(\w+ +[1-9]\d* +(-|-?[\d.]+) +-?[\d.]+ +\d+\n)+/m,
  // No float noise: `volume 1200.3000000000002`.
  vwap: /^\w+ +[\d.]+\.\d{6}  volume \d+(\.\d{1,9})? in [1-9]\d* trades\n/m,
};
const NAMES = Object.keys(PRINTED);
/** Scripts that a test that failed has left. */
const running = new Set<ChildProcess>();
let stage: Stage;
let gateway: Gateway;
let quiet: Gateway;

before(async () => {
  stage = await Stage.start(["ticks:4", "nothing:1"]);
  for (const [model, rate] of [["us-equities", "300"], ["crypto-perp", "200"]] as const) {
    stage.run("tickgate-sim", ["run", "--model", model, "--symbols", "20", "--rate", rate, "--brokers", stage.broker, "--topic", "ticks", "--partitions", "0"]);
  }
  [gateway, quiet] = await Promise.all([stage.gateway(), stage.gateway([], { config: '[[feeds]]\nname = "quiet"\ntopic = "nothing"\nsilence_ms = 100\n' })]);
});
after(() => {
  for (const child of running) child.kill("SIGKILL");
  return stage.end();
});

interface Running {
  child: ChildProcess;
  text: string;
  errors: string;
  ended: Promise<number | null>;
}

/** An address at which nobody listens: no program is given the first port by chance. */
const NOBODY = "127.0.0.1:1";

/** Starts an example. What it writes goes into a folder of its own where the stage is. */
function example(name: string, ...args: string[]): Running {
  return start(`examples/${name}.mjs`, ...args, ...(name === "capture" ? ["--out", join(folder(), "out.parquet")] : []));
}

const folder = (): string => mkdtempSync(join(stage.dir, "of-"));

/** What an example prints that has had so many records of its own, and was ended then. */
async function fed(name: string, symbol: string, records: readonly KafkaRecord[], ...args: string[]): Promise<Running> {
  const relay = await Relay.start(gateway.url);
  let said = "";
  relay.filter = (text) => {
    said += text;
    return text;
  };
  const run = example(name, "--url", relay.url, "--seconds", "600", "--symbols", symbol, ...args);
  const comes = (what: string, isThere: () => boolean): Promise<boolean> => until(() => run.child.exitCode !== null || isThere(), what);
  await comes("a subscription", () => said.includes('"op":"ack"'));
  await produce(stage.broker, records);
  await comes("all of them", () => (said.match(/"type":"(trade|quote)"/g) ?? []).length >= records.length);
  // What is told behind them has them all before it.
  relay.say('[{"type":"gap","symbol":"NONE","channel":"trades","cause":"overload"}]');
  await comes("a gap", () => run.errors.includes("missing: trades NONE, nobody knows how many (overload)\n"));
  run.child.kill("SIGINT");
  assert.equal(await run.ended, 0, run.errors);
  relay.close();
  return run;
}

/** Starts a script in this package. */
function start(...args: string[]): Running {
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] });
  running.add(child);
  child.on("exit", () => running.delete(child));
  const run: Running = { child, text: "", errors: "", ended: new Promise((ended) => child.on("close", ended)) };
  child.stdout.on("data", (part: Buffer) => (run.text = (run.text + part.toString()).slice(-100_000)));
  child.stderr.on("data", (part: Buffer) => (run.errors = (run.errors + part.toString()).slice(-100_000)));
  return run;
}

/** Waits for the end of a script that ends by itself long before its time is over. */
async function ends(run: Running): Promise<number | null> {
  await until(() => run.child.exitCode !== null, "its end");
  return run.ended;
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
  assert.deepEqual(files.filter((file) => file !== "arguments" && file !== "following").sort(), NAMES);
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

  test("Ctrl-C ends the second half of a resume as well, with what there is", async () => {
    let text = "";
    // Who comes too late for the second half tries again with a longer one.
    for (let seconds = 4; !text.includes("ended early") && seconds <= 64; seconds *= 2) {
      const run = example("resume", "--url", gateway.url, "--seconds", `${seconds}`);
      await until(() => run.text.includes("is gone") || run.child.exitCode !== null, "its first half", 120_000);
      run.child.kill("SIGINT");
      await run.ended;
      text = run.text;
    }
    assert.match(text, /^the first client had .*\nthe second had .*\nof the symbols .*\nmissing: 0 gaps\nit was ended early$|^the second had no connection: .*\nmissing: 0 gaps\nit was ended early$/m);
  });

  test("they say what may be wrong when nothing comes, and end with 1", async () => {
    // vwap ended with 1 and without a word.
    const runs = NAMES.map((name) => example(name, "--url", gateway.url, "--seconds", "600", "--symbols", "TPYO,TPYOO,NOBODY*"));
    for (const run of runs) {
      await until(() => /of TPYO,TPYOO,NOBODY\* yet\. Are the symbols right/.test(run.errors), "a hint");
      run.child.kill("SIGINT");
      assert.equal(await run.ended, 1, run.errors);
      // Once for all of them, and for both channels.
      assert.equal(run.errors.match(/ TPYO,TPYOO: no record has named this symbol yet: is it right\?/g)?.length, 1);
      if (/p50/.test(run.text)) assert.match(run.text, /^0 events; p50 unknown, p99 unknown, most unknown$/m);
    }
  });

  // The symbols were blamed for it.
  test("feeds that are stale or down are named, and no symbols are", async () => {
    const own = await Stage.start();
    const lost = await own.gateway();
    await produce(own.broker, [quote("OLD", 1)]);
    const early = new Collected(lost.url);
    await early.live.subscribe("quotes", "OLD");
    await early.wait("quote", 1);
    early.live.close();
    await own.programs[0]?.stop();
    const relay = await Relay.start(lost.url);
    let isDown = false;
    relay.filter = (text) => {
      isDown ||= text.includes('"op":"heartbeat"') && text.includes('"state":"down"');
      return text;
    };
    const watching = connect(relay.url, { WebSocket, heartbeatMs: 100 });
    await until(() => isDown, "a feed that is down");
    watching.close();
    for (const [url, said] of [[quiet.url, /^no trades yet: the gateway's feed quiet is stale, nothing has come from Kafka/m], [lost.url, /^no trades yet: the gateway's feed ticks is down, the gateway does not hear from Kafka$/m]] as const) {
      const run = example("vwap", "--url", url, "--seconds", "600");
      await until(() => said.test(run.errors) || run.child.exitCode !== null, "a word of the feed");
      run.child.kill("SIGINT");
      assert.equal(await run.ended, 1);
      assert.match(run.errors, said);
      assert.doesNotMatch(run.errors, /symbols right/);
    }
    // A table of old states was all, with 0 and without a word.
    const run = example("spread", "--url", lost.url, "--seconds", "600");
    const old = /^nothing but states of before: the gateway's feed ticks is down, the gateway does not hear from Kafka$/m;
    await until(() => old.test(run.errors) || run.child.exitCode !== null, "a word of the feed");
    run.child.kill("SIGINT");
    assert.equal(await run.ended, 0);
    assert.match(run.errors, old);
    relay.close();
    await own.end();
  });

  test("where nobody answers is told at once, and once; what was not measured is no 0", async () => {
    const runs = NAMES.map((name) => [name, example(name, "--url", `ws://${NOBODY}`, "--seconds", name === "resume" ? "8" : "4")] as const);
    for (const [name, run] of runs) {
      assert.equal(await run.ended, 1, name);
      // Of `resume` the first half; a second one has nothing to go on from.
      assert.match(run.errors.replaceAll(NOBODY, "there"), /^no connection to ws:\/\/there: connect ECONNREFUSED there; it tries again\. [^\n]*Is a gateway there\?\n$/);
      const shown = { capture: /^no trades: there was no connection\n$/, latency: /^0 events; p50 unknown, .*\n.*is not known: .*\ngaps unknown: there was no connection\n$/, resume: /^the first client had no connection\n$/ };
      assert.match(run.text, name in shown ? shown[name as keyof typeof shown] : /^$/);
    }
    const { host } = new URL(gateway.url);
    const encrypted = example("vwap", "--url", `wss://${host}`, "--seconds", "600");
    // At once: not when 5 s are over.
    await until(() => encrypted.errors.includes("\n") || encrypted.child.exitCode !== null, "a line");
    encrypted.child.kill("SIGINT");
    assert.equal(await encrypted.ended, 1);
    assert.match(encrypted.errors, /^no connection to wss:[^ ]+: no TLS is spoken at this address: try ws:\/\/[^\n]*\n$/);
    // A gateway that comes back is told of, and that it went once more.
    const relay = await Relay.start(gateway.url);
    const back = example("spread", "--url", relay.url, "--seconds", "600");
    for (const times of [1, 2]) {
      await until(() => back.errors.includes("Ctrl-C ends it early") && back.errors.split("\nconnected to ws:").length === times, "a session");
      relay.cut();
      await until(() => back.errors.split("no connection to ws:").length === times + 1, "a connection that is lost");
    }
    await until(() => back.errors.split("\nconnected to ws:").length === 3, "another session");
    back.child.kill("SIGINT");
    assert.equal(await back.ended, 0, back.errors);
    relay.close();
  });

  test("what is refused is told once, and ends them when it is all that was asked for", async () => {
    const runs = NAMES.map((name) => [name, example(name, "--url", gateway.url, "--seconds", "600", "--symbols", "A*L,B*L")] as const);
    for (const [name, run] of runs) {
      assert.equal(await ends(run), 1, name);
      const hint = "the request is wrong: the message says what of it";
      const lines = run.errors.trim().split("\n");
      assert.deepEqual([lines.length, lines.every((line) => /^\w+ A\*L,B\*L: .*only at the end/.test(line)), run.errors.split(hint).length], [name === "latency" ? 2 : 1, true, 2], run.errors);
    }
    // Of the others nothing comes: only they are named.
    const some = example("vwap", "--url", gateway.url, "--seconds", "600", "--symbols", "A*L,TPYO");
    await until(() => some.errors.includes("no trades of TPYO yet") || some.child.exitCode !== null, "a hint");
    some.child.kill("SIGINT");
    assert.equal(await some.ended, 1);
    assert.doesNotMatch(some.errors, /no trades of A\*L/);
  });

  test("spreads are of the mid, and weighted by how long they stood", async () => {
    const at = (s: number): string => String(1_763_000_000_000_000_000n + BigInt(s) * 1_000_000_000n);
    const quoted = (symbol: string, bid_price: string, ask_price: string, s: number): KafkaRecord => ({ key: symbol, value: { type: "quote", symbol, bid_price, bid_size: "1", ask_price, ask_size: "1", event_ns: at(s) } });
    const records = [quoted("SPREADB", "10", "10.5", 0), quoted("SPREADA", "99", "101", 0), quoted("SPREADA", "100", "100", 3), quoted("SPREADA", "99.5", "100.5", 4)];
    const { text } = await fed("spread", "SPREADA,SPREADB", records);
    assert.deepEqual(text.trim().split("\n").map((line) => line.split(/  +/)), [
      ["symbol", "quotes", "mean bps", "widest bps", "crossed"],
      ["SPREADA", "3", "150.00", "200.00", "1"],
      ["SPREADB", "1", "-", "487.80", "0"],
    ]);
  });

  test("those with the most events are shown, and sums are exact", async () => {
    const records = [trade("VWAPA", 900), ...range(0, 3).map((n) => trade("VWAPB", n, { price: "0.2", size: "0.100000000000000001" }))];
    const { text } = await fed("vwap", "VWAPA,VWAPB", records, "--top", "1");
    assert.match(text, /^VWAPB +0\.200000  volume 0\.300000000000000003 in 3 trades\n… and 1 more \(--all, or --top N\)\n$/);
  });

  test("what is wrong with a command line, or an address, is told in a line", async () => {
    const wrong = ["--secons 3", "--seconds soon", "--seconds 0", "--seconds -1", "--seconds=-1", "--symbols A,,B", "--symbols ,", "--url nothing", "--url http://127.0.0.1/", "--url ws://127.0.0.1/?token=x", "--out", "more"];
    const all = [...NAMES.map((name) => [name, "--wrong"] as const), ...wrong.map((args) => ["capture", args] as const), ["vwap", "--top none"] as const, ["vwap", "--top 1.5"] as const];
    for (const [name, args] of all) {
      const run = start(`examples/${name}.mjs`, ...args.split(" "));
      assert.equal(await run.ended, 2, `${name} ${args}: ${run.errors}`);
      assert.match(run.errors, /^[^\n]+(; see --help|are host, port and path right\?)\n$/);
    }
    const path = example("vwap", "--url", gateway.url.replace("/v1/", "/v2/"));
    assert.equal(await ends(path), 1);
    assert.match(path.errors, /^bad_url: [^\n]*404: the stream is at \/v1\/stream[^\n]*\n$/);
    for (const name of NAMES) {
      const help = start(`examples/${name}.mjs`, "--help");
      assert.equal(await help.ended, 0);
      assert.match(help.text, /\n  --url ADDRESS +a gateway: ws:.*\n  --symbols A,B\* .*\n  --seconds N .*Ctrl-C ends it early: 10\n/);
    }
  });

  // It was found when there was something to write: in a stack, and what was captured was gone.
  test("a capture that cannot be written, or lacks its library, says so before it begins", async () => {
    const dir = folder();
    mkdirSync(join(dir, "taken.parquet"));
    for (const [out, why] of [["none/out.parquet", /its folder does not exist/], ["taken.parquet", /that is a folder/], ["x".repeat(300), /ENAMETOOLONG/]] as const) {
      const run = start("examples/capture.mjs", "--url", gateway.url, "--seconds", "600", "--out", join(dir, out));
      assert.equal(await ends(run), 2);
      assert.match(run.errors, /^--out [^\n]+\n$/);
      assert.match(run.errors, why);
    }
    // The file was begun before the address was looked at, and left there.
    const nowhere = start("examples/capture.mjs", "--url", "nothing", "--out", join(dir, "out.parquet"));
    assert.equal(await ends(nowhere), 2);
    assert.deepEqual(readdirSync(dir), ["taken.parquet"]);
    cpSync("examples", join(dir, "examples"), { recursive: true });
    mkdirSync(join(dir, "node_modules"));
    symlinkSync(resolve("."), join(dir, "node_modules/tickgate"));
    const bare = start(join(dir, "examples/capture.mjs"), "--url", gateway.url, "--seconds", "600", "--out", join(dir, "out.parquet"));
    assert.equal(await ends(bare), 2);
    assert.match(bare.errors, /^[^\n]*npm install hyparquet-writer\n$/);
    // Nor is there a package `ws`, which the runtime may not need.
    if (!("WebSocket" in globalThis)) {
      const without = start(join(dir, "examples/vwap.mjs"), "--url", gateway.url);
      assert.equal(await ends(without), 2);
      assert.match(without.errors, /^this runtime has no WebSocket [^\n]*`ws`[^\n]*\n$/);
    }
  });

  test("what is left out is told, and shown where it is asked for", async () => {
    for (const args of [["--top", "3"], ["--all"]]) {
      let lines: string[] = [];
      // However long it takes until there are more than three symbols.
      for (let seconds = 1; lines.length < 4 && seconds <= 64; seconds *= 4) {
        const run = example("spread", "--url", gateway.url, "--seconds", `${seconds}`, ...args);
        await run.ended;
        lines = run.text.trim().split("\n").slice(1);
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
    const dir = folder();
    const out = join(dir, "captured.parquet");
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
    assert.equal(run.text, `${count} trades; 1 gap, 1 event where known\nwritten to ${out}\n`);
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
    assert.deepEqual(readdirSync(dir), ["captured.parquet"]);
  });

  // The example broke its own socket, which nobody had asked about: what of a gateway that is killed?
  test("a gateway is killed under the resume example, and nothing is missing", async () => {
    let text = "";
    for (let seconds = 12; !/of the symbols 2 went on/.test(text) && seconds <= 192; seconds *= 4) text = await killed(seconds);
    assert.match(text, /^the first client had 40 trades of 2 symbols in ([2-9]|\d\d) sessions, and is gone$/m);
    assert.match(text, /^the second had 10 more in \d+ sessions?, /m);
    assert.match(text, /^of the symbols 2 went on where they were, 0 did not, of 0 the gateway could not say, 0 had no trade since$/m);
    assert.match(text, /^missing: 0 gaps$/m);
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
    const early = start("--input-type=module", "--eval", script.replace("127.0.0.1:8080", NOBODY));
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
  const waitMs = (seconds + 30) * 1_000;
  const comes = (what: string, isThere: () => boolean): Promise<boolean> => until(() => run.child.exitCode !== null || isThere(), what, waitMs);
  await comes("a subscription", () => said.includes('"op":"ack"'));
  await trades(0, 20);
  // A session that is lost on a busy machine brings what was had once more.
  const behind = (n: number): string => said.split(`"trade_id":"${n}"`).slice(1).join();
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
