// A client is dropped half-way, as when its program ends, and another one goes on from its cursor: is anything missing? Kill the gateway meanwhile,
// and start it again: both come back by themselves, and say what was missing.
import { isAtOrBefore } from "tickgate";
import { commandLine, open } from "./arguments.mjs";
import { follow, missing, number, untilOver } from "./following.mjs";

const whole = commandLine("Counts trades for half of the time, ends, goes on from its cursor, and says what is missing. Kill the gateway meanwhile, and start it again.");
const args = { ...whole, seconds: whole.seconds / 2 };

const first = open(args, { heartbeatMs: 1_000 });
const isInterrupted = follow(first, args, "trades", first.subscribe("trades", args.symbols));
/** What a program would keep in a file: the cursor, which is as old as the last heartbeat, and the last trade of each symbol. @type {Map<string, string>} */
const last = new Map();
/** @type {string | undefined} */
let cursor;
let [trades, gaps, gapEvents] = [0, 0, 0];
/** @param {import("tickgate").Gap} gap */
const note = ({ count = 0 }) => ([gaps, gapEvents] = [gaps + 1, gapEvents + count]);
for await (const event of untilOver(first)) {
  cursor = first.cursor;
  if (event.type === "gap") note(event);
  if (event.type !== "trade") continue;
  trades++;
  last.set(event.symbol, event.seq);
}
const had = first.stats();
if (had.sessions === 0) console.log("the first client had no connection");
else console.log(`the first client had ${number(trades, "trade")} of ${number(last.size, "symbol")} in ${number(had.sessions, "session")}, and is gone`);

if (isInterrupted()) {
  console.log("that was all: it was ended early");
  if (gaps > 0) {
    console.log(`missing: ${missing(gaps, gapEvents)}`);
    process.exitCode = 1;
  }
} else if (cursor === undefined) {
  if (had.sessions > 0) console.log("it had no cursor to go on from: none had come");
  process.exitCode = 1;
} else {
  const second = open(args);
  const isInterruptedToo = follow(second, args, "trades", second.subscribe("trades", args.symbols, { cursor }));
  let [more, before, again, went, broken, unknown] = [0, 0, 0, 0, 0, 0];
  for await (const event of untilOver(second)) {
    if (event.type === "gap") note(event);
    if (event.type !== "trade") continue;
    const seq = last.get(event.symbol);
    if (seq !== undefined && isAtOrBefore(event.seq, seq)) {
      again++;
      continue;
    }
    more++;
    if (event.replay) before++;
    if (seq === undefined) continue;
    // The first one behind what the first client had; the second one checks the others itself.
    last.delete(event.symbol);
    if (event.prev === seq) went++;
    else if (event.prev === undefined) unknown++;
    else broken++;
  }
  const { sessions, unannounced } = second.stats();
  if (sessions === 0) console.log("the second had no connection: what it would have missed is unknown");
  else {
    console.log(`the second had ${more} more in ${number(sessions, "session")}, ${before} of them from before it came; ${again} that the first had came again and were not counted`);
    console.log(`of the symbols ${went} went on where they were, ${broken} did not, of ${unknown} the gateway could not say, ${last.size} had no trade since`);
  }
  console.log(`missing: ${missing(gaps, gapEvents)}${gaps > 0 ? `; the gateway had not told ${unannounced + had.unannounced} of them` : ""}`);
  if (isInterruptedToo()) console.log("it was ended early");
  const isMissing = broken + gaps > 0;
  const hasCome = trades + more > 0 && (sessions > 0 || isInterruptedToo());
  process.exitCode = isMissing || !hasCome ? 1 : 0;
}
