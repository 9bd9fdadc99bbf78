"use strict";
// Numbers with their units, and colours by threshold, about as Grafana writes them.

const PALETTE = ["#73BF69", "#F2CC0C", "#8AB8FF", "#FF780A", "#F2495C", "#5794F2", "#B877D9", "#705DA0", "#37872D", "#FADE2A",
  "#447EBC", "#C15C17", "#890F02", "#0A437C", "#6D1F62", "#584477"];
const COLORS = { green: "#73BF69", orange: "#FF9830", red: "#F2495C", blue: "#5794F2", transparent: "transparent" };

const color = (name) => COLORS[name] || name;

function scaled(value, base, units, digits) {
  let index = 0;
  while (Math.abs(value) >= base && index < units.length - 1) {
    value /= base;
    index += 1;
  }
  const places = digits ?? (value === 0 || Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2);
  return `${Number(value.toFixed(places))}${units[index]}`;
}

function seconds(value) {
  const size = Math.abs(value);
  if (size === 0) return "0 s";
  for (const [unit, length] of [["d", 86400], ["h", 3600], ["min", 60], ["s", 1], ["ms", 1e-3], ["µs", 1e-6], ["ns", 1e-9]]) {
    if (size >= length || unit === "ns") {
      const part = value / length;
      return `${Number(part.toFixed(Math.abs(part) >= 100 ? 0 : Math.abs(part) >= 10 ? 1 : 2))} ${unit}`;
    }
  }
}

const RATES = { eps: "evt/s", recps: "rec/s", wps: "wr/s", reqps: "req/s" };

function shown(value, unit, decimals) {
  if (unit === "s" || unit === "dtdurations") return seconds(value);
  if (unit === "percentunit") return `${Number((value * 100).toFixed(decimals ?? 1))} %`;
  if (unit === "bytes") return scaled(value, 1024, [" B", " KiB", " MiB", " GiB"]);
  if (unit === "Bps") return scaled(value, 1000, [" B/s", " kB/s", " MB/s", " GB/s"]);
  const text = scaled(value, 1000, ["", " K", " M", " G"], Math.abs(value) < 1000 ? decimals : undefined);
  return RATES[unit] ? `${text} ${RATES[unit]}` : text;
}

/// What a value is called and coloured.
function named(value, defaults) {
  for (const mapping of defaults.mappings || []) {
    const { options } = mapping;
    if (mapping.type === "range" && value >= options.from && value <= options.to) return options.result;
    if (mapping.type === "value" && options[String(value)]) return options[String(value)];
  }
  const steps = (defaults.thresholds || { steps: [] }).steps;
  const step = steps.filter((one) => one.value === null || value >= one.value).pop();
  return { text: shown(value, defaults.unit, defaults.decimals), color: step ? step.color : "blue" };
}
