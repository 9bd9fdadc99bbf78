/** Candles with volume. */

import { effect } from "@preact/signals-core";
import { CandlestickSeries, createChart, HistogramSeries, type IChartApi, type ISeriesApi, type UTCTimestamp } from "lightweight-charts";
import { INTERVALS_S } from "./candles.js";
import { byId, make } from "./dom.js";
import type { Candle } from "./messages.js";
import * as state from "./state.js";

const COLORS = {
  dark: { text: "#b7c2d0", line: "#232c39", up: "#4cc38a", down: "#ff8a8a" },
  light: { text: "#3d4854", line: "#dfe4ea", up: "#11703f", down: "#b3261e" },
};

/** Candles of a chart, and how many more there may be before the oldest go: those of more time are the longer ones. */
const CANDLES_MAX = 900;
const CANDLES_MORE = 100;

export function nameOf(interval_s: number): string {
  return interval_s < 60 ? `${interval_s} s` : interval_s < 3_600 ? `${interval_s / 60} min` : `${interval_s / 3_600} h`;
}

export class Chart {
  readonly #holder = byId("candles");
  readonly #chart: IChartApi;
  readonly #candles: ISeriesApi<"Candlestick">;
  readonly #volume: ISeriesApi<"Histogram">;
  /** Where the newest candle begins: older ones can only be changed with all. */
  #newest_s = 0;
  #pending: { isAll: boolean; candles: Map<number, Candle> } = { isAll: true, candles: new Map() };
  #all = new Map<number, Candle>();
  #digits = 2;
  #isDirty = false;
  #isEmpty = true;

  constructor() {
    const holder = this.#holder;
    this.#chart = createChart(holder, {
      autoSize: true,
      // Its own mark comes with styles in the page, which the policy forbids: ours stands below the chart.
      layout: { attributionLogo: false, fontSize: 11 },
      timeScale: { timeVisible: true, secondsVisible: true, rightOffset: 3 },
      rightPriceScale: { borderVisible: false, visible: false },
    });
    this.#candles = this.#chart.addSeries(CandlestickSeries, { borderVisible: false });
    this.#volume = this.#chart.addSeries(HistogramSeries, { priceFormat: { type: "volume" }, priceScaleId: "volume", lastValueVisible: false, priceLineVisible: false });
    this.#chart.priceScale("volume").applyOptions({ scaleMargins: { top: 0.8, bottom: 0 } });
    this.#candles.priceScale().applyOptions({ scaleMargins: { top: 0.08, bottom: 0.25 } });
    effect(() => this.#dress(COLORS[state.theme()]));
    const intervals = byId("intervals");
    for (const seconds of INTERVALS_S) {
      const button = make("button", "", { type: "button", "data-interval": String(seconds) });
      button.textContent = nameOf(seconds);
      button.addEventListener("click", () => (state.interval_s.value = seconds));
      intervals.append(button);
    }
    effect(() => {
      for (const button of intervals.children) button.setAttribute("aria-pressed", String(Number((button as HTMLElement).dataset.interval) === state.interval_s.value));
    });
  }

  /** Another symbol, or other candles. */
  clear(): void {
    this.#pending = { isAll: true, candles: new Map() };
    this.#all.clear();
    this.#isDirty = true;
  }

  /** Prices have so many digits after the point. */
  digits(price: string): void {
    const point = price.indexOf(".");
    const digits = Math.min(8, point < 0 ? 0 : price.length - point - 1);
    if (digits === this.#digits) return;
    this.#digits = digits;
    this.#candles.applyOptions({ priceFormat: { type: "price", precision: digits, minMove: 10 ** -digits } });
  }

  take({ isAll, candles }: { isAll: boolean; candles: readonly Candle[] }): void {
    if (isAll) this.#pending = { isAll: true, candles: new Map() };
    for (const candle of candles) this.#pending.candles.set(candle.time_s, candle);
    this.#isDirty = true;
  }

  paint(): void {
    if (!this.#isDirty || !state.panels.value.includes("chart")) return;
    this.#isDirty = false;
    const { isAll, candles } = this.#pending;
    this.#pending = { isAll: false, candles: new Map() };
    if (isAll) this.#all = candles;
    else for (const [time_s, candle] of candles) this.#all.set(time_s, candle);
    const isFull = this.#all.size > CANDLES_MAX + CANDLES_MORE;
    if (isFull) this.#all = new Map([...this.#all].sort(([a], [b]) => a - b).slice(-CANDLES_MAX));
    const changed = [...candles.values()].sort((a, b) => a.time_s - b.time_s);
    const colors = COLORS[state.theme()];
    if (isAll || isFull || changed.some(({ time_s }) => time_s < this.#newest_s)) {
      const all = [...this.#all.values()].sort((a, b) => a.time_s - b.time_s);
      this.#candles.setData(all.map(bar));
      this.#volume.setData(all.map((candle) => volume(candle, colors)));
      this.#newest_s = all.at(-1)?.time_s ?? 0;
      this.#isEmpty = all.length === 0;
    } else {
      for (const candle of changed) {
        this.#candles.update(bar(candle));
        this.#volume.update(volume(candle, colors));
        this.#newest_s = candle.time_s;
        this.#isEmpty = false;
      }
    }
    if (byId("no-candles").hidden === this.#isEmpty) {
      byId("no-candles").hidden = !this.#isEmpty;
      // Its prices would be those of the symbol before.
      this.#chart.applyOptions({ rightPriceScale: { visible: !this.#isEmpty } });
    }
    // A picture says nothing to who cannot see it.
    this.#holder.dataset.count = String(this.#all.size);
    const label = `Candles of ${nameOf(state.interval_s.value)} and volume of ${state.focus.value}: ${this.#all.size}`;
    if (this.#holder.ariaLabel !== label) this.#holder.ariaLabel = label;
  }

  #dress({ text, line, up, down }: (typeof COLORS)["dark"]): void {
    this.#chart.applyOptions({ layout: { background: { color: "transparent" }, textColor: text }, grid: { vertLines: { color: line }, horzLines: { color: line } }, timeScale: { borderColor: line } });
    this.#candles.applyOptions({ upColor: up, downColor: down, wickUpColor: up, wickDownColor: down });
    if (this.#all.size > 0) this.#pending = { isAll: true, candles: new Map(this.#all) };
    this.#isDirty = true;
  }
}

function bar({ time_s, open, high, low, close }: Candle): { time: UTCTimestamp; open: number; high: number; low: number; close: number } {
  return { time: time_s as UTCTimestamp, open, high, low, close };
}

function volume({ time_s, open, close, volume }: Candle, { up, down }: { up: string; down: string }): { time: UTCTimestamp; value: number; color: string } {
  return { time: time_s as UTCTimestamp, value: volume, color: `${close >= open ? up : down}80` };
}
