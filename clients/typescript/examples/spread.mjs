// Spreads of each symbol's quotes, in basis points of the mid.
import { toNumber } from "tickgate";
import { commandLine, open, TOP } from "./arguments.mjs";
import { follow, show, untilOver } from "./following.mjs";

const args = commandLine("Spreads of each symbol's quotes, in basis points of the mid: on average over time, at the widest, and how often they were crossed or locked.", TOP);
const live = open(args);
follow(live, args, "quotes", live.subscribe("quotes", args.symbols));

/** What is known of a symbol; `last` is the quote that stands. @typedef {{ count: number, crossed: number, widest: number, sum: number, ns: number, last?: { bps: number, at_ns: bigint } | undefined }} Spread */
/** @type {Map<string, Spread>} */
const spreads = new Map();
for await (const event of untilOver(live)) {
  if (event.type === "gap") {
    // Nobody knows how long the quotes before it stood. Gaps are of a symbol, or of a pattern.
    for (const [symbol, of] of spreads) if (symbol === event.symbol || (event.symbol.endsWith("*") && symbol.startsWith(event.symbol.slice(0, -1)))) of.last = undefined;
  }
  if (event.type !== "quote") continue;
  const [bid, ask] = [toNumber(event.bid_price), toNumber(event.ask_price)];
  const of = spreads.get(event.symbol) ?? { count: 0, crossed: 0, widest: -Infinity, sum: 0, ns: 0 };
  spreads.set(event.symbol, of);
  const { last } = of;
  // Each one stood until the next, by the venue's clock.
  if (last !== undefined && event.event_ns > last.at_ns) {
    const stood_ns = Number(event.event_ns - last.at_ns);
    of.sum += last.bps * stood_ns;
    of.ns += stood_ns;
  }
  of.count++;
  if (bid >= ask) of.crossed++;
  const bps = ((ask - bid) / ((ask + bid) / 2)) * 10_000;
  of.last = Number.isFinite(bps) ? { bps, at_ns: event.event_ns } : undefined;
  if (Number.isFinite(bps)) of.widest = Math.max(of.widest, bps);
}

/** @param {string} symbol @param {(string | number)[]} columns */
const line = (symbol, ...columns) => [symbol.padEnd(12), ...columns.map((column) => String(column).padStart(10))].join("  ");
if (spreads.size > 0) console.log(line("symbol", "quotes", "mean bps", "widest bps", "crossed"));
show(spreads, args, (symbol, { count, crossed, widest, sum, ns }) => line(symbol, count, ns > 0 ? (sum / ns).toFixed(2) : "-", widest > -Infinity ? widest.toFixed(2) : "-", crossed));
