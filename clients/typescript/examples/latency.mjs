// How late events come, from the gateway's receipt of their record to here, and what else this client knows of itself.
import { commandLine, follow, open } from "./arguments.mjs";

const args = commandLine("How late events come: from the gateway's receipt of their record to here, by the gateway's clock.");
const live = open(args);
// A listener instead of a loop: nothing is queued.
live.onEvent((event) => {
  if (event.type === "state" || event.type === "slow") console.error(event);
});
for (const channel of /** @type {const} */ (["trades", "quotes"])) live.subscribe(channel, args.symbols);
follow(live, args, "trades and quotes");
await new Promise((ended) => live.onEvent((event) => event.type === "state" && event.state === "closed" && ended(undefined)));

const { events, latency, skew_ns, roundTrip_ns, gaps, gapEvents, conflated, duplicates } = live.stats();
const ms = (/** @type {number} */ ns) => `${(ns / 1e6).toFixed(3)} ms`;
console.log(`${events} events; p50 ${ms(latency.p50_ns)}, p99 ${ms(latency.p99_ns)}, most ${ms(latency.max_ns)}`);
// Half of a round trip is all that can be said of when the gateway looked at its clock.
if (roundTrip_ns > 0) console.log(`the gateway's clock is ${ms(skew_ns)} ahead, which is not known to better than ${ms(roundTrip_ns / 2)}; nor are the latencies`);
else console.log("the gateway's clock is not known: it was not asked, or has not answered");
console.log(`${gaps} gaps of ${gapEvents} events, ${conflated} conflated, ${duplicates} came twice`);
