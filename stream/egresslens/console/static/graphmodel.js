// The egress graph as values: nodes left and right, edges between them, the many folded into one. Draws nothing.

import { labelOf } from "./names.js";

/** The bands on the right, from above. */
export const BANDS = ["blackhole", "passthrough", "outbound", "unknown"];

const OTHER = "(other)";
const WIDEST = 36; // px of the widest edge
const TALLEST = 150; // px of all edges of a node together
const THINNEST = 1.5;

/**
 * An edge's key in the API, as a list that fits into an address; with what it is grouped by, where a source is a
 * namespace and where what has no host is all of it.
 */
export const edgeKey = (edge) => {
  const domain = edge.destination_host === null ? edge.destination_domain : null;
  const groups = [edge.of_namespace ? "namespace" : null, edge.of_domain && edge.destination_host === null && domain === null ? "domain" : null];
  while (groups.length && groups.at(-1) === null) groups.pop();
  return [edge.source_cluster, edge.source_namespace, edge.source_workload, edge.source_ip, edge.label,
    edge.destination_host, edge.destination_port, domain, ...groups];
};

const sourceKey = (edge) => JSON.stringify(["source", edge.source_cluster, edge.source_namespace, edge.source_workload, edge.source_ip]);
const destinationKey = (edge) => JSON.stringify(["destination", labelOf(edge.label), edge.destination_host, edge.destination_port,
  edge.destination_host === null ? edge.destination_domain : null]);
const isRest = (edge) => edge.destination_host === OTHER && edge.source_namespace === null && edge.source_workload === null && edge.source_ip === null;

/** What the width of an edge says. */
export const MEASURES = {
  requests: (edge) => edge.requests,
  bytes: (edge) => edge.bytes_sent + edge.bytes_received,
};

/**
 * Nodes and edges to draw. At most `rows` nodes on the left and per band on the right, those with the most; the
 * others are one node each, with their edges added up, so that nothing is missing from the picture.
 * `fresh(row)` says in a word or two what is new about a destination. Returns `{sources: [node], bands: [{label, nodes, requests}], edges: [edge]}`; a node has `key, row, requests,
 * value, folded, fresh, edges`, an edge `key, row, source, destination, label, requests, value, width`.
 */
export function model(rows, { measure, rows: limit, fresh }) {
  const value = MEASURES[measure];
  const sources = nodes(rows, sourceKey, value, () => "");
  const destinations = nodes(rows, destinationKey, value, fresh);
  const left = fold(sources, limit, "sources");
  const right = BANDS.map((label) => ({ label, ...fold(destinations.filter((node) => node.label === label), limit, label) }));
  const place = new Map([...left.of, ...right.flatMap((band) => [...band.of])]);
  const edges = joined(rows, place, value);
  for (const edge of edges) {
    edge.source.edges.push(edge);
    edge.destination.edges.push(edge);
  }
  widen(edges, [...left.nodes, ...right.flatMap((band) => band.nodes)]);
  const bands = right.filter((band) => band.nodes.length).map(({ label, nodes: shown, all }) =>
    ({ label, nodes: shown, requests: all.reduce((sum, node) => sum + node.requests, 0) }));
  arrange(left.nodes, bands);
  return { sources: left.nodes, bands, edges };
}

function nodes(rows, keyOf, value, fresh) {
  const found = new Map();
  for (const row of rows) {
    const key = keyOf(row);
    const node = found.get(key) ?? { key, row, label: labelOf(row.label), requests: 0, value: 0, rest: isRest(row), fresh: "", edges: [] };
    node.requests += row.requests;
    node.value += value(row);
    node.fresh ||= fresh(row);
    found.set(key, node);
  }
  return [...found.values()].sort((one, other) => one.rest - other.rest || other.value - one.value || (one.key < other.key ? -1 : 1));
}

function fold(all, limit, name) {
  const most = all.length > limit + 1 ? limit : all.length; // one that would stand alone is shown instead
  const shown = all.slice(0, most);
  const rest = all.slice(most);
  const of = new Map(shown.map((node) => [node.key, node]));
  if (rest.length) {
    const sum = (field) => rest.reduce((total, node) => total + node[field], 0);
    const folded = { ...rest[0], key: `rest ${name}`, row: null, requests: sum("requests"), value: sum("value"),
      folded: rest.length, fresh: "", edges: [] };
    for (const node of rest) of.set(node.key, folded);
    shown.push(folded);
  }
  return { nodes: shown, of, all };
}

function joined(rows, place, value) {
  const found = new Map();
  for (const row of rows) {
    const [source, destination] = [place.get(sourceKey(row)), place.get(destinationKey(row))];
    const whole = !source.folded && !destination.folded && !isRest(row);
    const key = whole ? JSON.stringify(edgeKey(row)) : `${source.key} → ${destination.key}`;
    const edge = found.get(key) ?? { key, row: whole ? row : null, source, destination, label: labelOf(row.label),
      requests: 0, errors: 0, sent: 0, received: 0, value: 0 };
    edge.requests += row.requests;
    edge.errors += row.errors;
    edge.sent += row.bytes_received; // Envoy counts from the workload's side: what it received, the workload sent
    edge.received += row.bytes_sent;
    edge.value += value(row);
    found.set(key, edge);
  }
  return [...found.values()];
}

function widen(edges, all) {
  const most = Math.max(1, ...edges.map((edge) => edge.value));
  const tallest = Math.max(1, ...all.map((node) => node.edges.reduce((sum, edge) => sum + edge.value, 0)));
  const each = Math.min(WIDEST / most, TALLEST / tallest);
  for (const edge of edges) edge.width = Math.max(THINNEST, edge.value * each);
  for (const node of all) node.height = node.edges.reduce((sum, edge) => sum + edge.width, 0);
}

/** Sort the left so that edges cross little, then each node's edges by where their other end is. */
function arrange(sources, bands) {
  const place = new Map(bands.flatMap((band) => band.nodes).map((node, at) => [node, at]));
  const middle = (node) => node.edges.reduce((sum, edge) => sum + place.get(edge.destination), 0) / node.edges.length;
  const at = new Map(sources.map((node) => [node, node.folded || node.rest ? Infinity : middle(node)]));
  sources.sort((one, other) => (at.get(one) === at.get(other) ? 0 : at.get(one) - at.get(other)));
  const leftPlace = new Map(sources.map((node, index) => [node, index]));
  for (const node of sources) node.edges.sort((one, other) => place.get(one.destination) - place.get(other.destination));
  for (const node of place.keys()) node.edges.sort((one, other) => leftPlace.get(one.source) - leftPlace.get(other.source));
}
