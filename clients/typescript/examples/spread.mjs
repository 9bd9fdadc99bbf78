// Spreads of each symbol's quotes, in basis points of the mid.
import { toNumber } from "tickgate";
import { commandLine, follow, open, show, TOP, untilOver } from "./arguments.mjs";

const args = commandLine("Spreads of each symbol's quotes, in basis points of the mid; the busiest first.", TOP);
const live = open(args);
live.subscribe("quotes", args.symbols);
follow(live, args, "quotes");

/** @type {Map<string, { count: number, sum: number, least: number, most: number }>} */
const spreads = new Map();
for await (const event of untilOver(live)) {
  if (event.type !== "quote") continue;
  const [bid, ask] = [toNumber(event.bid_price), toNumber(event.ask_price)];
  const bps = ((ask - bid) / ((ask + bid) / 2)) * 10_000;
  const of = spreads.get(event.symbol) ?? { count: 0, sum: 0, least: Infinity, most: -Infinity };
  spreads.set(event.symbol, { count: of.count + 1, sum: of.sum + bps, least: Math.min(of.least, bps), most: Math.max(of.most, bps) });
}
const busiest = [...spreads].sort(([, a], [, b]) => b.count - a.count);
show(
  busiest,
  args,
  ([symbol, { count, sum, least, most }]) =>
    `${symbol.padEnd(10)} ${String(count).padStart(7)} quotes  mean ${(sum / count).toFixed(2)} bps  ${least.toFixed(2)} to ${most.toFixed(2)}`,
);
