/** What every example says of its connection, of what is missing and of what does not come; how it ends; and how it shows what there is. */

import { isMarketEvent, TickgateError } from "tickgate";

/** @typedef {import("./arguments.mjs").Arguments} Arguments @typedef {import("tickgate").AckResult} AckResult */

/** How long nothing may come before that is told. */
const QUIET_MS = 5_000;

/** So many of something. @param {number} count @param {string} what */
export const number = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;

/** Gaps, not all of which say how much is missing. @param {number} gaps @param {number} events */
export const missing = (gaps, events) => (gaps === 0 ? "0 gaps" : `${number(gaps, "gap")}, ${number(events, "event")} where known`);

/**
 * Closes a client when the time is over, when all that it `asked` for is refused, or with Ctrl-C: its iterators end then, and what there is can be
 * shown. Says when something has come, what fails, and what may be wrong when nothing comes for a while; then the program ends with 1.
 *
 * @param {import("tickgate").Live} live @param {Arguments} args @param {string} what @param {Promise<AckResult[]>[]} asked
 * @returns Whether it was Ctrl-C that ended it.
 */
export function follow(live, { url, symbols, seconds }, what, ...asked) {
  process.exitCode = 1;
  let [hasCome, hasNewsCome, isInterrupted] = [false, false, false];
  /** The last error, and why there is no connection: of each attempt the same. */
  let [failed, lost, told] = ["", "", ""];
  const hints = new Set();
  /** @type {Set<string>} */
  const refused = new Set(symbols);

  /** A line for each thing that is wrong with some of them, and what to do about it once. @param {AckResult[]} results */
  const answered = (results) => {
    for (const { symbol, ok } of results) if (ok) refused.delete(symbol);
    /** @type {Map<string, AckResult[]>} */
    const alike = new Map();
    for (const result of results) {
      if (result.hint === undefined) continue;
      const key = `${result.message}: ${result.hint}`;
      alike.set(key, [...(alike.get(key) ?? []), result]);
    }
    for (const some of alike.values()) {
      const [{ channel, message, hint = "" }] = /** @type {[AckResult]} */ (/** @type {unknown} */ (some));
      const names = some.map(({ symbol }) => symbol).join();
      // Of a symbol that nobody has seen it is the same on every channel.
      const key = message === undefined ? names + hint : hint;
      const text = [message, hints.has(key) ? undefined : hint].filter((part) => part !== undefined).join(". ");
      hints.add(key);
      if (text !== "") console.error(`${channel} ${names}: ${text}`);
    }
  };
  /** @param {import("tickgate").StateEvent} event */
  const changed = ({ state, reason = "no answer", hint }) => {
    if (state === "live") {
      if (lost !== "") console.error(`connected to ${url}`);
      lost = "";
    }
    if (state !== "reconnecting" || reason === lost) return;
    lost = reason;
    console.error(`no connection to ${url}: ${reason}; it tries again${hint === undefined ? "" : `. ${hint}`}`);
  };
  live.onEvent((event) => {
    if (event.type === "error") {
      const text = `${event.code}: ${event.message}. ${event.hint}`;
      if (text !== failed) console.error(text);
      failed = text;
    } else if (event.type === "gap") {
      console.error(`missing: ${event.channel} ${event.symbol}, ${event.count === undefined ? "nobody knows how many" : number(event.count, "event")} (${event.cause})`);
    } else if (event.type === "slow") {
      console.error(`the gateway finds this client slow: ${event.delay_ms} ms late, ${event.queued_bytes} of ${event.limit_bytes} bytes wait; then it does ${event.action}`);
    } else if (event.type === "state") changed(event);
    else if (event.type === "ack") answered(event.results);
    if (!isMarketEvent(event)) return;
    hasNewsCome ||= event.snapshot !== true;
    if (hasCome) return;
    hasCome = true;
    process.exitCode = 0;
    console.error(`${what} of ${symbols} for ${seconds} s; Ctrl-C ends it early`);
  });
  void Promise.allSettled(asked).then((answers) => {
    const isRefused = answers.every((answer) => answer.status === "rejected" || answer.value.every(({ ok }) => !ok));
    if (asked.length > 0 && isRefused) live.close();
  });

  const quiet = () => {
    // What is tried again was told.
    if (hasNewsCome || live.state === "reconnecting" || (hasCome && (live.state !== "live" || live.stats().feedState === "live"))) return;
    const begin = hasCome ? "nothing but states of before" : `no ${what} yet`;
    const of = symbols.filter((symbol) => !refused.has(symbol));
    const text = live.state === "live" ? whyNothing(live.stats(), begin, what, of) : `no connection to ${url} yet, ${live.state}: no answer. Is a gateway there?`;
    if (text !== told) console.error(text);
    told = text;
  };
  const watching = setInterval(quiet, Math.max(1, Math.min(QUIET_MS, seconds * 1_000 - 50)));
  const over = setTimeout(() => live.close(), seconds * 1_000);
  const stop = () => {
    isInterrupted = true;
    live.close();
  };
  process.once("SIGINT", stop);
  live.onEvent((event) => {
    if (event.type !== "state" || event.state !== "closed") return;
    clearTimeout(over);
    clearInterval(watching);
    process.off("SIGINT", stop);
    const { queueDropped } = live.stats();
    if (queueDropped > 0) console.error(`${number(queueDropped, "event")} had no room in this program, which takes them too slowly`);
  });
  return () => isInterrupted;
}

/** Why nothing comes: only where the gateway hears from Kafka may it be the symbols. @param {import("tickgate").Stats} stats @param {string} begin @param {string} what @param {string[]} symbols */
function whyNothing({ feedState, feeds }, begin, what, symbols) {
  const names = feeds.filter(({ state }) => state === feedState).map(({ name }) => name);
  const feed = `the gateway's feed${names.length === 1 ? "" : "s"} ${names.join(", ")} ${names.length === 1 ? "is" : "are"} ${feedState}`;
  switch (feedState) {
    case "down":
      return `${begin}: ${feed}, the gateway does not hear from Kafka`;
    case "stale":
      return `${begin}: ${feed}, nothing has come from Kafka for a while. Does anybody produce, and is the topic there?`;
    case "unknown":
      return `${begin}, and the gateway has not said yet how its feeds are`;
    case "live":
      return `no ${what} of ${symbols} yet. Are the symbols right, and has this market ${what}? /symbols?top=20 on the gateway's admin port lists what ticks`;
  }
}

/** Events or batches, until they end. What ended them was told by {@link follow}, and what there is is shown. @template T @param {AsyncIterable<T>} events */
export async function* untilOver(events) {
  try {
    yield* events;
  } catch (error) {
    if (!(error instanceof TickgateError)) throw error;
    process.exitCode = 1;
  }
}

/** Prints a line for each of those with the most events, and how many there are beside those. @template {{ count: number }} T @param {Map<string, T>} found @param {Arguments} args @param {(symbol: string, of: T) => string} line */
export function show(found, { top }, line) {
  const busiest = [...found].sort(([, a], [, b]) => b.count - a.count);
  for (const [symbol, of] of busiest.slice(0, top)) console.log(line(symbol, of));
  if (busiest.length > top) console.log(`… and ${busiest.length - top} more (--all, or --top N)`);
}
