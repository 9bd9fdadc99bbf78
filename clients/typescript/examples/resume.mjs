// Loses its connection again and again, as when a gateway is killed, and shows that nothing is missing: every trade follows the one
// before it of its symbol, none comes twice.
import { connect } from "tickgate";
import { endMs, follow, runtime, symbols, url } from "./arguments.mjs";
import { WebSocket } from "ws";

/** The socket of the moment, to break it. @type {WebSocket | undefined} */
let socket;
class Breakable extends WebSocket {
  /** @param {string} to @param {string[]} protocols */
  constructor(to, protocols) {
    super(to, protocols);
    socket = this;
  }
}

const live = connect(url, { ...runtime, WebSocket: Breakable, heartbeatMs: 200 });
live.subscribe("trades", symbols);
follow(live, "trades");
// Once there is a cursor: before, nobody could know what is missing.
const breaking = setInterval(() => performance.now() < endMs - 1_500 && live.cursor !== undefined && socket?.terminate(), 1_000);

/** The last trade of each symbol. @type {Map<string, string>} */
const last = new Map();
let [trades, broken] = [0, 0];
for await (const event of live) {
  if (event.type === "state") console.error(event.state, event.reason ?? "");
  if (event.type !== "trade") continue;
  trades++;
  const before = last.get(event.symbol);
  if (before !== undefined && event.prev !== before && event.seq !== before) broken++;
  last.set(event.symbol, event.seq);
}
clearInterval(breaking);
const { reconnects, duplicates, gaps, unverified } = live.stats();
console.log(`${trades} trades over ${reconnects} reconnects: ${gaps} gaps, ${broken} do not follow the one before (${unverified} of which the gateway did not know it), ${duplicates} came twice and were discarded`);
if (gaps > 0 || broken > unverified) process.exitCode = 1;
