// Views that are a report of `egresslens report`: blocked, new, databases, regions, coverage with modes.

import { ask } from "../api.js";
import { h } from "../dom.js";
import { destinationName, LABELS, labelOf, sourceName } from "../names.js";
import { badge, nothing, notJudged, statements, tag, tiles } from "../parts.js";
import { filters, range } from "../state.js";
import { link, table } from "../table.js";
import { bytes, count, NONE, plural, visible } from "../text.js";

const LIMIT = 5000;
const report = (name) => (state, signal) => ask(`reports/${name}`, { ...range(state), ...filters(state), limit: LIMIT }, signal);
const sum = (rows, name) => rows.reduce((total, row) => total + (row[name] ?? 0), 0);
const distinct = (rows, of) => new Set(rows.map(of)).size;
const cut = (data) => (data.more ? "the first of more: narrow the filters" : null);

const SOURCE = { name: "source", title: "Workload", value: sourceName };
const TO = { name: "destination", title: "Destination", value: destinationName };
const SEEN = [{ name: "first_seen", title: "First seen (UTC)", kind: "time" }, { name: "last_seen", title: "Last seen (UTC)", kind: "time" }];
const LABEL = { name: "label", title: "Label", value: (row) => LABELS[labelOf(row.label)].short, cell: (row) => badge(row.label) };
const list = (values) => (values ?? []).map(visible).join(", ") || NONE;
const eventsOf = (row) => link({
  view: "events", namespace: row.source_namespace ?? undefined, workload: row.source_workload ?? undefined, host: row.destination_host ?? undefined, sort: undefined,
}, "Records");

export const blocked = {
  id: "blocked",
  title: "Blocked",
  about: "Attempts to leave the mesh that were turned away, and who made them.",
  load: report("blocked"),
  says: ({ rows }) => `${plural(sum(rows, "attempts"), "blocked attempt")}`,
  draw(data, state, meta) {
    if (!data.rows.length) return nothing("blocked attempts", meta);
    return [
      tiles(
        { name: "Attempts", kind: "blackhole", value: count(sum(data.rows, "attempts")) },
        { name: "By", value: count(distinct(data.rows, sourceName)), note: "workloads" },
        { name: "To", value: count(distinct(data.rows, destinationName)), note: "destinations" },
      ),
      table("Blocked attempts", [
        SOURCE, TO,
        { name: "attempts", title: "Attempts", kind: "number" },
        { name: "proved_by", title: "Proved by", value: (row) => list(row.proved_by) },
        { name: "service_entry", title: "ServiceEntry today" },
        ...SEEN, { name: "records", title: "Look", cell: eventsOf },
      ], data.rows, { note: cut(data) }),
      h("p", { class: "quiet" }, "Should one of them be allowed? ", link({ view: "advice" }, "Advice"), " writes the ServiceEntry."),
      statements(data.sql),
    ];
  },
};

export const fresh = {
  id: "new",
  title: "New",
  about: "Destinations that were called for the first time in this range.",
  load: report("new"),
  says: ({ rows }) => plural(rows.length, "new destination"),
  draw(data, state, meta) {
    if (!data.rows.length) return nothing("new destinations", meta);
    const mesh = data.rows.filter((row) => row.new_to === "mesh");
    return [
      tiles(
        { name: "New to the mesh", value: count(distinct(mesh, destinationName)), note: "destinations" },
        { name: "New to a workload", value: count(data.rows.length - mesh.length), note: "known to others" },
        { name: "By", value: count(distinct(data.rows, sourceName)), note: "workloads" },
      ),
      table("Destinations first seen", [
        SOURCE, TO,
        { name: "new_to", title: "New to", cell: (row) => tag(row.new_to, row.new_to === "mesh" ? "good" : ""), value: (row) => row.new_to },
        { name: "labels", title: "Label", value: (row) => row.labels.join(" "), cell: (row) => h("span", { class: "row" }, row.labels.map(badge)) },
        { name: "requests", title: "Requests", kind: "number" },
        { name: "destination_scope", title: "Scope" },
        { name: "destination_kind", title: "Kind" },
        { name: "service_entry", title: "ServiceEntry" },
        ...SEEN, { name: "records", title: "Look", cell: eventsOf },
      ], data.rows, { note: cut(data) }),
      statements(data.sql),
    ];
  },
};

