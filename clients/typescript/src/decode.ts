/** Messages of the gateway, read and checked: texts go in, values come out. */

import type { Control } from "./control.js";
import { isDecimal } from "./decimal.js";
import type { Gap, MarketEvent } from "./events.js";
import { isPosition } from "./position.js";

/** What a text message holds. */
export type Message =
  | { kind: "events"; events: (MarketEvent | Gap)[] }
  | { kind: "control"; control: Control };

/** Why a message cannot be taken. Nothing of it is. */
export class BadFrame extends Error {
  override readonly name = "BadFrame";
  /** The symbol of the event that is wrong, where it has one. */
  readonly symbol?: string;

  constructor(message: string, symbol?: unknown) {
    super(message);
    if (typeof symbol === "string") this.symbol = symbol;
  }
}

/** An object of which nothing is known yet. */
type Raw = Record<string, unknown>;

/**
 * Reads a text message: `[` begins data events, `{` a control message. Times become `bigint`, everything else stays as it came.
 *
 * @throws {@link BadFrame} for what is not of this protocol.
 */
export function decode(text: string): Message {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new BadFrame(`no JSON: ${excerpt(text)}`);
  }
  if (Array.isArray(value)) {
    for (let at = 0; at < value.length; at++) checkEvent(value[at]);
    return { kind: "events", events: value as (MarketEvent | Gap)[] };
  }
  if (!isObject(value)) throw new BadFrame(`neither an object nor an array: ${excerpt(text)}`);
  checkControl(value);
  return { kind: "control", control: value as unknown as Control };
}

function isObject(value: unknown): value is Raw {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function excerpt(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
}

/** A value that should have been a text. `String` calls a `toString` that came with it. */
function shown(value: unknown): string {
  return excerpt(typeof value === "string" ? value : (JSON.stringify(value) ?? "none"));
}

/** Checks an event and gives it its times. */
function checkEvent(event: unknown): void {
  if (!isObject(event)) throw new BadFrame("an element is no event");
  const { type, symbol } = event;
  if (typeof symbol !== "string" || symbol === "") throw new BadFrame(`an event of type ${shown(type)} without a symbol`);
  switch (type) {
    case "trade":
      if (!isDecimal(event.price) || !isDecimal(event.size)) wrong(event, "price or size");
      if (event.side !== undefined && event.side !== "buy" && event.side !== "sell") wrong(event, "side");
      if (!isOptionalText(event.trade_id) || !isOptionalText(event.venue) || !isOptionalText(event.conditions)) {
        wrong(event, "text");
      }
      break;
    case "quote":
      if (!isDecimal(event.bid_price) || !isDecimal(event.bid_size)) wrong(event, "bid");
      if (!isDecimal(event.ask_price) || !isDecimal(event.ask_size)) wrong(event, "ask");
      if (!isOptionalText(event.venue)) wrong(event, "venue");
      break;
    case "book":
      if (!areLevels(event.bids) || !areLevels(event.asks)) wrong(event, "levels");
      break;
    case "status":
      if (typeof event.state !== "string" || !isOptionalText(event.reason)) wrong(event, "state or reason");
      break;
    case "gap":
      return checkGap(event);
    default:
      throw new BadFrame(`unknown type ${shown(type)}`, symbol);
  }
  if (!isPosition(event.seq)) wrong(event, "seq");
  if (event.prev !== undefined && !isPosition(event.prev)) wrong(event, "prev");
  event.event_ns = time(event, event.event_ns);
  event.ingest_ns = time(event, event.ingest_ns);
  if (event.send_ns !== undefined) event.send_ns = time(event, event.send_ns);
  if (event.merged !== undefined && !isCount(event.merged)) wrong(event, "merged");
  if (event.snapshot !== undefined && typeof event.snapshot !== "boolean") wrong(event, "snapshot");
  if (event.replay !== undefined && typeof event.replay !== "boolean") wrong(event, "replay");
}

function checkGap(gap: Raw): void {
  if (!isChannel(gap.channel) || typeof gap.cause !== "string") wrong(gap, "channel or cause");
  if (gap.after !== undefined && !isPosition(gap.after)) wrong(gap, "after");
  if (gap.upto !== undefined && !isPosition(gap.upto)) wrong(gap, "upto");
  if (gap.count !== undefined && !isCount(gap.count)) wrong(gap, "count");
}

function wrong(event: Raw, what: string): never {
  throw new BadFrame(`${String(event.type)} of ${String(event.symbol)}: ${what} cannot be read`, event.symbol);
}

function isOptionalText(value: unknown): boolean {
  return value === undefined || typeof value === "string";
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

function isChannel(value: unknown): boolean {
  return value === "trades" || value === "quotes" || value === "book" || value === "status";
}

function areLevels(levels: unknown): boolean {
  if (!Array.isArray(levels)) return false;
  for (let at = 0; at < levels.length; at++) {
    const level: unknown = levels[at];
    if (!Array.isArray(level) || level.length !== 2 || !isDecimal(level[0]) || !isDecimal(level[1])) return false;
  }
  return true;
}

const TIME = /^-?\d{1,19}$/;

function time(event: Raw, text: unknown): bigint {
  if (typeof text !== "string" || !TIME.test(text)) wrong(event, "time");
  return BigInt(text);
}

/** What fields a control message must have, and of which kind. */
const CONTROL: Record<string, Record<string, (value: unknown) => boolean>> = {
  hello: { session: isText, now_ns: isTime, heartbeat_ms: isCount, auth: isText, limits: isObject },
  ack: { ok: isFlag, results: (value) => value === undefined || areResults(value) },
  error: { code: isText, message: isText, fatal: isFlag, cursor: isOptionalText },
  heartbeat: { now_ns: isTime, cursor: isText, feeds: areFeeds },
  slow: { delay_ms: isCount, queued_bytes: isCount, limit_bytes: isCount, action: isText },
  replay_done: { channel: isChannel, symbol: isText, seq: (value) => value === undefined || value === null || isPosition(value) },
  goaway: { reason: isText, close_in_ms: isCount, cursor: isText },
  pong: { now_ns: isTime },
  list: { subscriptions: Array.isArray },
};

function checkControl(control: Raw): void {
  const { op } = control;
  const fields = typeof op === "string" && Object.hasOwn(CONTROL, op) ? CONTROL[op] : undefined;
  if (fields === undefined) throw new BadFrame(`unknown op ${JSON.stringify(op)}`);
  for (const [name, isRight] of Object.entries(fields)) {
    if (!isRight(control[name])) throw new BadFrame(`${String(op)}: ${name} cannot be read`);
  }
}

function isText(value: unknown): boolean {
  return typeof value === "string";
}

function isFlag(value: unknown): boolean {
  return typeof value === "boolean";
}

function isTime(value: unknown): boolean {
  return typeof value === "string" && TIME.test(value);
}

function areResults(value: unknown): boolean {
  return (
    Array.isArray(value) &&
    value.every((result) => isObject(result) && isText(result.channel) && isText(result.symbol) && isFlag(result.ok))
  );
}

function areFeeds(value: unknown): boolean {
  const isFeed = (feed: unknown): boolean =>
    isObject(feed) && isText(feed.name) && isText(feed.state) && (feed.event_ns === undefined || isTime(feed.event_ns));
  return Array.isArray(value) && value.every(isFeed);
}
