"use strict";
// Asks Prometheus what a dashboard asks, and draws it. `BOARD`, `PROMETHEUS` and `RANGE` (seconds: from, to, step) are in data.js.

const CELL_LINES = 38;
const DRAW = { timeseries: drawLines, heatmap: drawHeat, "state-timeline": drawStates, stat: drawNumbers, bargauge: drawBars };

async function ask(path, query) {
  const response = await fetch(`${PROMETHEUS}/api/v1/${path}?${new URLSearchParams(query)}`);
  const { data, error } = await response.json();
  if (error) throw new Error(error);
  return data;
}

function filled(expr, values) {
  return Object.entries(values).reduce((text, [name, value]) => text.replaceAll(`$${name}`, value), expr);
}

async function variables() {
  const values = { __rate_interval: "5s", __range: `${Math.round(RANGE.to - RANGE.from)}s` };
  for (const { type, name, query } of BOARD.templating.list) {
    if (type !== "query") continue;
    const [, series, label] = query.query.match(/^label_values\((.*),\s*(\w+)\)$/);
    const found = await ask(`label/${label}/values`, { "match[]": filled(series, values) });
    values[name] = `(${found.map((one) => one.replace(/[^\w:-]/g, "\\\\$&")).join("|")})`;
  }
  return values;
}

async function seriesOf(target, values) {
  const query = filled(target.expr, values);
  const { result, resultType } = target.instant
    ? await ask("query", { query, time: RANGE.to })
    : await ask("query_range", { query, start: RANGE.from, end: RANGE.to, step: RANGE.step });
  const many = resultType === "scalar" ? [{ metric: {}, value: result }] : result;
  return many.map(({ metric, value, values: all }) => ({
    name: target.legendFormat.replace(/\{\{(\w+)\}\}/g, (_, label) => metric[label] || ""),
    points: (all || [value]).map(([time, text]) => [time, Number(text)]).filter(([, number]) => Number.isFinite(number)),
  })).filter(({ points }) => points.length > 0);
}

async function show(panel, values, column) {
  const { x, y, w, h } = panel.gridPos;
  const box = span(document.querySelector("main"), "section", "", {
    left: `${8 + x * column}px`, top: `${y * CELL_LINES}px`, width: `${w * column - 6}px`, height: `${h * CELL_LINES - 6}px`,
  });
  span(box, "h2", panel.title);
  const body = span(box, "div", "");
  body.className = "body";
  try {
    const series = (await Promise.all(panel.targets.map((target) => seriesOf(target, values)))).flat();
    if (series.length > 0) DRAW[panel.type](panel, body, series, RANGE);
    else span(body, "div", panel.fieldConfig.defaults.noValue || "No data").className = "none";
  } catch (error) {
    span(body, "div", String(error)).className = "none";
  }
}

async function main() {
  document.querySelector("h1").textContent = BOARD.title;
  document.querySelector(".when").textContent = `${Math.round(RANGE.to - RANGE.from)} s until ${new Date(RANGE.to * 1000).toISOString().slice(0, 19)}Z`;
  const values = await variables();
  const column = (document.body.clientWidth - 10) / 24;
  await Promise.all(BOARD.panels.map((panel) => show(panel, values, column)));
  document.title = "drawn";
}

main();
