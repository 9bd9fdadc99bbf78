/** What is shown, as comma-separated values. */

import type { Print, Row } from "./messages.js";

const COLUMNS = ["symbol", "bid_size", "bid", "ask", "ask_size", "last", "change_percent", "last_time", "trades"];

/**
 * The watchlist, with the venue's time of each last trade. Of rows whose trades are not followed (`out of sight`) it is the last that was seen,
 * and there may have been others since.
 */
export function watchlistCsv(rows: readonly (Row | { symbol: string })[], isFollowed: (symbol: string) => boolean = () => true): string {
  const line = (row: Row | { symbol: string }): string => {
    const { symbol, bidSize, bid, ask, askSize, last, last_ns, change } = row as Row;
    const time = last_ns === undefined ? undefined : new Date(Number(last_ns / 1_000_000n)).toISOString();
    return [symbol, bidSize, bid, ask, askSize, last, change?.toFixed(2), time, isFollowed(symbol) ? "followed" : "out of sight"].map(quoted).join(",");
  };
  return `${[COLUMNS.join(","), ...rows.map(line)].join("\n")}\n`;
}

/** The tape, oldest first. */
export function tapeCsv(symbol: string, prints: readonly Print[]): string {
  const lines = prints.map(({ time_ms, price, size, side }) => [symbol, new Date(time_ms).toISOString(), price, size, side].map(quoted).join(","));
  return `${["symbol,time,price,size,side", ...lines].join("\n")}\n`;
}

function quoted(value: string | undefined): string {
  if (value === undefined) return "";
  // A symbol that begins so would be a formula for a spreadsheet; numbers may be negative.
  const text = /^[=+@\t]/.test(value) || /^-\D/.test(value) ? `'${value}` : value;
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
