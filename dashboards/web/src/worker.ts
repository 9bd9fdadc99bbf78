/**
 * The worker: socket, decoding, checking, and the newest state of what is watched. It says something only when the page asks, so that a page
 * that is busy or hidden gets less and never a backlog.
 */

import { type AckResult, type Channel, connect, type FeedEvent, type Gap, type Live, nowNs, type SlowEvent, type StateEvent, type SubscribeOptions, type TickgateEvent, type MarketEvent, type Trade } from "tickgate";
import { Bursts } from "./bursts.js";
import { Candles } from "./candles.js";
import { Recent } from "./latency.js";
import { type Change, type Command, FIRST_SYMBOLS, FOLLOWED_MAX, type Frame, type Health, type Looking, MERGE_MS, type Notice, type Print } from "./messages.js";
import { Notices } from "./notices.js";
import { heard_ms, Rows } from "./rows.js";
import { Wants, type Wanted } from "./wants.js";

const PRINTS_MAX = 500;
const CHANGES_MAX = 50;
const DIRECTORY_MAX = 20_000;
/** How long the symbols that there are are listened for. */
const DISCOVER_MS = 2_000;
/** Between two frames at the least: as often as quotes come. Twice as many doubled what drawing took, for what no eye reads. */
const FRAME_MS = 100;
/** How long the rows in sight have to stay the same until they are asked for. */
const VIEW_MS = 150;
/** How long what waited for a client that was slow may take until it is there. */
const THROUGH_MS = 1_000;
/** What is told of a feed so soon again takes the place of what was told before. */
const FEED_MS = 60_000;
/** How often health is told, and rows out of sight. */
const HEALTH_MS = 250;
const ROWS_ALL_MS = 1_000;
/** What a client that is slow on purpose takes, in bytes a second. */
const SLOW_BYTES_PER_S = 8_192;
const FULL_BYTES_PER_S = 0;

/** Of rows in sight as much as eyes can follow; of the others in a long list what their lines of prices need. */
const QUOTES_SEEN: SubscribeOptions = { conflate_ms: 100 };
const QUOTES_UNSEEN: SubscribeOptions = { conflate_ms: 1_000 };
const STATUS: SubscribeOptions = {};
/** With the last one: none came while the row was out of sight. */
const TRADES_SEEN: SubscribeOptions = { on_slow: "skip", snapshot: 1 };
const FOCUS_TRADES: SubscribeOptions = { on_slow: "skip", snapshot: 200 };
const FOCUS_BOOK: SubscribeOptions = { depth: 20, conflate_ms: 100 };
/** Each channel that a feed may have alone: the newest of every symbol there is. */
const DISCOVERY: [Channel, SubscribeOptions][] = [
  ["quotes", { conflate_ms: 1_000, on_slow: "conflate" }],
  ["status", { on_slow: "conflate" }],
  ["trades", { snapshot: 1, on_slow: "skip" }],
];

let live: Live | undefined;
let watched: string[] = [];
let view: readonly string[] = [];
const wants = new Wants(wanted, granted);
let focus: string | undefined;
let isSlow = false;
let interval_s = 1;
const rows = new Rows();
const candles = new Candles();
/** The symbols that there are, and how many events of each came while they were listened for. */
const directory = new Map<string, number>();
let isDirectoryNew = false;
let isDiscovering = false;
let looking: Looking = "no";
/** Set while symbols are listened for, from when they may come on. */
let discoverTimer: ReturnType<typeof setTimeout> | undefined;

