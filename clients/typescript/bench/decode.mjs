/**
 * Events a second that a client takes on one core: read, checked by the client's rule, and handed out. Prints the median and the
 * range of several runs, in processor time.
 *
 *     npm run bench
 */

import { decode } from "../dist/index.js";
import { Held } from "../dist/held.js";
import { Streams } from "../dist/streams.js";

const RUNS = 9;
const EVENTS = 400_000;
const HELD = new Held();
const OWNER = { handOut() {}, bookBroke() {}, bookIsWhole() {}, isLive() {}, booksFull() {} };

/** @param {"trade" | "quote"} type @param {number} perFrame */
function frames(type, perFrame) {
  const body = { trade: { price: "487.50", size: "100", side: "buy", trade_id: "77", venue: "Q" }, quote: { bid_price: "487.50", bid_size: "300", ask_price: "487.55", ask_size: "100" } }[type];
  const last = new Map();
  return Array.from({ length: EVENTS / perFrame }, (_, frame) =>
    JSON.stringify(
      Array.from({ length: perFrame }, (_, at) => {
        const n = frame * perFrame + at;
        const symbol = `S${n % 500}`;
        const prev = last.get(symbol);
        const seq = `1f3a:3:${88_000 + n}`;
        last.set(symbol, seq);
        return { type, symbol, ...body, seq, event_ns: `${1_381_150_800_000_000_000n + BigInt(n)}`, ingest_ns: `${1_381_150_800_000_250_000n + BigInt(n)}`, prev };
      }),
    ),
  );
}

/** @param {string} what @param {string[]} texts @param {(text: string) => void} each */
function measure(what, texts, each) {
  const rates = [];
  for (let run = 0; run < RUNS; run++) {
    const began = process.cpuUsage();
    for (const text of texts) each(text);
    const { user, system } = process.cpuUsage(began);
    rates.push(EVENTS / (user + system)); // millions a second
  }
  rates.sort((a, b) => a - b);
  const [least, median, most] = [rates[0], rates[RUNS >> 1], rates[RUNS - 1]].map((rate) => Math.round(Number(rate) * 1_000));
  console.log(`${what.padEnd(44)} ${median} k events/s (${least} to ${most})`);
}

for (const type of /** @type {const} */ (["trade", "quote"])) {
  for (const perFrame of [1, 50]) {
    const texts = frames(type, perFrame);
    measure(`${type}, ${perFrame} a frame: JSON.parse alone`, texts, (text) => JSON.parse(text));
    measure(`${type}, ${perFrame} a frame: read and checked`, texts, (text) => decode(text));
    let streams = new Streams(OWNER, HELD, 0);
    let turn = 0;
    measure(`${type}, ${perFrame} a frame: by the client's rule too`, texts, (text) => {
      if (turn++ % texts.length === 0) streams = new Streams(OWNER, HELD, 0);
      const message = decode(text);
      if (message.kind === "events") streams.frame(message.events, text.length);
    });
  }
}
