// How late events come, from the gateway's receipt of their record to here, and what else this client knows of itself.
import { connect } from "tickgate";
import { follow, runtime, symbols, url } from "./arguments.mjs";

const live = connect(url, runtime);
// A listener instead of a loop: nothing is queued.
live.onEvent((event) => {
  if (event.type === "state" || event.type === "slow") console.error(event);
});
for (const channel of /** @type {const} */ (["trades", "quotes"])) live.subscribe(channel, symbols);
follow(live, "trades and quotes");
await new Promise((ended) => live.onEvent((event) => event.type === "state" && event.state === "closed" && ended(undefined)));

const { events, latency, skew_ns, roundTrip_ns, gaps, gapEvents, conflated, duplicates } = live.stats();
const ms = (/** @type {number} */ ns) => `${(ns / 1e6).toFixed(3)} ms`;
console.log(`${events} events; p50 ${ms(latency.p50_ns)}, p99 ${ms(latency.p99_ns)}, most ${ms(latency.max_ns)}`);
console.log(`the gateway's clock is ${ms(skew_ns)} ahead, by a round trip of ${ms(roundTrip_ns)}`);
console.log(`${gaps} gaps of ${gapEvents} events, ${conflated} conflated, ${duplicates} came twice`);
