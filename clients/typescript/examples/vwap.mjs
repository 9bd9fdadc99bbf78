// The volume-weighted average price of each symbol, exact: in integers, as decimal fractions are none of floating point.
import { toFixedPoint } from "tickgate";
import { commandLine, open, TOP } from "./arguments.mjs";
import { follow, show, untilOver } from "./following.mjs";

/** Digits behind the point that are counted: those of prices and sizes, at most. */
const SCALE = 18;

const args = commandLine("The volume-weighted average price of each symbol; the one with the most trades first.", TOP);
const live = open(args);
follow(live, args, "trades", live.subscribe("trades", args.symbols));

/** @type {Map<string, { count: number, volume: bigint, turnover: bigint }>} */
const sums = new Map();
for await (const batch of untilOver(live.batches({ maxWaitMs: 50 }))) {
  for (const event of batch) {
    if (event.type !== "trade") continue;
    const sum = sums.get(event.symbol) ?? { count: 0, volume: 0n, turnover: 0n };
    const size = toFixedPoint(event.size, SCALE);
    sum.count++;
    sum.volume += size;
    sum.turnover += size * toFixedPoint(event.price, SCALE);
    sums.set(event.symbol, sum);
  }
}

/** With all its digits, and no zeros behind them. @param {bigint} units */
function exact(units) {
  const digits = String(units).padStart(SCALE + 1, "0");
  return `${digits.slice(0, -SCALE)}.${digits.slice(-SCALE)}`.replace(/\.?0+$/, "");
}
show(sums, args, (symbol, { count, volume, turnover }) => {
  const vwap = volume > 0n ? (Number(turnover / volume) / 10 ** SCALE).toFixed(6) : "-";
  return `${symbol.padEnd(10)} ${vwap.padStart(14)}  volume ${exact(volume)} in ${count} trades`;
});
