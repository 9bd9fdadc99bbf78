/** The examples against a simulated market, and the first script of the README as it stands there. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { type Gateway, Stage } from "../support/programs.js";

const SECONDS = "4";
let stage: Stage;
let gateway: Gateway;

before(async () => {
  stage = await Stage.start(["ticks:4"]);
  for (const [model, rate] of [["us-equities", "300"], ["crypto-perp", "200"]] as const) {
    stage.run("tickgate-sim", ["run", "--model", model, "--symbols", "20", "--rate", rate, "--brokers", stage.broker, "--topic", "ticks", "--partitions", "0"]);
  }
  gateway = await stage.gateway();
});
after(() => stage.end());

/** Runs a script in this package and gives what it printed. */
async function run(args: string[], isEnough: (text: string) => boolean = () => false): Promise<{ code: number | null; text: string }> {
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] });
  let [text, errors] = ["", ""];
  child.stdout.on("data", (part: Buffer) => {
    text += part.toString();
    if (isEnough(text)) child.kill();
  });
  child.stderr.on("data", (part: Buffer) => (errors = (errors + part.toString()).slice(-4_000)));
  const code = await new Promise<number | null>((ended) => child.on("close", ended));
  return { code, text: code === 0 || code === null ? text : `${text}\n${errors}` };
}

for (const name of ["spread", "vwap", "imbalance", "latency", "resume"]) {
  test(`example ${name}`, { concurrency: true }, async () => {
    const { code, text } = await run([`examples/${name}.mjs`, "--url", gateway.url, "--seconds", SECONDS]);
    assert.equal(code, 0, text);
    assert.notEqual(text.trim(), "");
  });
}

test("the first script of the README", async () => {
  const readme = readFileSync("README.md", "utf8");
  const script = /```js\n([^`]*?)```/.exec(readme)?.[1] ?? "";
  const lines = script.trim().split("\n");
  assert.ok(lines.length >= 3 && lines.length <= 10, `${lines.length} lines`);
  const whole = script.replace(/ws:\/\/127[^"]*/, gateway.url).replace(/\["AAPL".*?\]/, '["*"]');
  assert.notEqual(whole, script);
  const { text } = await run(["--input-type=module", "--eval", whole], (text) => text.split("\n").length > 10);
  assert.match(text, /^\S+ \d+(\.\d+)? \d+/m);
});