let prints: Print[] = [];
let printsSkipped = 0;
const notices = new Notices();
let notesNumbered = 0;
let changes: Change[] = [];
/** The last price of the symbol in focus, and where it went. */
let printed = Number.NaN;
let tick: 1 | -1 | undefined;
/** Since when the stream has not been live after it was, and the gaps that there were then: not where another client goes on. */
let lost: { at_ms: number; gaps: number | undefined } | undefined;
let wasLive = false;
let isLadderNew = false;
let areCandlesNew = false;
let isAnew = false;
/** Whether the last trades of the symbol in focus were asked for, and none has come. */
let isSnapshotAwaited = false;
let candlesSince_s: number | undefined;
let needsToken = false;
let frame_ms = 0;
/** What the last answer failed of. */
let fault = "";
let rowsAll_ms = 0;
let health_ms = 0;
let attempt = 0;
let reason: string | undefined;
let slow_ms = -Infinity;
/** While the client does not keep up: since when, and how far it is behind at the most. */
let spell: { id: number; at_ms: number; delay_ms: number } | undefined;
const bursts = new Bursts(newId);
const recent = new Recent();
/** When what was slow is through, and its latencies are over. */
let throughAt_ms: number | undefined;
/** What was told of feeds that brought nothing: when last, and how often they did since it was told anew. */
const feeds = new Map<string, { id: number; at_ms: number; times: number }>();
/** How far the gateway's clock is ahead of ours, where that is known, and when it was asked for. */
let skew: { at_ms: number; ms: number | undefined } | undefined;
let before = { at_ms: performance.now(), messages: 0, events: 0, conflated: 0 };

const page = self as unknown as { postMessage(frame: Frame): void; onmessage: (event: { data: Command }) => void };

page.onmessage = ({ data }) => {
  switch (data.do) {
    case "connect":
      return start(data.url, data.token);
    case "watch":
      return watch(data.symbols);
    case "focus":
      return look(data.symbol, data.interval_s);
    case "slow":
      return slowDown(data.isSlow);
    case "view":
      rows.see((view = data.symbols));
      return wants.askIn(VIEW_MS);
    case "discover":
      return discover();
    case "pull":
      return void setTimeout(answer, Math.max(0, frame_ms + FRAME_MS - performance.now()));
  }
};

setInterval(() => {
  rows.second();
  keepUp(performance.now());
}, 1_000);

function bytesPerS(): number {
  return isSlow ? SLOW_BYTES_PER_S : FULL_BYTES_PER_S;
}

/** What a visitor asks for to see what becomes of a client that is slow. */
function slowDown(is: boolean): void {
  if (is === isSlow) return;
  isSlow = is;
  live?.set({ maxBytesPerS: bytesPerS() });
  throughAt_ms = isSlow ? undefined : performance.now() + THROUGH_MS;
  if (isSlow) note("slow", `Slowed down to ${SLOW_BYTES_PER_S / 1_024} KiB a second: the gateway merges quotes and leaves out trades`);
  else note("info", "Not slowed down any more: all comes again");
}

function start(url: string, token: string | undefined): void {
  live?.close();
  live = connect(url, { heartbeatMs: 1_000, clockMs: 5_000, maxBytesPerS: bytesPerS(), ...(token === undefined ? {} : { token }) });
  live.onEvent(take);
  // It asks for the last trades, which those before are among.
  forgetFocus();
  isAnew = true;
  if (lost !== undefined) lost.gaps = undefined;
  // What was asked of the client before is over with it, and another token may see other symbols.
  clearTimeout(discoverTimer);
  discoverTimer = undefined;
  isDiscovering = false;
  looking = "no";
  directory.clear();
  recent.clear();
  before = { at_ms: performance.now(), messages: 0, events: 0, conflated: 0 };
  wants.begin(live);
}

function watch(symbols: string[]): void {
  watched = [...new Set(symbols)];
  rows.watch(watched);
  wants.ask();
}