export const databases = {
  id: "databases",
  title: "Databases",
  about: "Databases, brokers and caches that workloads write to and read from.",
  load: report("databases"),
  says: ({ rows }) => plural(distinct(rows, destinationName), "database"),
  draw(data, state, meta) {
    if (!data.rows.length) return [notJudged(data), nothing("database traffic", meta)];
    return [
      tiles(
        { name: "Instances", value: count(distinct(data.rows, destinationName)) },
        { name: "Used by", value: count(distinct(data.rows, sourceName)), note: "workloads" },
        { name: "Written", value: bytes(sum(data.rows, "bytes_written")) },
        { name: "Read", value: bytes(sum(data.rows, "bytes_read")) },
      ),
      notJudged(data),
      table("Databases, brokers and caches", [
        SOURCE, TO,
        { name: "destination_kind", title: "Kind", cell: (row) => h("span", { title: visible(row.destination_kind_reason ?? "") }, tag(row.destination_kind)), value: (row) => row.destination_kind },
        { name: "destination_kind_confidence", title: "Sure" },
        LABEL,
        { name: "requests", title: "Connections", kind: "number" },
        { name: "errors", title: "Errors", kind: "number" },
        { name: "bytes_written", title: "Written", kind: "bytes" },
        { name: "bytes_read", title: "Read", kind: "bytes" },
        { name: "service_entry", title: "ServiceEntry" },
        ...SEEN,
      ], data.rows, { note: cut(data) }),
      statements(data.sql),
    ];
  },
};

const RESIDENCY = { violation: "bad", allowed: "good", unknown: "" };
const PLACES = { "out of region": "bad", "in region": "good", unknown: "" };

export const regions = {
  id: "regions",
  title: "Regions",
  about: "Where workloads are at home, and where their traffic went.",
  load: report("regions"),
  says: ({ rows }) => `${plural(sum(rows.filter((row) => row.place === "out of region"), "requests"), "request")} out of region`,
  draw(data, state, meta) {
    if (!data.rows.length) return nothing("traffic", meta);
    const of = (place) => sum(data.rows.filter((row) => row.place === place), "requests");
    const broken = data.rows.filter((row) => row.residency === "violation");
    return [
      tiles(
        { name: "In region", value: count(of("in region")), note: "requests" },
        { name: "Out of region", value: count(of("out of region")), note: "requests" },
        { name: "Region unknown", value: count(of("unknown")), note: "requests" },
        { name: "Against a policy", value: count(broken.length), note: "destinations" },
      ),
      notJudged(data),
      matrix(data.matrix ?? []),
      table("Traffic by region", [
        SOURCE, TO,
        { name: "home_regions", title: "Home", value: (row) => (row.home_regions ?? []).join(", ") },
        { name: "destination_region", title: "Region" },
        { name: "place", title: "Place", value: (row) => row.place, cell: (row) => tag(row.place, PLACES[row.place]) },
        { name: "confidence", title: "Sure" },
        { name: "requests", title: "Requests", kind: "number" },
        { name: "bytes_received", title: "Sent out", kind: "bytes" },
        { name: "residency", title: "Policy says", value: (row) => [row.residency_policy, row.residency].filter(Boolean).join(": "),
          cell: (row) => (row.residency ? h("span", { class: "row", title: visible(row.residency_reason ?? "") }, tag(row.residency, RESIDENCY[row.residency]), visible(row.residency_policy)) : NONE) },
        { name: "reason", title: "Why" },
      ], data.rows, { note: cut(data) }),
      h("p", { class: "quiet" }, "Regions come from host names, clouds’ address ranges and your registry: ", h("code", {}, "egresslens registry load"), "."),
      statements(data.sql),
    ];
  },
};

