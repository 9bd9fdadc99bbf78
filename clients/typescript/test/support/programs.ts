/** The programs that tests run against: the real gateway, and a broker that keeps everything in memory. */

import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

/** How long anything may take that is waited for. */
const WAIT_MS = 30_000;

/** Where the programs are: `TICKGATE_BIN_DIR`, or what Cargo builds. */
const BIN = process.env.TICKGATE_BIN_DIR ?? resolve("../../target/debug");

/** Waits until `condition` gives something. */
export async function until<T>(condition: () => T | undefined | false | null | Promise<T | undefined | false | null>, what: string, waitMs = WAIT_MS): Promise<T> {
  const endMs = performance.now() + waitMs;
  for (;;) {
    const found = await condition();
    if (found !== undefined && found !== false && found !== null) return found;
    if (performance.now() > endMs) throw new Error(`waited in vain for ${what}`);
    await new Promise((wake) => setTimeout(wake, 10));
  }
}

/** What runs, so that nothing outlives a test that breaks down. */
const running = new Set<ChildProcess>();
process.on("exit", () => running.forEach((child) => child.kill("SIGKILL")));

/** A program that runs. */
export class Program {
  readonly #child: ChildProcess;
  #text = "";

  constructor(name: string, args: readonly string[]) {
    // The gateway reads every variable that begins so as a setting.
    const env = Object.fromEntries(Object.entries(process.env).filter(([variable]) => !variable.startsWith("TICKGATE_")));
    this.#child = spawn(join(BIN, name), args, { stdio: ["ignore", "pipe", "pipe"], env });
    running.add(this.#child);
    this.#child.on("exit", () => running.delete(this.#child));
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.on("data", (part: Buffer) => (this.#text = (this.#text + part.toString()).slice(-200_000)));
    }
    this.#child.on("error", (error) => (this.#text += `\n${error.message}`));
  }

  /** What it wrote, the end of it. */
  get text(): string {
    return this.#text;
  }

  /** The first group of what it writes that matches. */
  said(pattern: RegExp): Promise<string> {
    return until(() => {
      if (this.#child.exitCode !== null) throw new Error(`it ended:\n${this.#text}`);
      return pattern.exec(this.#text)?.[1];
    }, `${pattern.source} in\n${this.#text}`);
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Ends it and waits for that. */
  async stop(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    this.#child.kill(signal);
    await until(() => this.#child.exitCode !== null || this.#child.signalCode !== null, "the end of a program");
  }
}

/** A gateway that runs. */
export interface Gateway {
  program: Program;
  url: string;
  /** Where it listens for clients. */
  address: string;
}

/** Everything that one test runs; `end` ends it. */
export class Stage {
  /** All that run, the broker first. */
  readonly programs: Program[] = [];
  readonly dir = mkdtempSync(join(tmpdir(), "tickgate-test-"));
  broker = "";

  static async start(topics: readonly string[] = ["ticks:2"]): Promise<Stage> {
    const stage = new Stage();
    const program = stage.run("tickgate-broker", ["--listen", "127.0.0.1:0", ...topics.flatMap((topic) => ["--topic", topic])]);
    stage.broker = await program.said(/^(127\.0\.0\.1:\d+)$/m);
    return stage;
  }

  run(name: string, args: readonly string[]): Program {
    const program = new Program(name, args);
    this.programs.push(program);
    return program;
  }

  /** Starts a gateway and waits until it is ready. `settings` are `key=value`, `config` is TOML. */
  async gateway(settings: readonly string[] = [], { listen = "127.0.0.1:0", config = "" } = {}): Promise<Gateway> {
    const file = join(this.dir, `gateway-${this.programs.length}.toml`);
    writeFileSync(file, config);
    const all = ["drain.accept_ms=1ms", "drain.spread_ms=1ms", ...settings].flatMap((setting) => ["--set", setting]);
    const topic = config.includes("[[feeds]]") ? [] : ["--topic", "ticks"];
    const args = ["run", "--config", file, "--brokers", this.broker, ...topic, "--listen", listen, "--admin", "127.0.0.1:0"];
    const program = this.run("tickgate", [...args, ...all]);
    const url = await program.said(/clients: (wss?:\/\/[^ "]+)/);
    const admin = await program.said(/admin: (http:\/\/[^ "]+)/);
    await until(async () => (await fetch(`${admin}readyz`).catch(() => undefined))?.ok, "a gateway that is ready");
    return { program, url, address: new URL(url).host };
  }

  async end(): Promise<void> {
    for (const program of this.programs.reverse()) await program.stop();
    rmSync(this.dir, { recursive: true, force: true });
  }
}