/** What has to be subscribed as things are. */
function wanted(): Wanted {
  const [quotes, trades, status, book] = [new Map<string, SubscribeOptions>(), new Map<string, SubscribeOptions>(), new Map<string, SubscribeOptions>(), new Map<string, SubscribeOptions>()];
  const isSeen = new Set(view);
  for (const symbol of watched) {
    const isNear = watched.length <= FOLLOWED_MAX || isSeen.has(symbol) || symbol === focus;
    quotes.set(symbol, isNear ? QUOTES_SEEN : QUOTES_UNSEEN);
    status.set(symbol, STATUS);
    if (isNear) trades.set(symbol, TRADES_SEEN);
  }
  if (focus !== undefined) {
    trades.set(focus, FOCUS_TRADES);
    book.set(focus, FOCUS_BOOK);
  }
  return new Map([["quotes", quotes], ["trades", trades], ["status", status], ["book", book]]);
}

/** The gateway has answered: what it brings comes behind this. */
function granted(channel: Channel, options: SubscribeOptions, results: readonly AckResult[], isNew: (symbol: string) => boolean): void {
  if (options === FOCUS_TRADES && results.some(({ symbol, ok }) => ok && symbol === focus)) isSnapshotAwaited = true;
  // Once for each symbol is enough.
  if (channel !== "quotes") return;
  const asked = results.filter(({ symbol }) => isNew(symbol));
  const refused = asked.filter(({ ok }) => !ok);
  const [first] = refused;
  if (first !== undefined) note("error", `${first.symbol}${others(refused)}: ${first.message ?? first.code ?? "refused"}`);
  const unseen = asked.filter(({ ok, seen }) => ok && seen === false);
  if (unseen.length > 0) note("info", `${unseen[0]?.symbol}${others(unseen)}: no record has named ${unseen.length > 1 ? "them" : "it"} so far; a row fills when one does`);
}

function others(results: readonly AckResult[]): string {
  return results.length > 1 ? ` and ${results.length - 1} more` : "";
}

function look(symbol: string, seconds: number): void {
  interval_s = seconds;
  areCandlesNew = true;
  if (symbol === (focus ?? "")) return;
  focus = symbol === "" ? undefined : symbol;
  forgetFocus();
  isSnapshotAwaited = false;
  wants.ask();
}

/** Nothing is known of the trades and the book of the symbol in focus. */
function forgetFocus(): void {
  candles.clear();
  areCandlesNew = true;
  prints = [];
  printsSkipped = 0;
  printed = Number.NaN;
  tick = undefined;
  isLadderNew = true;
}

/** What came of the symbol by an earlier subscription, until it was asked for as the one in focus, is in its snapshot again. */
function beginAtSnapshot(): void {
  isSnapshotAwaited = false;
  forgetFocus();
  isAnew = true;
}

/** Patterns bring the state of every symbol there is; then they are not needed any more. */
function discover(): void {
  if (isDiscovering || live === undefined) return;
  isDiscovering = true;
  looking = "begun";
  const client = live;
  const asked = DISCOVERY.map(([channel, options]) => client.subscribe(channel, "*", options));
  void Promise.allSettled(asked).then((answers) => {
    // Another token has begun anew meanwhile.
    if (client !== live) return;
    // Symbols come from now on: connecting may have taken any time.
    if (answers.some((answer) => answer.status === "fulfilled" && answer.value.some(({ ok }) => ok))) listen();
    else discovered("refused");
  });
}

/** Ends a discovery in a while. Who sees nothing yet waits for the first symbol. */
function listen(): void {
  clearTimeout(discoverTimer);
  discoverTimer = setTimeout(() => {
    if (directory.size === 0 && watched.length === 0) {
      looking = "waiting";
      return listen();
    }
    for (const [channel] of DISCOVERY) void live?.unsubscribe(channel, "*");
    discovered("no");
  }, DISCOVER_MS);
}

function discovered(how: Looking): void {
  looking = how;
  clearTimeout(discoverTimer);
  discoverTimer = undefined;
  isDiscovering = false;
  isDirectoryNew = true;
}

