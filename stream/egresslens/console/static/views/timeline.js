import { ask } from "../api.js";
import { timeline } from "../chart.js";
import { h } from "../dom.js";
import { LABELS, labelOf } from "../names.js";
import { badge, choice, nothing, statements } from "../parts.js";
import { filters, range } from "../state.js";
import { table } from "../table.js";
import { bytes, count, plural } from "../text.js";

const MEASURES = {
  requests: ["Requests", "requests", count],
  errors: ["Errors", "errors", count],
  out: ["Bytes out", "bytes_received", bytes],
  in: ["Bytes in", "bytes_sent", bytes],
};

export default {
  id: "timeline",
  title: "Time line",
  about: "Traffic over time, by what the mesh did with it.",
  labelled: true,

  load: (state, signal) => ask("timeline", { ...range(state), ...filters(state), label: state.label }, signal),

  says: ({ points }) => plural(points.reduce((sum, point) => sum + point.requests, 0), "request"),

  draw(data, state, meta) {
    if (!data.points.length) return nothing("traffic", meta);
    const chosen = state.show in MEASURES ? state.show : "requests";
    const [title, measure, unit] = MEASURES[chosen];
    const labels = Object.keys(LABELS).filter((label) => data.points.some((point) => labelOf(point.label) === label));
    const names = Object.fromEntries(Object.entries(MEASURES).map(([key, [text]]) => [key, text]));
    return [
      h("div", { class: "heading" }, choice("show", "Show", names, chosen)),
      timeline(data.points, data.range, { measure, unit, height: 260, title: `${title} over time by label` }),
      labels.length > 1 && h("div", { class: "small-multiples" }, labels.map((label) => h("section", {}, h("h2", {}, badge(label)),
        timeline(data.points.filter((point) => labelOf(point.label) === label), data.range, { measure, unit, height: 110, title: `${title}: ${LABELS[label].short}` })))),
      table("Traffic over time", [
        { name: "start", title: "From (UTC)", kind: "time" },
        { name: "label", title: "Label", value: (row) => LABELS[labelOf(row.label)].short, cell: (row) => badge(row.label) },
        { name: "requests", title: "Requests", kind: "number" },
        { name: "errors", title: "Errors", kind: "number" },
        { name: "bytes_received", title: "Sent out", kind: "bytes" },
        { name: "bytes_sent", title: "Came back", kind: "bytes" },
      ], [...data.points].reverse()),
      statements(data.sql),
    ];
  },
};
