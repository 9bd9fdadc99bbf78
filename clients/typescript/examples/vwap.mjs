// The volume-weighted average price of each symbol.
import { connect, toNumber } from "tickgate";
import { closeInTime, runtime, symbols, url } from "./arguments.mjs";

const live = connect(url, runtime);
live.subscribe("trades", symbols);
closeInTime(live);

/** @type {Map<string, { volume: number, turnover: number }>} */
const sums = new Map();
for await (const batch of live.batches({ maxWaitMs: 50 })) {
  for (const event of batch) {
    if (event.type === "gap") console.error("missing:", event);
    if (event.type !== "trade") continue;
    const sum = sums.get(event.symbol) ?? { volume: 0, turnover: 0 };
    sum.volume += toNumber(event.size);
    sum.turnover += toNumber(event.size) * toNumber(event.price);
    sums.set(event.symbol, sum);
  }
}
const largest = [...sums].sort(([, a], [, b]) => b.turnover - a.turnover).slice(0, 10);
for (const [symbol, { volume, turnover }] of largest) console.log(`${symbol.padEnd(10)} ${(turnover / volume).toFixed(4).padStart(14)}  volume ${volume}`);
if (largest.length === 0) process.exitCode = 1;