function take(event: TickgateEvent): void {
  switch (event.type) {
    case "trade":
      meet(event.symbol);
      rows.trade(event, heard(event));
      late(event);
      if (event.symbol === focus) {
        if (event.snapshot === true && isSnapshotAwaited) beginAtSnapshot();
        print(event);
      }
      return;
    case "quote":
      meet(event.symbol);
      return rows.quote(event, heard(event));
    case "status":
      meet(event.symbol);
      late(event);
      return rows.status(event, heard(event));
    case "book":
      isLadderNew = true;
      return;
    case "gap":
      return gap(event);
    case "state":
      return changed(event);
    case "slow":
      return fallBehind(event);
    case "feed":
      return feed(event);
    case "goaway":
      return event.close_in_ms === 0 ? undefined : note("info", `This gateway stops (${event.reason}): the page goes on at the next one`);
    case "error":
      if (event.code === "unauthenticated" || event.code === "token_expired") needsToken = true;
      // It was granted, and is not any more.
      if (event.code === "forbidden" && event.symbol !== undefined) wants.lost(event.symbol);
      note("error", `${event.message} (${event.hint})`);
      return;
  }
}

function heard(event: MarketEvent): number {
  return heard_ms(event, Date.now(), event.snapshot === true ? skewNow_ms(performance.now()) : undefined);
}

/** How far the gateway's clock is ahead of ours, if anybody knows. */
function skewNow_ms(at_ms: number): number | undefined {
  if (skew === undefined || at_ms - skew.at_ms > HEALTH_MS) {
    const { skew_ns, roundTrip_ns } = live?.stats() ?? { skew_ns: 0, roundTrip_ns: 0 };
    skew = { at_ms, ms: roundTrip_ns > 0 ? skew_ns / 1e6 : undefined };
  }
  return skew.ms;
}

/** Takes the latency of an event that nobody held back: quotes and books wait to be conflated. */
function late({ snapshot, replay, ingest_ns }: MarketEvent): void {
  if (snapshot === true || replay === true) return;
  const now_ms = performance.now();
  const skew_ms = skewNow_ms(now_ms);
  if (skew_ms !== undefined) recent.record(nowNs() + skew_ms * 1e6 - Number(ingest_ns), now_ms);
}

/** The gateway has said that this client does not keep up, or has left out something for it. */
function fallBehind(slow?: SlowEvent): void {
  slow_ms = performance.now();
  const delay_ms = Math.max(spell?.delay_ms ?? 0, slow?.delay_ms ?? 0);
  const isNew = spell === undefined;
  spell = { id: spell?.id ?? newId(), at_ms: spell?.at_ms ?? slow_ms, delay_ms };
  // That it is slowed down was told already.
  if (slow !== undefined) note("slow", `This client does not keep up: ${delay_ms} ms behind at the most, the gateway is about to ${slow.action}`, spell.id);
  else if (isNew && !isSlow) note("slow", "This client does not keep up: the gateway leaves out what may be left out", spell.id);
}

/** Ends a time in which the client did not keep up, when there was nothing of it for a while. */
function keepUp(now_ms: number): void {
  if (throughAt_ms !== undefined && now_ms >= throughAt_ms) {
    throughAt_ms = undefined;
    recent.clear();
  }
  if (spell === undefined || isSlow || now_ms - slow_ms < MERGE_MS) return;
  note("info", `This client keeps up again, after ${((slow_ms - spell.at_ms) / 1_000).toFixed(1)} s`);
  spell = undefined;
  recent.clear();
}

/** A feed of the gateway has another state. One that comes and goes, as slow ones do, is one notice. */
function feed({ name, state }: FeedEvent): void {
  const now_ms = performance.now();
  const before = feeds.get(name);
  if (state === "live" && before === undefined) return;
  const told = before !== undefined && now_ms - before.at_ms < FEED_MS ? before : { id: newId(), at_ms: 0, times: 0 };
  told.at_ms = now_ms;
  if (state !== "live") told.times++;
  feeds.set(name, told);
  const what = state === "live" ? "live again" : state === "down" ? "down: no broker answers it" : "stale: no record comes";
  note(state === "down" ? "error" : "info", `Feed ${name} of the gateway is ${what}${told.times > 1 ? ` (the ${told.times}. time)` : ""}`, told.id, true);
}

