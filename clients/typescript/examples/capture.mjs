// Captures trades into a Parquet file, with the columns of the Python client's captures. Needs `hyparquet-writer` beside the client.
import { renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { nowNs, toNumber } from "tickgate";
import { commandLine, open, refuse } from "./arguments.mjs";
import { follow, missing, number, untilOver } from "./following.mjs";

/** Rows that are held in memory, and then written together. */
const ROWS = 10_000;
/** Nanoseconds in UTC, as 64-bit integers. */
const TIME = /** @type {const} */ ({ type: "INT64", logical_type: { type: "TIMESTAMP", isAdjustedToUTC: true, unit: "NANOS" } });
const TEXT = /** @type {const} */ ({ type: "BYTE_ARRAY", converted_type: "UTF8" });
const [NUMBER, INTEGER, FLAG] = /** @type {const} */ ([{ type: "DOUBLE" }, { type: "INT64" }, { type: "BOOLEAN" }]);
const COLUMNS = {
  ...{ symbol: TEXT, price: NUMBER, size: NUMBER, side: TEXT, trade_id: TEXT, venue: TEXT, conditions: TEXT, seq: TEXT },
  ...{ event_time: TIME, ingest_time: TIME, received_time: TIME, send_time: TIME, prev: TEXT, merged: INTEGER, snapshot: FLAG, replay: FLAG },
};
const columns = Object.keys(COLUMNS).map((name) => ({ name }));
/** @type {import("hyparquet").SchemaElement[]} */
const schema = [{ name: "root", num_children: columns.length }, ...Object.entries(COLUMNS).map(([name, type]) => ({ name, repetition_type: /** @type {const} */ ("OPTIONAL"), ...type }))];

const args = commandLine("Captures trades into a Parquet file.", { out: ["FILE", "trades.parquet", "where to"] });
const out = String(args.values.out);
// What cannot work is found before anything is captured. A file that is not whole cannot be read: it has its name when it is.
const { fileWriter, parquetWriteRows } = await import("hyparquet-writer").catch(() => refuse("this example takes a package that is not here: npm install hyparquet-writer"));
// An address that cannot be right leaves no file behind.
const live = open(args);
const part = `${out}.part`;
if (out === "") refuse("--out names no file");
try {
  if (statSync(out, { throwIfNoEntry: false })?.isDirectory()) refuse(`--out ${out}: that is a folder; name a file in it`);
  writeFileSync(part, "");
} catch (error) {
  refuse(`--out ${out} ${whyNot(error)}`);
}
follow(live, args, "trades", live.subscribe("trades", args.symbols));

let [trades, gaps, gapEvents] = [0, 0, 0];
async function* rows() {
  for await (const event of untilOver(live)) {
    if (event.type === "gap") [gaps, gapEvents] = [gaps + 1, gapEvents + (event.count ?? 0)];
    if (event.type !== "trade") continue;
    trades++;
    const { symbol, price, size, side, trade_id, venue, conditions, seq, event_ns, ingest_ns, send_ns, prev, merged = 1, snapshot = false, replay = false } = event;
    const times = { event_time: event_ns, ingest_time: ingest_ns, received_time: BigInt(Math.round(nowNs())), send_time: send_ns };
    yield { symbol, price: toNumber(price), size: toNumber(size), side, trade_id, venue, conditions, seq, ...times, prev, merged: BigInt(merged), snapshot, replay };
  }
}

/** @param {unknown} error */
function whyNot(error) {
  const { code, message } = /** @type {NodeJS.ErrnoException} */ (error);
  return code === "ENOENT" || code === "ENOTDIR" ? "cannot be written: its folder does not exist" : `cannot be written: ${message}`;
}

const captured = rows();
const { done, value } = await captured.next();
let isWritten = false;
try {
  if (!done) {
    const all = (async function* () {
      yield value;
      yield* captured;
    })();
    await parquetWriteRows({ writer: fileWriter(part), rows: all, columns, schema, rowGroupSize: ROWS });
    renameSync(part, out);
    isWritten = true;
  }
} catch (error) {
  live.close();
  console.error(`${out} ${whyNot(error)}`);
  process.exitCode = 1;
}
rmSync(part, { force: true });
console.log(live.stats().sessions === 0 ? "no trades: there was no connection" : `${number(trades, "trade")}; ${missing(gaps, gapEvents)}`);
if (isWritten) console.log(`written to ${out}`);
