// The volume-weighted average price of each symbol, exact: in integers, as decimal fractions are none of floating point.
import { toFixedPoint } from "tickgate";
import { commandLine, follow, open, show, TOP, untilOver } from "./arguments.mjs";

/** Digits behind the point that are counted: those of prices and sizes, at most. */
const SCALE = 9;
const UNIT = 10 ** SCALE;

const args = commandLine("The volume-weighted average price of each symbol; the largest turnover first.", TOP);
const live = open(args);
live.subscribe("trades", args.symbols);
follow(live, args, "trades");

/** @type {Map<string, { volume: bigint, turnover: bigint }>} */
const sums = new Map();
for await (const batch of untilOver(live.batches({ maxWaitMs: 50 }))) {
  for (const event of batch) {
    if (event.type !== "trade") continue;
    const sum = sums.get(event.symbol) ?? { volume: 0n, turnover: 0n };
    const size = toFixedPoint(event.size, SCALE);
    sum.volume += size;
    sum.turnover += size * toFixedPoint(event.price, SCALE);
    sums.set(event.symbol, sum);
  }
}
const largest = [...sums].filter(([, { volume }]) => volume > 0n).sort(([, a], [, b]) => (a.turnover < b.turnover ? 1 : -1));
show(largest, args, ([symbol, { volume, turnover }]) => {
  const vwap = Number(turnover / volume) / UNIT;
  return `${symbol.padEnd(10)} ${vwap.toFixed(4).padStart(14)}  volume ${Number(volume) / UNIT}`;
});