/** Another state of the connection: each is shown, and what was lost of it is told. */
function changed(event: StateEvent): void {
  attempt = event.attempt ?? 0;
  reason = event.reason;
  health_ms = 0;
  changes.push({ state: event.state, attempt });
  if (changes.length > CHANGES_MAX) changes.shift();
  const now_ms = performance.now();
  const gaps = live?.stats().gaps ?? 0;
  if (event.state === "live") {
    if (lost !== undefined) {
      const cost = lost.gaps === undefined ? "begun anew" : gaps === lost.gaps ? "without a gap" : `${gaps - lost.gaps} gaps`;
      note("info", `live again after ${((now_ms - lost.at_ms) / 1_000).toFixed(1)} s, ${cost}`);
    }
    wasLive = true;
    lost = undefined;
    // A first visit that has got no answer yet.
    if (directory.size === 0 && watched.length === 0) discover();
  } else if (wasLive && lost === undefined) {
    lost = { at_ms: now_ms, gaps };
    note("info", `${event.state}: ${reason ?? "the connection was lost"}`);
  }
}

function meet(symbol: string): void {
  if (!isDiscovering) return;
  const seen = directory.get(symbol);
  if (seen !== undefined) return void directory.set(symbol, seen + 1);
  if (directory.size >= DIRECTORY_MAX) return;
  directory.set(symbol, 1);
  isDirectoryNew = true;
  // Those of the others are behind it. Where no answer has come, its own will see to that.
  if (directory.size !== 1 || discoverTimer === undefined) return;
  looking = "begun";
  listen();
}

function gap(missing: Gap): void {
  const { channel, symbol, cause } = missing;
  // Of what is only listened for to learn its name nobody misses anything. It is counted all the same.
  if (isDiscovering && !wants.has(channel, symbol)) return;
  rows.gap(symbol, Date.now());
  if (cause === "slow_consumer") fallBehind();
  if (channel === "book") isLadderNew = true;
  const { id, text } = bursts.take(missing, performance.now());
  note("gap", text, id);
}

function newId(): number {
  return ++notesNumbered;
}

function note(kind: Notice["kind"], text: string, id?: number, isMoved = false): void {
  notices.add({ ...(id === undefined ? {} : { id, isMoved }), time_ms: Date.now(), kind, text });
}

function print({ event_ns, price, size, side }: Trade): void {
  const time_ms = Number(event_ns / 1_000_000n);
  const value = Number(price);
  if (value !== printed && !Number.isNaN(printed)) tick = value > printed ? 1 : -1;
  printed = value;
  prints.push(side !== undefined ? { time_ms, price, size, side } : tick !== undefined ? { time_ms, price, size, tick } : { time_ms, price, size });
  if (prints.length > PRINTS_MAX) {
    prints.shift();
    printsSkipped++;
  }
  candles.trade(time_ms / 1_000, value, Number(size));
  candlesSince_s = Math.min(candlesSince_s ?? Infinity, time_ms / 1_000);
  isLadderNew = true; // its mark of the last trade
}

/** The page has asked and waits: whatever happens, there is an answer. */
function answer(): void {
  frame_ms = performance.now();
  const frame: Frame = { rows: [], focus: focus ?? "", interval_s, prints, printsSkipped, changes, notices: notices.take(), looking };
  prints = [];
  printsSkipped = 0;
  changes = [];
  try {
    fill(frame, frame_ms);
    page.postMessage(frame);
    fault = "";
  } catch (error) {
    // All that it had to say is said again. The same fault is told once.
    rows.watch(watched);
    areCandlesNew = true;
    isLadderNew = true;
    isDirectoryNew = true;
    if (frame.isAnew) isAnew = true;
    if (frame.needsToken) needsToken = true;
    const isNew = fault !== String(error);
    fault = String(error);
    if (isNew) note("error", `The page failed to tell something: ${fault}`);
    const skipped = frame.printsSkipped + frame.prints.length;
    page.postMessage({ rows: [], focus: frame.focus, interval_s, prints: [], printsSkipped: skipped, changes: frame.changes, notices: [...frame.notices, ...notices.take()], looking });
  }
}

