/** Sessions whose gateway is the test, and whose time passes when the test says so. */

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { type Ending, Session } from "../../src/session.js";
import { Line } from "../support/line.js";

beforeEach(() => (Line.all = []));

const none = (): undefined => undefined;

async function begin(): Promise<{ session: Session; line: Line; endings: Ending[]; heard: string[]; ask(): void }> {
  const endings: Ending[] = [];
  const heard: string[] = [];
  const owner = { onReady: none, onMessage: none, onBadFrame: none, onSilence: none, onEnd: (ending: Ending) => void endings.push(ending) };
  const session = new Session({ url: "ws://test/", WebSocket: Line, token: undefined, tokenVia: "message", connectMs: 1_000, isFirst: true }, owner);
  while (!session.isReady) await Promise.resolve();
  const ask = (): void => void session.request({ op: "ping" }, ({ op }) => heard.push(op), ({ code }) => heard.push(code));
  return { session, line: Line.all[0] as Line, endings, heard, ask };
}

// A client with `onFull: "pause"` had not read for 30 s: what it had asked for counted as unanswered, its `subscribe` was rejected, and the answer
// that lay there was ignored. Its events came, but no new session went on with it; and where it was a resume, it was `resyncing` for ever.
test("an answer is not late while nothing is read", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { session, line, endings, heard, ask } = await begin();
  ask();
  t.mock.timers.tick(29_000);
  assert.equal(session.setReading(false), true);
  ask();
  t.mock.timers.tick(100_000);
  session.setReading(true);
  t.mock.timers.tick(29_000);
  assert.deepEqual([heard, endings], [[], []]);
  for (const { id } of line.asked) line.say({ op: "pong", id, now_ns: "1" });
  assert.deepEqual(heard, ["pong", "pong"]);
  t.mock.timers.tick(100_000);
  assert.deepEqual(endings, []);
  session.close("");
});

// It was given up alone, and nobody knew what the gateway had made of it.
test("a session in which an answer does not come is given up, with all that was asked", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { endings, heard, ask } = await begin();
  ask();
  t.mock.timers.tick(10_000);
  ask();
  t.mock.timers.tick(20_000);
  assert.deepEqual(heard, ["timeout", "timeout"]);
  assert.deepEqual(endings.map(({ code, error }) => [code, error?.code]), [[1_006, "timeout"]]);
});
