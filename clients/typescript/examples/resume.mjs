// A client is dropped half-way, as when its program ends, and another one goes on from its cursor: is anything missing? Kill the gateway meanwhile,
// and start it again: both come back by themselves, and say what was missing.
import { isAtOrBefore } from "tickgate";
import { commandLine, follow, open, untilOver } from "./arguments.mjs";

const whole = commandLine("Counts trades for half of the time, ends, goes on from its cursor, and says what is missing. Kill the gateway meanwhile, and start it again.");
const args = { ...whole, seconds: whole.seconds / 2 };

/** @param {import("tickgate").TickgateEvent} event */
function tell(event) {
  if (event.type === "state" && event.state !== "connecting") console.error(event.state, event.reason ?? "");
}

const first = open(args, { heartbeatMs: 1_000 });
first.onEvent(tell);
first.subscribe("trades", args.symbols);
const isInterrupted = follow(first, args, "trades");
/** What a program would keep in a file: the cursor, which is as old as the last heartbeat, and the last trade of each symbol. @type {Map<string, string>} */
const last = new Map();
/** @type {string | undefined} */
let cursor;
let trades = 0;
for await (const event of untilOver(first)) {
  cursor = first.cursor;
  if (event.type !== "trade") continue;
  trades++;
  last.set(event.symbol, event.seq);
}
const had = first.stats();
console.log(`the first client had ${trades} trades of ${last.size} symbols in ${had.reconnects + 1} sessions, and is gone`);

if (isInterrupted()) {
  console.log("that was all: it was ended early");
} else if (cursor === undefined) {
  console.log("it had no cursor to go on from: none had come");
} else {
  const second = open(args);
  second.onEvent(tell);
  second.subscribe("trades", args.symbols, { cursor });
  follow(second, args, "trades");
  let [more, before, again, went, broken, unknown] = [0, 0, 0, 0, 0, 0];
  for await (const event of untilOver(second)) {
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
  const { gaps, gapEvents, unannounced, reconnects } = second.stats();
  console.log(`the second had ${more} more in ${reconnects + 1} sessions, ${before} of them from before it came; ${again} that the first had came again and were not counted`);
  console.log(`of the symbols ${went} went on where they were, ${broken} did not, of ${unknown} the gateway could not say, ${last.size} had no trade since`);
  console.log(`missing: ${gapEvents + had.gapEvents} trades in ${gaps + had.gaps} gaps, ${unannounced + had.unannounced} of them gaps that the gateway had not told`);
  if (broken + unannounced + had.unannounced > 0) process.exitCode = 1;
}
