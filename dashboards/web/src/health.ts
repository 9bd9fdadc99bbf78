/** How the connection is doing: state, latency, rates, notices, and the last two minutes as lines. */

import { effect } from "@preact/signals-core";
import uPlot from "uplot";
import { announce, byId, clock, count, make, ms, setText } from "./dom.js";
import { feedHint, silent } from "./hint.js";
import type { Change, Health, Notice } from "./messages.js";
import * as state from "./state.js";

const POINTS_MAX = 120;
const NOTICES_MAX = 50;
const PLOT_PX = 104;
const COLORS = { dark: { text: "#b7c2d0", line: "#232c39", a: "#7cc4ff", b: "#ffb86b" }, light: { text: "#3d4854", line: "#dfe4ea", a: "#0b5cad", b: "#8a4b00" } };

/** In these nothing comes of what the page shows. */
const OLD = new Set<Health["state"]>(["stale", "reconnecting", "closed"]);

export class HealthPanel {
  readonly #badge = byId("state");
  readonly #latency = byId("latency");
  readonly #rates = byId("rates");
  readonly #details = byId("details");
  readonly #notices = byId("notices");
  /** Notices that may still change, by their number. */
  readonly #numbered = new Map<number, HTMLElement>();
  readonly #plots: { plot: uPlot; holder: HTMLElement }[] = [];
  readonly #times: number[] = [];
  readonly #series: [number[], (number | null)[], (number | null)[]] = [[], [], []];
  #point_s = 0;
  #isPlotDirty = false;
  #lastState = "";

  constructor() {
    effect(() => {
      const theme = state.theme();
      for (const { plot } of this.#plots.splice(0)) plot.destroy();
      this.#plots.push(this.#makePlot("plot-rate", theme, [["events/s", COLORS[theme].a]]));
      this.#plots.push(this.#makePlot("plot-latency", theme, [["p50 ms", COLORS[theme].a], ["p99 ms", COLORS[theme].b]]));
      this.#isPlotDirty = true;
    });
    effect(() => {
      document.body.classList.toggle("old", state.feedsDown.value !== "" || OLD.has(state.connection.value));
    });
    effect(() => {
      const hint = feedHint({ down: state.feedsDown.value, stale: state.feedsStale.value });
      setText(byId("feed-hint"), hint);
      byId("feed-hint").hidden = hint === "";
    });
  }

  change(change: Change): void {
    state.connection.value = change.state;
    const text = change.state === "reconnecting" ? `reconnecting ${change.attempt}` : change.state;
    if (text === this.#lastState) return;
    this.#lastState = text;
    setText(this.#badge, text);
    this.#badge.dataset.state = change.state;
    announce(`Connection ${text}`);
  }

  take(health: Health): void {
    this.change(health);
    const { down, stale } = silent(health.feeds);
    state.feedsDown.value = down;
    state.feedsStale.value = stale;
    const reason = health.reason ?? "";
    if (this.#badge.title !== reason) this.#badge.title = reason;
    const isLive = health.state === "live" || health.state === "degraded";
    const latency = health.latencies === 0 ? "latency –" : `p50 ${ms(health.p50_ms)} · p99 ${ms(health.p99_ms)}`;
    setText(this.#latency, isLive ? `${latency} · skew ${ms(health.skew_ms)}` : "latency –");
    setText(this.#rates, `${count(health.messages_s)} messages/s · ${(health.conflated * 100).toFixed(1)}% conflated`);
    const feeds = health.feeds.map(({ name, state }) => `${name} ${state}`).join(", ");
    setText(this.#details, `${health.gaps} gaps · ${health.duplicates} came twice · ${health.reconnects} reconnects · ${count(health.events_s)} events/s · feeds: ${feeds === "" ? "not known" : feeds}`);
    const now_s = Math.floor(Date.now() / 1_000);
    if (now_s === this.#point_s) return;
    this.#point_s = now_s;
    this.#times.push(now_s);
    const [events, p50, p99] = this.#series;
    events.push(health.events_s);
    // Nothing came that would tell a latency: the line has a hole.
    p50.push(health.latencies === 0 ? null : health.p50_ms);
    p99.push(health.latencies === 0 ? null : health.p99_ms);
    for (const list of [this.#times, ...this.#series]) if (list.length > POINTS_MAX) list.shift();
    this.#isPlotDirty = true;
  }

  notice({ id, isMoved = false, time_ms, kind, text }: Notice): void {
    const told = id === undefined ? undefined : this.#numbered.get(id);
    const item = told ?? this.#makeNotice(id);
    if (item.className !== kind) item.className = kind;
    setText(item.lastElementChild as HTMLElement, text);
    if (told !== undefined && !isMoved) return;
    setText(item.firstElementChild as HTMLElement, clock(time_ms).slice(0, 8));
    this.#notices.prepend(item);
    while (this.#notices.children.length > NOTICES_MAX) {
      const oldest = this.#notices.lastElementChild as HTMLElement;
      this.#numbered.delete(Number(oldest.dataset.id));
      oldest.remove();
    }
    byId("no-notices").hidden = true;
  }

  paint(): void {
    if (!this.#isPlotDirty || !state.panels.value.includes("health")) return;
    this.#isPlotDirty = false;
    const [events, p50, p99] = this.#series;
    const data: uPlot.AlignedData[] = [[this.#times, events], [this.#times, p50, p99]];
    this.#plots.forEach(({ plot, holder }, at) => {
      if (holder.clientWidth > 0 && plot.width !== holder.clientWidth) plot.setSize({ width: holder.clientWidth, height: PLOT_PX });
      plot.setData(data[at] as uPlot.AlignedData);
    });
  }

  #makeNotice(id: number | undefined): HTMLElement {
    const item = make("li");
    item.append(make("time"), " ", make("span"));
    if (id !== undefined) {
      item.dataset.id = String(id);
      this.#numbered.set(id, item);
    }
    return item;
  }

  #makePlot(id: string, theme: "dark" | "light", series: [string, string][]): { plot: uPlot; holder: HTMLElement } {
    const holder = byId(id);
    const { text, line } = COLORS[theme];
    const axis: uPlot.Axis = { stroke: text, font: "10px system-ui", grid: { stroke: line, width: 1 }, ticks: { show: false }, size: 42 };
    const options: uPlot.Options = {
      width: Math.max(120, holder.clientWidth),
      height: PLOT_PX,
      legend: { show: false },
      cursor: { show: false },
      axes: [{ ...axis, size: 20, space: 70, values: (_, all) => all.map((time_s) => clock(time_s * 1_000).slice(0, 8)) }, { ...axis, space: 22 }],
      scales: { y: { range: (_, __, most) => [0, Math.max(1, most * 1.1)] } },
      series: [{}, ...series.map(([label, stroke]) => ({ label, stroke, width: 1.5, points: { show: false } }))],
    };
    return { plot: new uPlot(options, [[], ...series.map(() => [])] as unknown as uPlot.AlignedData, holder), holder };
  }
}
