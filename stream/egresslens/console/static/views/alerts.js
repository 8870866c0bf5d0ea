import { ask } from "../api.js";
import { h } from "../dom.js";
import { sourceName } from "../names.js";
import { choice, empty, nothing, statements, tag, tiles } from "../parts.js";
import { filters, range } from "../state.js";
import { link, table } from "../table.js";
import { ago, count, plural, visible } from "../text.js";

const SEVERITY = { critical: "bad", warning: "warn", info: "" };

export default {
  id: "alerts",
  title: "Alerts",
  about: "Incidents: blocked attempts, new destinations, residency, mismatches, sudden volumes.",

  load: (state, signal) => ask("alerts", { ...range(state), ...filters(state), state: state.state, limit: 2000 }, signal),

  says: ({ rows }) => `${plural(rows.filter((row) => row.state === "firing").length, "firing alert")}`,

  draw(data, state, meta) {
    const states = choice("state", "State", { "": "All", firing: "Firing", resolved: "Resolved" }, state.state ?? "");
    if (!data.rows.length) {
      return [h("div", { class: "heading" }, states), meta?.has_data
        ? empty("No alerts in this range", h("p", {}, "Alerts are found by a process of its own beside the workers: ", h("code", {}, "egresslens alerts run"),
          ". If it runs, nothing was worth one."))
        : nothing("alerts", meta)];
    }
    const firing = data.rows.filter((row) => row.state === "firing");
    return [
      tiles(
        { name: "Firing", value: count(firing.length), note: `${count(firing.filter((row) => row.severity === "critical").length)} critical` },
        { name: "Resolved", value: count(data.rows.length - firing.length) },
      ),
      h("div", { class: "heading" }, states),
      table("Alerts", [
        { name: "rule", title: "Rule", value: (row) => row.rule },
        { name: "severity", title: "Severity", value: (row) => row.severity, cell: (row) => tag(row.severity, SEVERITY[row.severity]) },
        { name: "state", title: "State", value: (row) => row.state, cell: (row) => tag(row.state, row.state === "firing" ? "bad" : "good") },
        { name: "summary", title: "What", wide: true },
        { name: "source", title: "Workload", value: sourceName },
        { name: "count", title: "Events", kind: "number" },
        { name: "first_seen", title: "Since (UTC)", kind: "time" },
        { name: "last_seen", title: "Last", value: (row) => row.last_seen, cell: (row) => h("span", { title: visible(row.last_seen) }, ago(row.last_seen, meta.now)) },
        { name: "look", title: "Look", cell: (row) => link({
          view: "events", namespace: row.source_namespace ?? undefined, workload: row.source_workload ?? undefined, host: row.destination_host ?? undefined, sort: undefined, state: undefined,
        }, "Records") },
      ], data.rows, { note: data.more ? "the first of more" : null }),
      statements(data.sql),
    ];
  },
};
