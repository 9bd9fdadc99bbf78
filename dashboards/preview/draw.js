"use strict";
// Panels on canvases. A series is { name, points: [[seconds, value]] }.

function canvas(body, right = 0, bottom = 0) {
  const element = document.createElement("canvas");
  const [width, height] = [body.clientWidth - right, body.clientHeight - bottom];
  const ratio = window.devicePixelRatio;
  [element.width, element.height] = [width * ratio, height * ratio];
  [element.style.width, element.style.height] = [`${width}px`, `${height}px`];
  body.append(element);
  const context = element.getContext("2d");
  context.scale(ratio, ratio);
  context.font = "10px DejaVu Sans, Liberation Sans, sans-serif";
  return { context, width, height };
}

function span(parent, tag, text, style = {}) {
  const element = document.createElement(tag);
  element.textContent = text;
  Object.assign(element.style, style);
  parent.append(element);
  return element;
}

function legend(body, series, colors, defaults, options) {
  const isRight = options.displayMode === "table";
  const box = span(body, "div", "");
  box.className = `legend ${isRight ? "right" : "bottom"}`;
  const most = (one) => Math.max(...one.points.map(([, value]) => value));
  const order = series.map((_, index) => index);
  if (isRight) order.sort((a, b) => most(series[b]) - most(series[a]));
  for (const index of order) {
    const line = span(box, isRight ? "div" : "span", "");
    span(line, "i", "", { background: colors[index] });
    span(line, "span", series[index].name, { overflow: "hidden", textOverflow: "ellipsis" });
    if (isRight) span(line, "b", shown(most(series[index]), defaults.unit));
  }
  return isRight ? { right: box.offsetWidth + 4, bottom: 0 } : { right: 0, bottom: 18 };
}

/// Round steps of an axis from 0 to `top`, or powers of ten.
function ticks(low, top, isLog) {
  if (isLog) {
    const all = [];
    for (let power = Math.ceil(Math.log10(low)); 10 ** power <= top * 1.0001; power += 1) all.push(10 ** power);
    return all.length > 5 ? all.filter((_, index) => index % 2 === 0) : all;
  }
  const rough = (top - low) / 4 || 1;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * unit).find((n) => n >= rough);
  const all = [];
  for (let at = Math.ceil(low / step) * step; at <= top + step / 1e6; at += step) all.push(Number(at.toPrecision(6)));
  return all;
}

function frame({ context, width, height }, range, labels, y) {
  const area = { left: 52, top: 6, right: width - 8, bottom: height - 16 };
  area.x = (time) => area.left + ((time - range.from) / (range.to - range.from)) * (area.right - area.left);
  context.strokeStyle = "#26292f";
  context.fillStyle = "#8e8e99";
  context.textAlign = "right";
  for (const [value, text] of labels) {
    const at = y(value, area);
    context.beginPath();
    context.moveTo(area.left, at);
    context.lineTo(area.right, at);
    context.stroke();
    context.fillText(text, area.left - 4, at + 3);
  }
  context.textAlign = "center";
  const times = Math.max(Math.min(Math.floor((area.right - area.left) / 75), 6), 1);
  for (let part = 0; part < times; part += 1) {
    const time = range.from + ((part + 0.5) / times) * (range.to - range.from);
    context.fillText(new Date(time * 1000).toISOString().slice(11, 19), area.x(time), height - 4);
  }
  return area;
}

function drawLines(panel, body, series, range) {
  const { defaults } = panel.fieldConfig;
  const custom = defaults.custom || {};
  const isLog = (custom.scaleDistribution || {}).type === "log";
  const colors = series.map((_, index) => PALETTE[index % PALETTE.length]);
  const taken = legend(body, series, colors, defaults, panel.options.legend);
  const area0 = canvas(body, taken.right, taken.bottom);
  const isStacked = (custom.stacking || {}).mode === "normal";
  const below = new Map();
  const drawn = series.map(({ points }) => points.map(([time, value]) => {
    const from = isStacked ? below.get(time) || 0 : 0;
    below.set(time, from + value);
    return [time, from + value, from];
  }));
  const values = drawn.flat().map(([, value]) => value).filter((value) => !isLog || value > 0);
  if (values.length === 0) values.push(0.1, 1);
  const low = isLog ? 10 ** Math.floor(Math.log10(Math.min(...values))) : 0;
  const limits = custom.thresholdsStyle ? defaults.thresholds.steps.filter((step) => step.value !== null) : [];
  const top = Math.max(...values, custom.axisSoftMax || 0) * (isLog ? 1.5 : 1.08) || 1;
  const y = (value, area) => {
    const part = isLog ? Math.log(Math.max(value, low) / low) / Math.log(top / low) : (value - low) / (top - low);
    return area.bottom - part * (area.bottom - area.top);
  };
  const labels = ticks(low, top, isLog).map((value) => [value, shown(value, defaults.unit)]);
  const { context } = area0;
  const area = frame(area0, range, labels, y);
  context.save();
  context.beginPath();
  context.rect(area.left, area.top, area.right - area.left, area.bottom - area.top + 1);
  context.clip();
  for (const step of limits) {
    context.strokeStyle = color(step.color);
    context.setLineDash([5, 4]);
    context.beginPath();
    context.moveTo(area.left, y(step.value, area));
    context.lineTo(area.right, y(step.value, area));
    context.stroke();
    context.setLineDash([]);
  }
  drawn.forEach((points, index) => {
    const runs = [];
    points.forEach((point, at) => {
      if (at === 0 || point[0] - points[at - 1][0] > range.step * 1.5) runs.push([]);
      runs[runs.length - 1].push(point);
    });
    for (const run of runs) {
      context.strokeStyle = colors[index];
      context.fillStyle = colors[index];
      context.lineWidth = 1.2;
      context.beginPath();
      run.forEach(([time, value]) => context.lineTo(area.x(time), y(value, area)));
      context.stroke();
      [...run].reverse().forEach(([time, , from]) => context.lineTo(area.x(time), y(isLog ? low : from, area)));
      context.globalAlpha = (custom.fillOpacity || 0) / 100;
      context.fill();
      context.globalAlpha = 1;
    }
  });
  context.restore();
}

