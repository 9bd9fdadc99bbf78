/** Sessions whose gateway is the test, and whose time passes when the test says so. */

import assert from "node:assert/strict";
import { beforeEach, type TestContext, test } from "node:test";
import type { Control } from "../../src/index.js";
import { type Ending, Session } from "../../src/session.js";
import { Line } from "../support/line.js";

beforeEach(() => (Line.all = []));

const none = (): undefined => undefined;

/** Has time pass only when it is called, in steps of a tenth of a second: `each` is done in every one. */
function stopTime(t: TestContext): (ms: number, each?: () => void) => void {
  let nowMs = 1_000;
  t.mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  t.mock.method(performance, "now", () => nowMs);
  return (ms, each = none) => {
    for (const endMs = nowMs + ms; nowMs < endMs; ) {
      nowMs += 100;
      t.mock.timers.tick(100);
      each();
    }
  };
}

interface Begun {
  session: Session;
  line: Line;
  endings: Ending[];
  heard: string[];
  /** What was told of silence. */
  silences: boolean[];
  ask(): void;
}

async function begin(): Promise<Begun> {
  const silences: boolean[] = [];
  const endings: Ending[] = [];
  const heard: string[] = [];
  const owner = { onReady: none, onMessage: none, onBadFrame: none, onSilence: (isSilent: boolean) => void silences.push(isSilent), onEnd: (ending: Ending) => void endings.push(ending) };
  const session = new Session({ url: "ws://test/", WebSocket: Line, token: undefined, tokenVia: "message", connectMs: 1_000, isFirst: true }, owner);
  while (!session.isReady) await Promise.resolve();
  const ask = (): void => void session.request({ op: "ping" }, ({ op }) => heard.push(op), ({ code }) => heard.push(code));
  return { session, line: Line.all[0] as Line, endings, heard, silences, ask };
}

// A client with `onFull: "pause"` had not read for 30 s: what it had asked for counted as unanswered, its `subscribe` was rejected, and the answer
// that lay there was ignored. Its events came, but no new session went on with it; and where it was a resume, it was `resyncing` for ever.
test("an answer is not late while nothing is read", async (t) => {
  const pass = stopTime(t);
  const { session, line, endings, heard, ask } = await begin();
  ask();
  pass(29_000);
  assert.equal(session.setReading(false), true);
  ask();
  pass(100_000);
  session.setReading(true);
  pass(29_000);
  assert.deepEqual([heard, endings], [[], []]);
  for (const { id } of line.asked) line.say({ op: "pong", id, now_ns: "1" });
  assert.deepEqual(heard, ["pong", "pong"]);
  pass(100_000);
  assert.deepEqual(endings, []);
  session.close("");
});

// It was given up alone, and nobody knew what the gateway had made of it.
test("a session in which an answer does not come is given up, with all that was asked", async (t) => {
  const pass = stopTime(t);
  const { endings, heard, ask } = await begin();
  ask();
  pass(10_000);
  ask();
  pass(20_000);
  assert.deepEqual(heard, ["timeout", "timeout"]);
  assert.deepEqual(endings.map(({ code, error }) => [code, error?.code]), [[1_006, "timeout"]]);
});

const TRADES = Array.from({ length: 10 }, (_, n) => ({ type: "trade", symbol: "A", price: "1", size: "1", seq: `1:0:${n}`, event_ns: "1", ingest_ns: "1" }));
const beat = (now_ns: string): Control => ({ op: "heartbeat", now_ns, cursor: "c", queued_bytes: 1, delay_ms: 1, feeds: [] });

/** Asks for so many bytes a second. */
function slowTo({ session, line }: Begun, max_bytes_per_s: number, isGranted = true): void {
  const id = session.request({ op: "set", max_bytes_per_s }, none, none);
  if (isGranted) line.say({ op: "ack", id, ok: true });
}

// With few bytes a second asked for an answer waits behind data: the client ended its session for that, and each one after it.
test("an answer is not late while data comes before it", async (t) => {
  const pass = stopTime(t);
  const { line, endings, heard, ask } = await begin();
  ask();
  pass(100_000, () => line.say(TRADES));
  pass(29_000);
  assert.deepEqual([heard, endings], [[], []]);
  pass(1_000);
  assert.deepEqual(heard, ["timeout"]);
});

// Whatever comes is no answer: a request that the gateway forgot would be waited for as long as the session lasts.
test("an answer is late when a heartbeat that was made long after it was due comes first", async (t) => {
  const pass = stopTime(t);
  const { line, endings, heard, ask } = await begin();
  pass(5_000);
  ask();
  let pastMs = 5_000;
  // What comes was made three times as long ago as it took to come: it waited at the gateway.
  const late = (): void => line.say(beat(`${((pastMs += 100) / 3) * 1e6 + 1}`));
  pass(80_000, late);
  assert.deepEqual([heard, endings], [[], []]);
  pass(60_000, late);
  assert.deepEqual(heard, ["timeout"]);
});

// The client took a session for dead in which the gateway waited until a long message was paid for.
test("silence is none while what came is paid for at the rate that was asked for", async (t) => {
  const pass = stopTime(t);
  const begun = await begin();
  const { session, line, endings, heard, silences, ask } = begun;
  session.heartbeatEvery(1_000);
  slowTo(begun, 2_048);
  ask();
  const message = JSON.stringify(Array.from({ length: 1_000 }, () => TRADES).flat());
  const paidMs = (message.length / 2_048 + 1) * 1_000;
  assert.ok(paidMs > 300_000);
  line.say(JSON.parse(message) as object[]);
  pass(paidMs + 2_900);
  assert.deepEqual([silences, heard, endings], [[], [], []]);
  pass(1_000);
  assert.deepEqual([silences, endings], [[true], []]);
  // Nor is it over then: nothing is for good.
  pass(4_000);
  assert.deepEqual(endings.map(({ code }) => code), [1_006]);
  session.close("");
});

// A frame of which the socket took a part is not there before that part is paid for.
test("a session that was asked to be slow is ended when the longest frame would have come, and as ever when it is slow no more", async (t) => {
  const pass = stopTime(t);
  for (const [rates, endsMs] of [[[2_048], 135_000], [[2_048, 0], 6_100], [[0], 6_100], [[4_096, 65_536], 11_100]] as const) {
    Line.all = [];
    const begun = await begin();
    begun.session.heartbeatEvery(1_000);
    for (const rate of rates) slowTo(begun, rate);
    pass(endsMs - 500);
    assert.deepEqual(begun.endings, [], `${rates}`);
    pass(1_000);
    assert.equal(begun.endings.length, 1, `${rates}`);
  }
  // It counts from when it was asked for: the answer may be behind data that is slow already.
  Line.all = [];
  const begun = await begin();
  begun.session.heartbeatEvery(1_000);
  slowTo(begun, 65_536);
  slowTo(begun, 2_048, false);
  pass(100_000);
  assert.deepEqual(begun.endings, []);
  begun.session.close("");
});