/** Home regions down, destinations' regions across; the darker the more requests. */
function matrix(cells) {
  if (!cells.length) return null;
  const homes = [...new Set(cells.map((cell) => cell.home_region ?? ""))].sort();
  const places = [...new Set(cells.map((cell) => cell.destination_region ?? ""))].sort();
  const at = new Map(cells.map((cell) => [JSON.stringify([cell.home_region ?? "", cell.destination_region ?? ""]), cell]));
  const most = Math.max(...cells.map((cell) => cell.requests));
  const name = (region) => (region ? visible(region) : "unknown");
  return h("div", { class: "table" }, h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Region matrix" },
    h("table", { class: "matrix" },
      h("caption", {}, "From home region to destination’s region", h("span", { class: "quiet" }, " requests, bytes sent out")),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Home \\ destination"), places.map((place) => h("th", { scope: "col" }, name(place))))),
      h("tbody", {}, homes.map((home) => h("tr", {}, h("th", { scope: "row" }, name(home)), places.map((place) => {
        const cell = at.get(JSON.stringify([home, place]));
        if (!cell) return h("td", { class: "none" }, NONE);
        return h("td", { class: PLACES[cell.place] || "neutral" },
          h("span", { class: "shade", style: { opacity: 0.12 + 0.38 * (cell.requests / most) } }),
          h("span", { class: "over" }, h("strong", {}, count(cell.requests)), h("small", {}, bytes(cell.bytes_received)), h("small", {}, cell.place)));
      })))))));
}

const MODES = { ALLOW_ANY: "warn", REGISTRY_ONLY: "good", both: "warn" };

export const coverage = {
  id: "coverage",
  title: "Coverage",
  about: "What the evidence cannot see, and which outbound policy namespaces are seen to run.",

  async load(state, signal) {
    const [found, modes] = await Promise.all([report("coverage")(state, signal), report("modes")(state, signal)]);
    return { ...found, modes };
  },

  says: ({ rows }) => `${plural(rows.filter((row) => row.findings?.length).length, "workload")} with findings`,

  draw(data, state, meta) {
    if (!data.rows.length && !data.modes.rows.length) return nothing("workloads", meta);
    const found = data.rows.filter((row) => row.findings?.length);
    return [
      tiles(
        { name: "Workloads", value: count(data.rows.length) },
        { name: "With findings", value: count(found.length) },
        { name: "Namespaces", value: count(data.modes.rows.length) },
      ),
      data.modes.rows.length > 0 && table("Outbound policy by namespace", [
        { name: "source_namespace", title: "Namespace" },
        data.modes.rows.some((row) => row.source_cluster) && { name: "source_cluster", title: "Cluster" },
        { name: "mode", title: "Mode", value: (row) => row.mode, cell: (row) => tag(row.mode, MODES[row.mode]) },
        { name: "evidence", title: "Evidence", wide: true },
        { name: "passthrough", title: "Let out", kind: "number" },
        { name: "blocked", title: "Blocked", kind: "number" },
        { name: "registered", title: "Known", kind: "number" },
        { name: "let_out", title: "Hosts let out", wide: true, value: (row) => list(row.let_out) },
        { name: "turned_away", title: "Hosts turned away", wide: true, value: (row) => list(row.turned_away) },
      ], data.modes.rows),
      data.rows.length > 0 && table("What the evidence cannot see", [
        SOURCE,
        { name: "findings", title: "Findings", wide: true, value: (row) => list(row.findings),
          cell: (row) => (row.findings?.length ? h("span", { class: "row" }, row.findings.map((one) => tag(one, "warn"))) : tag("nothing missing", "good")) },
        { name: "lacking", title: "Fields its format lacks", wide: true, value: (row) => list(row.lacking) },
        { name: "records", title: "Records", kind: "number" },
        { name: "pods", title: "Pods", kind: "number" },
        { name: "with_sidecar", title: "With sidecar", kind: "number" },
        { name: "formats", title: "Formats", value: (row) => list(row.formats) },
        { name: "last_record", title: "Last record (UTC)", kind: "time" },
      ], data.rows, { note: cut(data) }),
      statements([...data.sql, ...data.modes.sql]),
    ];
  },
};
