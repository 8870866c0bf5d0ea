// The panel beside the page: everything about one edge, or the edges of one node.

import { ask } from "./api.js";
import { barTable, histogram, timeline } from "./chart.js";
import { h, replace } from "./dom.js";
import { edgeKey } from "./graphmodel.js";
import { destinationName, LABELS, labelOf, sourceName } from "./names.js";
import { badge, facts, problem, statements, tag } from "./parts.js";
import { go, range, read } from "./state.js";
import { link, table } from "./table.js";
import { bytes, count, duration, plural, share, time, visible } from "./text.js";

const KEY = ["source_cluster", "source_namespace", "source_workload", "source_ip", "label", "destination_host", "destination_port", "destination_domain", "group_source", "group_destination"];

/** Ask for the edge of the state, by the key in its address. */
export function askEdge(state, signal) {
  const key = JSON.parse(state.edge);
  const given = Object.fromEntries(KEY.map((name, at) => [name, key[at]]));
  const groups = key[7] ? { group_destination: "domain" } : {};
  return ask("edge", { ...given, ...groups, ...range(state) }, signal);
}

/** Draw an edge's answer into the panel. */
export function drawEdge(panel, answer) {
  const { edge } = answer;
  replace(panel, heading(
    h("span", {}, sourceName(edge), h("span", { class: "arrow", "aria-label": " to " }, " → "), h("wbr"), destinationName(edge)),
    badge(edge.label), edge.label === "outbound" && edge.registered_at >= answer.range.since && tag("newly registered", "good")),
  h("div", { class: "inside" },
    facts([
      ["Requests", count(edge.requests)],
      ["Errors", edge.errors ? `${count(edge.errors)} (${share(edge.errors, edge.requests)})` : "0"],
      ["Sent out", bytes(edge.bytes_received)],
      ["Came back", bytes(edge.bytes_sent)],
      ["First seen", time(edge.first_seen)],
      ["Last seen", time(edge.last_seen)],
      ["ServiceEntry", edge.service_entry ? visible(edge.service_entry) : "none"],
      ["Registered", edge.registered_at && time(edge.registered_at)],
      ["Scope", edge.destination_scope && visible(edge.destination_scope)],
      ["Kind", edge.destination_kind && visible(edge.destination_kind)],
      ["Region", edge.destination_region && visible(edge.destination_region)],
      ["Mismatches", edge.mismatches ? `${count(edge.mismatches)} (another host was asked for)` : null],
      ["Addresses", answer.destination_ips?.length ? answer.destination_ips.map(visible).join(", ") : null],
    ]),
    h("h3", {}, "Time line"),
    timeline(answer.timeline.map((point) => ({ ...point, label: edge.label })), answer.range, { height: 110, title: "Requests of this call over time" }),
    h("div", { class: "pair" },
      h("div", {}, barTable("Codes", "Code", answer.codes.map((one) => [codeText(one.response_code), one.requests]))),
      h("div", {}, answer.flags.length ? barTable("Flags", "Flag", answer.flags.map((one) => [visible(one.flag), one.records]))
        : h("p", { class: "quiet" }, "No response flags."))),
    h("h3", {}, "Latency"),
    latency(answer.latency),
    answer.evidence?.length > 0 && [h("h3", {}, "What says so"), h("ul", { class: "plain" }, answer.evidence.map((one) =>
      h("li", {}, `${plural(one.records, "record")}: `, one.proof ? visible(one.proof) : visible(one.label_evidence ?? ""))))],
    h("h3", {}, "Last records"),
    records(answer),
    statements(answer.sql)));
}

const codeText = (code) => (code === null ? "none" : code === 0 ? "0 (no response)" : String(code));

function latency(found) {
  if (!found || found.p50_ms === null) return h("p", { class: "quiet" }, "No durations in these records.");
  return [facts([["p50", duration(found.p50_ms)], ["p95", duration(found.p95_ms)], ["Slowest", duration(found.max_ms)]]), histogram(found)];
}

