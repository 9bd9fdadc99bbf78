// How much more is bid than asked within the best five levels: 1 is all bid, -1 all asked.
import { toNumber } from "tickgate";
import { commandLine, open, TOP } from "./arguments.mjs";
import { follow, show, untilOver } from "./following.mjs";

const args = commandLine("Order book imbalance: how much more is bid than asked within the best five levels, from 1, all bid, to -1, all asked.", TOP);
const live = open(args);
follow(live, args, "books", live.subscribe("book", args.symbols, { depth: 5, conflate_ms: 100 }));

/** @param {[string, string][]} levels */
const sizeOf = (levels) => levels.reduce((sum, [, size]) => sum + toNumber(size), 0);
/** @type {Map<string, { count: number, sum: number, last: number }>} */
const found = new Map();
for await (const event of untilOver(live)) {
  if (event.type !== "book") continue;
  const book = live.book(event.symbol);
  if (!book.isComplete) continue; // something is missing: a snapshot follows
  const [bid, asked] = [sizeOf(book.bids()), sizeOf(book.asks())];
  if (bid + asked === 0) continue;
  const last = (bid - asked) / (bid + asked);
  const { count, sum } = found.get(event.symbol) ?? { count: 0, sum: 0 };
  found.set(event.symbol, { count: count + 1, sum: sum + last, last });
}
show(found, args, (symbol, { count, sum, last }) => `${symbol.padEnd(10)} mean ${(sum / count).toFixed(3)}  last ${last.toFixed(3)}  of ${count}`);
