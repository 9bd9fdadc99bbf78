// How late events come, from the gateway's receipt of their record to here, and what else this client knows of itself.
import { commandLine, open } from "./arguments.mjs";
import { follow, missing } from "./following.mjs";

const args = commandLine("How late events come: from the gateway's receipt of their record to here, by the gateway's clock.");
const live = open(args);
// Listeners instead of a loop: nothing is queued.
const ended = new Promise((ended) => live.onEvent((event) => event.type === "state" && event.state === "closed" && ended(undefined)));
follow(live, args, "trades and quotes", live.subscribe("trades", args.symbols), live.subscribe("quotes", args.symbols));
await ended;

const { sessions, events, latency, skew_ns, roundTrip_ns, gaps, gapEvents, conflated, duplicates } = live.stats();
const ms = (/** @type {number} */ ns) => `${(ns / 1e6).toFixed(3)} ms`;
// Of no event, or of none behind the first word of the gateway's clock, there is none.
const late = (/** @type {number} */ ns) => (latency.count === 0 ? "unknown" : ms(ns));
console.log(`${events} events; p50 ${late(latency.p50_ns)}, p99 ${late(latency.p99_ns)}, most ${late(latency.max_ns)}`);
// Half of a round trip is all that can be said of when the gateway looked at its clock.
if (roundTrip_ns > 0) console.log(`the gateway's clock is ${ms(skew_ns)} ahead, which is not known to better than ${ms(roundTrip_ns / 2)}; nor are the latencies`);
else console.log("the gateway's clock is not known: it was not asked, or has not answered");
console.log(sessions === 0 ? "gaps unknown: there was no connection" : `${missing(gaps, gapEvents)}; ${conflated} conflated, ${duplicates} came twice`);
