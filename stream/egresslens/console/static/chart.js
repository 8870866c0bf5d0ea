// Bars over time, stacked by label, and small histograms, as SVG drawn to the width there is.

import { h, refocus, svg } from "./dom.js";
import { LABELS } from "./names.js";
import { go } from "./state.js";
import { bytes, count, duration, short, tick, time } from "./text.js";

const ORDER = ["outbound", "unknown", "passthrough", "blackhole"]; // from below: what matters is on top, at the edge
const LEFT = 46;
const BELOW = 20;

/** A box whose content is drawn by `draw(width)` now and whenever its width changes. */
function sized(draw, given = {}) {
  const box = h("div", given);
  let last = 0;
  new ResizeObserver(([entry]) => {
    const width = Math.floor(entry.contentRect.width);
    if (width === last || width === 0) return;
    last = width;
    box.replaceChildren(draw(width));
    refocus(box, null);
  }).observe(box);
  return box;
}

/**
 * Bars of `points` (`{start, label?, …}`) over a range of the API. `measure` is a field's name or a function,
 * `unit` shows its values. Arrow keys move over the bars, dragging chooses a range.
 */
export function timeline(points, range, { measure = "requests", unit = count, height = 150, title }) {
  const of = typeof measure === "function" ? measure : (point) => point[measure];
  const begin = Date.parse(range.since);
  const step = range.step_s * 1000;
  const bins = Math.max(1, Math.ceil((Date.parse(range.until) - begin) / step));
  const stacks = stack(points, of, begin, step, bins);
  const labels = ORDER.filter((label) => points.some((point) => (point.label ?? "outbound") === label));
  const readout = h("p", { class: "readout" }, hint(stacks, range, unit));
  const says = (at) => {
    const start = new Date(begin + at * step).toISOString();
    const parts = ORDER.filter((label) => stacks[at][label]).reverse()
      .map((label) => `${labels.length > 1 || points[0]?.label ? `${LABELS[label].short} ` : ""}${unit(stacks[at][label])}`);
    return `${time(start)}: ${parts.join(", ") || "nothing"}`;
  };
  const draw = (width) => bars({ stacks, width, height, range, begin, step, bins, unit, says, readout, title });
  return h("figure", { class: "chart" },
    labels.length > 1 && legend(labels), sized(draw, { class: "plot", style: { "min-height": `${height}px` } }), readout);
}

function stack(points, of, begin, step, bins) {
  const stacks = Array.from({ length: bins }, () => ({}));
  for (const point of points) {
    const at = Math.floor((Date.parse(point.start) - begin) / step);
    if (at < 0 || at >= bins) continue;
    const label = ORDER.includes(point.label ?? "outbound") ? (point.label ?? "outbound") : "unknown";
    stacks[at][label] = (stacks[at][label] ?? 0) + of(point);
  }
  return stacks;
}

const total = (one) => ORDER.reduce((sum, label) => sum + (one[label] ?? 0), 0);

function hint(stacks, range, unit) {
  const most = Math.max(0, ...stacks.map(total));
  const each = { 60: "a minute", 3600: "an hour", 86400: "a day" }[range.step_s];
  return `One bar is ${each}, the highest ${unit(most)}. Times are UTC.`;
}

/** Signs of labels beside their names, as the chart fills them. */
function legend(labels) {
  return h("ul", { class: "legend" }, [...labels].reverse().map((label) =>
    h("li", {}, svg("svg", { width: 14, height: 14, "aria-hidden": "true" }, hatch(), fill(label, 0, 0, 14, 14)), LABELS[label].short)));
}

function fill(label, x, y, width, height) {
  const bar = svg("rect", { class: `bar ${label}`, x, y, width, height });
  return label === "blackhole" || label === "passthrough"
    ? svg("g", {}, bar, svg("rect", { x, y, width, height, fill: `url(#hatch-${label})` })) : bar;
}