function records(answer) {
  if (!answer.records.length) {
    return h("p", { class: "quiet" }, answer.records_kept === false ? "Single records of this range are no longer kept; its counts are." : "No single records.");
  }
  return table("Last records of this call", [
    { name: "event_time", title: "Time (UTC)", kind: "time" },
    { name: "response_code", title: "Code", value: (row) => row.response_code, kind: "number" },
    { name: "method", title: "Request", value: (row) => [row.method, row.path].filter(Boolean).join(" ") || row.protocol },
    { name: "response_flags", title: "Flags", value: (row) => (row.response_flags ?? []).join(" ") },
    { name: "duration_ms", title: "Took", kind: "duration" },
    { name: "bytes_received", title: "Out", kind: "bytes" },
    { name: "bytes_sent", title: "In", kind: "bytes" },
  ], answer.records, { sortable: false });
}

/** The edges of a node of the drawn graph: those of the API's rows that begin or end there. */
export function drawNode(panel, key, rows) {
  const [side, ...values] = JSON.parse(key);
  const fields = side === "source" ? ["source_cluster", "source_namespace", "source_workload", "source_ip"] : ["destination_host", "destination_port"];
  const mine = rows.filter((row) => (side === "source"
    ? fields.every((name, at) => (row[name] ?? null) === values[at])
    : labelOf(row.label) === values[0] && fields.every((name, at) => (row[name] ?? null) === values[at + 1])
      && (row.destination_host !== null || row.destination_domain === values[3])));
  const sum = (name) => mine.reduce((total, row) => total + row[name], 0);
  const row = mine[0];
  if (!row) {
    replace(panel, heading("Not in this range"), h("p", { class: "inside" }, "Widen the range or clear the filters to see it."));
    return;
  }
  const host = row.destination_host ?? (row.destination_domain && `*${row.destination_domain}`);
  const only = side === "source" ? { namespace: row.source_namespace ?? undefined, workload: row.source_workload ?? undefined } : host && { host };
  const name = side === "source" ? sourceName(row) : destinationName(row);
  const other = side === "source"
    ? { name: "to", title: "To", value: destinationName }
    : { name: "from", title: "From", value: sourceName };
  replace(panel, heading(h("span", {}, name), side === "source" ? tag("workload") : badge(row.label)),
    h("div", { class: "inside" },
      facts([
        ["Requests", count(sum("requests"))], ["Errors", count(sum("errors"))], ["Sent out", bytes(sum("bytes_received"))], ["Came back", bytes(sum("bytes_sent"))],
        ["ServiceEntry", side === "destination" ? (row.service_entry ? visible(row.service_entry) : "none") : null],
        ["Cluster", side === "source" && row.source_cluster ? visible(row.source_cluster) : null],
      ]),
      only && h("p", { class: "row" }, link({ ...only, node: undefined }, `Only ${side === "source" ? "this workload" : "this host"}`, { class: "button" }),
        link({ ...only, view: "events", node: undefined }, "Its records", { class: "button" })),
      table(side === "source" ? "Where it calls" : "Who calls it", [
        other,
        { name: "label", title: "Label", cell: (one) => badge(one.label), value: (one) => LABELS[labelOf(one.label)].short },
        { name: "requests", title: "Requests", kind: "number" },
        { name: "bytes_received", title: "Out", kind: "bytes" },
        { name: "bytes_sent", title: "In", kind: "bytes" },
      ], mine, { open: { key: edgeKey, go: (one) => go({ edge: JSON.stringify(edgeKey(one)), node: undefined }) } })));
}

/** Say that the panel's answer is on its way, or what is wrong. */
export const drawLoading = (panel) => replace(panel, heading("Loading…"), h("div", { class: "inside" }, h("div", { class: "bone tall" })));
export function drawProblem(panel, error, again) {
  const gone = error.status === 404;
  replace(panel, heading(gone ? "Not in this range" : "No answer"), h("div", { class: "inside" },
    gone ? h("p", {}, "This call has no traffic in the range. Widen the range to see it.") : problem(error, again)));
}

function heading(title, ...beside) {
  return h("header", {}, h("h2", { tabindex: -1, id: "panel-title", "data-key": "panel title" }, title),
    h("button", { type: "button", class: "close", "data-key": "close panel", onclick: close }, "Close", h("kbd", { "aria-hidden": "true" }, "Esc")),
    h("p", { class: "row" }, beside));
}

/** Close the panel; the state has no edge and no node any more. */
export const close = () => go({ edge: undefined, node: undefined });

export const isOpen = (state = read()) => Boolean(state.edge || state.node);