/** Puts in what has changed since the last answer. */
function fill(all: Frame, now_ms: number): void {
  const isAll = now_ms - rowsAll_ms >= ROWS_ALL_MS;
  if (isAll) rowsAll_ms = now_ms;
  all.rows = rows.take(isAll);
  if (isLadderNew && focus !== undefined && live !== undefined) {
    isLadderNew = false;
    const book = live.book(focus);
    const last = rows.get(focus)?.last;
    all.ladder = { isComplete: book.isComplete, bids: book.bids(20), asks: book.asks(20), ...(last === undefined ? {} : { last }) };
  }
  if (areCandlesNew) all.candles = { isAll: true, candles: candles.all(interval_s) };
  else if (candlesSince_s !== undefined) all.candles = { isAll: false, candles: candles.since(interval_s, candlesSince_s) };
  areCandlesNew = false;
  candlesSince_s = undefined;
  if (isDirectoryNew && !isDiscovering) {
    isDirectoryNew = false;
    // What is watched by its name is not brought by a pattern.
    const known = watched.filter((symbol) => (rows.get(symbol)?.changed_ms ?? 0) > 0);
    all.directory = [...new Set([...directory.keys(), ...known])].sort();
    // Of equally busy ones those of the first letters: what sorts is stable.
    all.busiest = [...all.directory].sort((a, b) => (directory.get(b) ?? 0) - (directory.get(a) ?? 0)).slice(0, FIRST_SYMBOLS);
  }
  if (isAnew) all.isAnew = true;
  isAnew = false;
  if (needsToken) all.needsToken = true;
  needsToken = false;
  if (now_ms - health_ms >= HEALTH_MS && live !== undefined) {
    health_ms = now_ms;
    all.health = health(live, now_ms);
  }
}

function health(client: Live, now_ms: number): Health {
  const stats = client.stats();
  const past_s = Math.max(0.001, (now_ms - before.at_ms) / 1_000);
  const events = stats.events - before.events;
  const conflated = stats.conflated - before.conflated;
  const { state } = stats;
  // A gateway that does not answer, or has not told yet, may have others than those of before.
  const known = stats.feedState === "unknown" || state === "stale" ? [] : stats.feeds;
  const latencies = recent.of(now_ms);
  const isDegraded = state === "live" && (now_ms - slow_ms < 5_000 || known.some((feed) => feed.state !== "live"));
  const told: Health = {
    state: isDegraded ? "degraded" : state,
    attempt,
    latencies: latencies.count,
    p50_ms: latencies.quantileNs(0.5) / 1e6,
    p99_ms: latencies.quantileNs(0.99) / 1e6,
    skew_ms: stats.skew_ns / 1e6,
    messages_s: (stats.messages - before.messages) / past_s,
    events_s: events / past_s,
    conflated: events + conflated === 0 ? 0 : conflated / (events + conflated),
    gaps: stats.gaps,
    duplicates: stats.duplicates,
    reconnects: stats.reconnects,
    queued_bytes: stats.gatewayQueued_bytes,
    feeds: known.map(({ name, state }) => ({ name, state })),
  };
  if (reason !== undefined) told.reason = reason;
  if (stats.session !== undefined) told.session = stats.session;
  // Over a second: what comes in bursts would jump.
  if (past_s >= 1) before = { at_ms: now_ms, messages: stats.messages, events: stats.events, conflated: stats.conflated };
  return told;
}
