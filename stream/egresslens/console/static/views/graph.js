import { ask } from "../api.js";
import { timeline } from "../chart.js";
import { h } from "../dom.js";
import { graph } from "../graph.js";
import { edgeKey } from "../graphmodel.js";
import { destinationName, freshness, LABELS, labelOf, sourceName } from "../names.js";
import { badge, choice, nothing, notJudged, statements, tag, tiles } from "../parts.js";
import { filters, go, range } from "../state.js";
import { table } from "../table.js";
import { bytes, count, plural, share } from "../text.js";

const ROWS = 20;
const EDGES = 2000;

export default {
  id: "graph",
  title: "Overview",
  about: "Who calls what outside the mesh, and whether it was let out.",
  labelled: true,

  async load(state, signal) {
    const asked = { ...range(state), ...filters(state), label: state.label };
    const grouped = { measure: measureOf(state), group_source: state.gs ?? "auto", group_destination: state.gd ?? "auto", limit: EDGES };
    const [answer, line] = await Promise.all([ask("graph", { ...asked, ...grouped }, signal), ask("timeline", asked, signal)]);
    const edges = answer.edges.map((edge) => ({ ...edge, of_namespace: answer.group_source === "namespace", of_domain: answer.group_destination === "domain" }));
    return { ...answer, edges, line };
  },

  says: ({ totals }) => `${plural(totals.requests, "request")}, ${count(totals.blocked)} blocked`,

  draw(data, state, meta) {
    const { edges, totals } = data;
    if (!edges.length) return nothing("records", meta);
    const measure = measureOf(state);
    const fresh = freshness(edges, data.range);
    const passthrough = edges.filter((edge) => edge.label === "passthrough").reduce((sum, edge) => sum + edge.requests, 0);
    return [
      tiles(
        { name: "Requests", value: count(totals.requests), note: totals.errors ? `${share(totals.errors, totals.requests)} errors` : "no errors" },
        { name: "Blocked", kind: "blackhole", value: count(totals.blocked), note: share(totals.blocked, totals.requests) },
        { name: "Let out unknown", kind: "passthrough", value: count(passthrough), note: share(passthrough, totals.requests) },
        { name: "Known", kind: "outbound", value: count(totals.registered), note: share(totals.registered, totals.requests) },
        { name: "Sent out", value: bytes(totals.bytes_received), note: `${bytes(totals.bytes_sent)} came back` },
        { name: "Workloads", value: count(totals.sources), note: `to ${plural(totals.destinations, "host")}` },
      ),
      h("section", { "aria-labelledby": "line-title" }, h("h2", { id: "line-title" }, "Requests over time"),
        timeline(data.line.points, data.line.range, { height: 96, title: "Requests over time by label" })),
      h("section", { "aria-labelledby": "graph-title" },
        h("div", { class: "heading" }, h("h2", { id: "graph-title" }, "Egress graph"),
          choice("measure", "Width", { requests: "Requests", bytes: "Bytes" }, measure),
          choice("gs", "Left by", { workload: "Workload", namespace: "Namespace" }, data.group_source),
          choice("gd", "Right by", { host: "Host", domain: "Domain" }, data.group_destination)),
        groupNote(data, state),
        notJudged(data),
        graph(edges, { measure, shown: Number(state.rows) || ROWS, fresh, choose })),
      h("section", { "aria-labelledby": "table-title" }, h("h2", { id: "table-title" }, "The graph as a table"), edgeTable(edges, fresh)),
      statements([...data.sql, ...data.line.sql]),
    ];
  },
};

const measureOf = (state) => (state.measure === "bytes" ? "bytes" : "requests");

function groupNote({ group_source: source, group_destination: destination, totals, left_off: left }, state) {
  const automatic = (source === "namespace" && !state.gs) || (destination === "domain" && !state.gd);
  if (!automatic && !left.edges) return null;
  return h("p", { class: "quiet" },
    automatic && `${plural(totals.sources, "workload")} and ${plural(totals.destinations, "destination")}: grouped to stay readable. `,
    left.edges > 0 && `${plural(left.edges, "thin line")} are added up as “other”.`);
}

function choose(kind, one) {
  if (kind === "edge" && one.row) go({ edge: one.key, node: undefined });
  else if (kind === "edge") go({ node: one.destination.row ? one.destination.key : one.source.row ? one.source.key : undefined, edge: undefined });
  else if (!one.rest) go({ node: one.key, edge: undefined });
}

function edgeTable(edges, fresh) {
  return table("Calls out of the mesh", [
    { name: "source", title: "Workload", value: sourceName },
    { name: "destination", title: "Destination", value: destinationName },
    { name: "label", title: "Label", value: (row) => LABELS[labelOf(row.label)].short, cell: (row) => h("span", { class: "row" }, badge(row.label), fresh(row) && tag(fresh(row), "good")) },
    { name: "requests", title: "Requests", kind: "number" },
    { name: "errors", title: "Errors", kind: "number" },
    { name: "bytes_received", title: "Sent out", kind: "bytes" },
    { name: "bytes_sent", title: "Came back", kind: "bytes" },
    { name: "destination_kind", title: "Kind" },
    { name: "destination_region", title: "Region" },
    { name: "service_entry", title: "ServiceEntry" },
    { name: "last_seen", title: "Last seen (UTC)", kind: "time" },
  ], edges, { open: { key: edgeKey, go: (row) => go({ edge: JSON.stringify(edgeKey(row)), node: undefined }) } });
}
