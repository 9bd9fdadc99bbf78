/** What is shown, as comma-separated values. */

import type { Print, Row } from "./messages.js";

const COLUMNS = ["symbol", "bid_size", "bid", "ask", "ask_size", "last", "change_percent"];

/** The watchlist. Of rows whose trades are not followed the last one is not known: it is left out, and what follows from it. */
export function watchlistCsv(rows: readonly (Row | { symbol: string })[], isFollowed: (symbol: string) => boolean = () => true): string {
  const line = (row: Row | { symbol: string }): string => {
    const { symbol, bidSize, bid, ask, askSize, last, change } = row as Row;
    const traded = isFollowed(symbol) ? [last, change?.toFixed(2)] : [undefined, undefined];
    return [symbol, bidSize, bid, ask, askSize, ...traded].map(quoted).join(",");
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