function drawHeat(panel, body, series, range) {
  const { unit } = panel.fieldConfig.defaults;
  const edges = series.map((one) => ({ le: one.name === "+Inf" ? Infinity : Number(one.name), points: new Map(one.points) }));
  edges.sort((a, b) => a.le - b.le);
  const box = canvas(body);
  const row = (area) => (area.bottom - area.top) / edges.length;
  const y = (index, area) => area.bottom - (index + 1) * row(area);
  const every = Math.ceil(edges.length / 7);
  const labels = edges.map((edge, index) => [index, edge.le === Infinity ? "∞" : shown(edge.le, unit)]).filter((_, index) => index % every === 0);
  const area = frame(box, range, labels, y);
  const cells = [];
  edges.forEach((edge, index) => {
    for (const [time, value] of edge.points) {
      const own = value - (index > 0 ? edges[index - 1].points.get(time) || 0 : 0);
      if (own > 1e-9) cells.push([time, index, own]);
    }
  });
  const most = Math.max(...cells.map(([, , own]) => own), 1e-9);
  const width = area.x(range.from + range.step) - area.x(range.from);
  for (const [time, index, own] of cells) {
    const part = (own / most) ** 0.35;
    box.context.fillStyle = `hsl(${260 - 250 * part} 85% ${35 + 20 * part}%)`;
    const from = Math.max(area.x(time) - width, area.left);
    box.context.fillRect(from, y(index, area) + 0.5, area.x(time) - from - 0.5, row(area) - 1);
  }
}

function drawStates(panel, body, series, range) {
  const { defaults } = panel.fieldConfig;
  const box = canvas(body);
  const area = frame(box, range, series.map((one, index) => [index, one.name]), (index, { top, bottom }) => top + ((index + 0.5) / series.length) * (bottom - top));
  const height = ((area.bottom - area.top) / series.length) * 0.85;
  series.forEach(({ points }, index) => {
    const top = area.top + (index / series.length) * (area.bottom - area.top) + height * 0.09;
    let run = null;
    const end = (time) => {
      if (!run) return;
      box.context.fillStyle = color(run.what.color);
      const [from, to] = [area.x(run.from), area.x(time)];
      box.context.fillRect(from, top, Math.max(to - from, 1), height);
      box.context.fillStyle = "#111217";
      if (to - from > 44) box.context.fillText(run.what.text, (from + to) / 2, top + height / 2 + 3);
    };
    for (const [time, value] of points) {
      const what = named(value, defaults);
      if (!run || run.what.text !== what.text) {
        end(time);
        run = { what, from: time };
      }
    }
    if (points.length > 0) end(points[points.length - 1][0]);
  });
}

function drawNumbers(panel, body, series) {
  const { defaults } = panel.fieldConfig;
  const { colorMode, graphMode, textMode } = panel.options;
  const isFilled = colorMode.startsWith("background");
  series.forEach((one, index) => {
    const value = one.points[one.points.length - 1][1];
    const what = named(value, defaults);
    const box = span(body, "div", "", {
      position: "absolute", left: `${(index / series.length) * 100}%`, width: `${100 / series.length}%`, top: 0, bottom: 0,
      background: isFilled ? color(what.color) : "", color: isFilled ? "#111217" : color(what.color), textAlign: "center", overflow: "hidden",
    });
    const text = textMode === "name" ? one.name : what.text;
    const size = Math.min(30, Math.floor((box.clientWidth * 1.5) / Math.max(text.length, 4)), box.clientHeight * 0.42);
    span(box, "div", text, { fontSize: `${size}px`, fontWeight: "bold", marginTop: `${box.clientHeight * 0.2}px`, whiteSpace: "nowrap" });
    if (series.length > 1 && textMode !== "name") span(box, "div", one.name, { fontSize: "10px" });
    if (graphMode === "area" && one.points.length > 1) {
      const { context, width, height } = canvas(box);
      const values = one.points.map(([, each]) => each);
      const [low, top] = [Math.min(...values), Math.max(...values)];
      context.fillStyle = isFilled ? "#00000030" : `${color(what.color)}40`;
      context.beginPath();
      context.moveTo(0, height);
      values.forEach((each, at) => context.lineTo((at / (values.length - 1)) * width, height - 2 - ((each - low) / (top - low || 1)) * height * 0.25));
      context.lineTo(width, height);
      context.fill();
    }
  });
}

function drawBars(panel, body, series) {
  const { defaults } = panel.fieldConfig;
  const box = canvas(body);
  const height = (box.height - 6) / series.length;
  series.forEach((one, index) => {
    const value = one.points[one.points.length - 1][1];
    const what = named(value, defaults);
    const [top, left, right] = [index * height + 2, 120, box.width - 56];
    const part = Math.min(value / (defaults.max || 1), 1);
    box.context.fillStyle = "#26292f";
    box.context.fillRect(left, top, right - left, height - 4);
    box.context.fillStyle = color(what.color);
    box.context.fillRect(left, top, Math.max((right - left) * part, 1), height - 4);
    box.context.textAlign = "right";
    box.context.fillText(what.text, box.width - 6, top + height / 2 + 2);
    box.context.fillStyle = "#b4b4c0";
    box.context.fillText(one.name, left - 6, top + height / 2 + 2);
  });
}