// Patterns are found by id in the whole document, so each drawing may carry the same ones.
const hatch = () => svg("defs", {},
  svg("pattern", { id: "hatch-blackhole", width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
    svg("rect", { class: "hatching", width: 2, height: 5 })),
  svg("pattern", { id: "hatch-passthrough", width: 4, height: 4, patternUnits: "userSpaceOnUse" },
    svg("circle", { class: "hatching", cx: 2, cy: 2, r: 0.8 })));

function bars({ stacks, width, height, range, begin, step, bins, unit, says, readout, title }) {
  const wide = width - LEFT;
  const tall = height - BELOW;
  const ticks = scale(Math.max(1, ...stacks.map(total)));
  const top = ticks[ticks.length - 1];
  const y = (value) => 6 + (tall - 6) * (1 - value / top);
  const one = wide / bins;
  const gap = one > 5 ? 1.5 : 0;
  const drawn = stacks.map((values, at) => {
    let base = 0;
    return ORDER.filter((label) => values[label]).map((label) => {
      const from = base;
      base += values[label];
      const high = Math.max(1, y(from) - y(base)); // a single call must be seen beside a million
      return fill(label, LEFT + at * one, y(from) - high, Math.max(1, one - gap), high);
    });
  });
  const cursor = svg("rect", { class: "cursor", y: 0, height: tall, width: Math.max(2, one), visibility: "hidden" });
  const brush = svg("rect", { class: "brush", y: 0, height: tall, visibility: "hidden" });
  const drawing = svg("svg", {
    width, height, tabindex: 0, role: "slider", "aria-label": title, "aria-valuemin": 0, "aria-valuemax": bins - 1,
    "aria-valuenow": bins - 1, "aria-valuetext": says(bins - 1), "data-key": `chart ${title}`,
  }, hatch(), grid(ticks, y, width, unit), axis(range, begin, step, bins, one, height), drawn, brush, cursor);
  moving(drawing, { bins, one, cursor, brush, says, readout, begin, step });
  return drawing;
}

function moving(drawing, { bins, one, cursor, brush, says, readout, begin, step }) {
  let at = bins - 1;
  let from = null;
  const move = (next) => {
    at = Math.min(bins - 1, Math.max(0, next));
    cursor.setAttribute("x", LEFT + at * one);
    cursor.setAttribute("visibility", "visible");
    drawing.setAttribute("aria-valuenow", at);
    drawing.setAttribute("aria-valuetext", says(at));
    readout.textContent = says(at);
  };
  const under = (event) => Math.floor((event.clientX - drawing.getBoundingClientRect().left - LEFT) / one);
  const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageUp: 10, PageDown: -10, Home: -bins, End: bins };
  drawing.addEventListener("keydown", (event) => {
    if (!(event.key in steps)) return;
    event.preventDefault();
    move(at + steps[event.key]);
  });
  drawing.addEventListener("pointerdown", (event) => { if (event.pointerType === "mouse") from = under(event); });
  drawing.addEventListener("pointermove", (event) => {
    move(under(event));
    if (from === null) return;
    brush.setAttribute("x", LEFT + Math.min(from, at) * one);
    brush.setAttribute("width", (Math.abs(at - from) + 1) * one);
    brush.setAttribute("visibility", at === from ? "hidden" : "visible");
  });
  drawing.addEventListener("pointerup", () => {
    if (from !== null && at !== from) {
      const [first, last] = [Math.min(from, at), Math.max(from, at) + 1];
      go({ since: undefined, from: iso(begin + first * step), until: iso(begin + last * step) });
    }
    from = null;
  });
  drawing.addEventListener("pointerleave", () => { cursor.setAttribute("visibility", "hidden"); from = null; });
}

const iso = (moment) => new Date(moment).toISOString().replace(".000Z", "Z");

/** Two to four round numbers from 0 to at least `most`. */
function scale(most) {
  const rough = most / 3;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(1, [1, 2, 5, 10].find((one) => one * power >= rough) * power);
  return Array.from({ length: Math.ceil(most / step) + 1 }, (_, at) => at * step);
}

const grid = (ticks, y, width, unit) => ticks.map((value) => svg("g", { class: "grid" },
  svg("line", { x1: LEFT, x2: width, y1: y(value), y2: y(value) }),
  svg("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, unit === bytes ? bytes(value) : short(value))));

function axis(range, begin, step, bins, one, height) {
  const every = Math.max(1, Math.ceil(90 / one));
  const span = (bins * step) / 1000;
  const marks = [];
  for (let at = 0; at < bins && (bins - at) * one > 36; at += every) {
    marks.push(svg("text", { x: LEFT + at * one, y: height - 5 }, tick(new Date(begin + at * step).toISOString(), range.step_s, span)));
  }
  return svg("g", { class: "grid" }, marks);
}

/** Latency's buckets, as bars with their bounds. */
export function histogram({ bounds_ms: bounds, counts }) {
  const first = counts.findIndex((value) => value > 0);
  if (first < 0) return null;
  const last = counts.length - [...counts].reverse().findIndex((value) => value > 0);
  const most = Math.max(...counts);
  return h("table", { class: "bars" },
    h("caption", { class: "unseen" }, "Requests by duration"),
    h("thead", { class: "unseen" }, h("tr", {}, h("th", { scope: "col" }, "Duration"), h("th", { scope: "col" }, "Share"), h("th", { scope: "col" }, "Requests"))),
    h("tbody", {}, counts.slice(first, last).map((value, index) => {
      const at = first + index;
      const name = at < bounds.length ? `≤ ${duration(bounds[at])}` : `> ${duration(bounds[bounds.length - 1])}`;
      return barRow(name, value, most);
    })));
}

/** Counts by name, as bars: `[[name, value], …]`. */
export function barTable(caption, head, pairs) {
  const most = Math.max(1, ...pairs.map(([, value]) => value));
  return h("table", { class: "bars" }, h("caption", {}, caption),
    h("thead", { class: "unseen" }, h("tr", {}, h("th", { scope: "col" }, head), h("th", { scope: "col" }, "Share"), h("th", { scope: "col" }, "Count"))),
    h("tbody", {}, pairs.map(([name, value]) => barRow(name, value, most))));
}

const barRow = (name, value, most) => h("tr", {}, h("th", { scope: "row" }, name),
  h("td", { class: "track", "aria-hidden": "true" }, h("span", { style: { width: `${(100 * value) / most}%` } })),
  h("td", { class: "number" }, count(value)));
