// Captures trades into a Parquet file, with the columns of the Python client's captures. Needs `hyparquet-writer` beside the client.
import { renameSync } from "node:fs";
import { fileWriter, parquetWriteRows } from "hyparquet-writer";
import { nowNs, toNumber } from "tickgate";
import { commandLine, follow, open, untilOver } from "./arguments.mjs";

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
const live = open(args);
live.subscribe("trades", args.symbols);
follow(live, args, "trades");

let [trades, gaps] = [0, 0];
async function* rows() {
  for await (const event of untilOver(live)) {
    if (event.type === "gap") gaps++;
    if (event.type !== "trade") continue;
    trades++;
    const { symbol, price, size, side, trade_id, venue, conditions, seq, event_ns, ingest_ns, send_ns, prev, merged = 1, snapshot = false, replay = false } = event;
    const times = { event_time: event_ns, ingest_time: ingest_ns, received_time: BigInt(Math.round(nowNs())), send_time: send_ns };
    yield { symbol, price: toNumber(price), size: toNumber(size), side, trade_id, venue, conditions, seq, ...times, prev, merged: BigInt(merged), snapshot, replay };
  }
}

// A file that is not whole cannot be read: it has its name when it is.
const captured = rows();
const { done, value } = await captured.next();
if (!done) {
  const all = (async function* () {
    yield value;
    yield* captured;
  })();
  await parquetWriteRows({ writer: fileWriter(`${out}.part`), rows: all, columns, schema, rowGroupSize: ROWS });
  renameSync(`${out}.part`, out);
}
console.log(`${trades} trades, ${gaps} gaps`);
if (trades > 0) console.log(`written to ${out}`);
