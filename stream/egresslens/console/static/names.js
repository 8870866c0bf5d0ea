// What sources, destinations and labels are called, in one place for the graph, tables and panels.

import { plural, visible } from "./text.js";

/** Labels in the order in which they are stacked and listed: the worst first. */
export const LABELS = {
  blackhole: { name: "BlackHoleCluster", short: "blocked", about: "blocked: REGISTRY_ONLY, no ServiceEntry" },
  passthrough: { name: "PassthroughCluster", short: "let out unknown", about: "let out unknown: ALLOW_ANY" },
  outbound: { name: "Named hosts", short: "known", about: "known: a ServiceEntry or a service names it" },
  unknown: { name: "Unknown", short: "unknown", about: "nothing in the record says which" },
};

export const labelOf = (label) => (label in LABELS ? label : "unknown");

/** `namespace/workload`, else the address, of a row with `source_…` fields. */
export function sourceName(row) {
  const { source_namespace: namespace, source_workload: workload, source_ip: ip } = row;
  if (workload) return visible(namespace ? `${namespace}/${workload}` : workload);
  if (ip) return visible(namespace ? `${namespace}/${ip}` : ip);
  return namespace ? visible(namespace) : "(unknown source)";
}

/** `host:port`, or a domain with its number of destinations. */
export function destinationName(row) {
  if (row.destination_host === null && row.destination_domain) return visible(row.destination_domain);
  const host = row.destination_host ? visible(row.destination_host) : "(no host)";
  return row.destination_port ? `${host.includes(":") ? `[${host}]` : host}:${row.destination_port}` : host;
}

/** How many workloads or destinations a grouped row stands for; empty for a single one. */
export const grouped = (number, one) => (number > 1 ? plural(number, one) : "");

/**
 * A test of what is new about a row in a range: `newly registered` where a host was called without a ServiceEntry and
 * with one that came in the range, `new` where the mesh saw it first. Where all are new, none is.
 */
export function freshness(rows, range) {
  const place = (row) => JSON.stringify([row.destination_host, row.destination_port]);
  const unregistered = new Set(rows.filter((row) => row.label !== "outbound").map(place));
  const all = rows.every((row) => row.is_new);
  return (row) => {
    if (row.label === "outbound" && row.registered_at >= range.since && unregistered.has(place(row))) return "newly registered";
    return row.is_new && !all ? "new" : "";
  };
}
