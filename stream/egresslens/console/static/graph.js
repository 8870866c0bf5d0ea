// The egress graph: lists of workloads and destinations in HTML, and the edges between them in one SVG.

import { h, svg } from "./dom.js";
import { BANDS, model } from "./graphmodel.js";
import { destinationName, grouped, LABELS, sourceName } from "./names.js";
import { sign, tag } from "./parts.js";
import { go } from "./state.js";
import { bytes, count, plural, short } from "./text.js";

const TOP = 4; // px above a node's first edge
const DASHED = 4; // px; what was let out unknown is dashed when thin, and has a dashed line inside when wide

/** The graph of the API's edges; `measure` and `fresh` as in the model, `shown` nodes a side and band. `choose(kind, node or edge)` is called on click or Enter. */
export function graph(rows, { measure, shown, fresh, choose }) {
  const values = model(rows, { measure, rows: shown, fresh });
  const readout = h("p", { class: "readout" }, HINT);
  const unit = measure === "bytes" ? bytes : count;
  const left = h("ul", { class: "nodes", "aria-label": "Workloads" }, values.sources.map((node) => sourceItem(node, choose, shown)));
  const right = h("div", { class: "bands" }, values.bands.map((band) => bandBox(band, choose, shown)));
  const drawing = svg("svg", { class: "edges", role: "group", "aria-label": "Calls" });
  const box = h("div", { class: "graph", role: "group", "aria-label": "Egress graph. Arrow keys move between workloads, calls and destinations; Enter opens." },
    h("div", { class: "side" }, h("h3", {}, "Workloads"), left),
    h("div", { class: "middle" }, drawing),
    h("div", { class: "side" }, h("h3", {}, "Destinations"), right));
  const paths = new Map(values.edges.map((edge) => [edge, edgeShape(edge, unit, choose)]));
  // The thick ones first, so that a thin one is never hidden; blocked ones above all.
  drawing.append(...[...paths].sort(([one], [other]) => (one.label === "blackhole") - (other.label === "blackhole") || other.width - one.width)
    .map(([, shape]) => shape.group));
  const buttons = new Map([...box.querySelectorAll("[data-node]")].map((button) => [button.dataset.node, button]));
  const place = () => draw(drawing, values, paths, buttons);
  new ResizeObserver(place).observe(box);
  highlighting(box, values, paths, buttons, readout, unit);
  walking(box, values, paths, buttons);
  return [readout, box, key(values, measure)];
}

const HINT = "Point at a line or a name to see its numbers. Click it, or press Enter, for everything about it.";

function sourceItem(node, choose, shown) {
  if (node.folded) return foldedItem(node, "workloads", shown);
  return h("li", { style: { "min-height": `${node.height + 2 * TOP}px` } }, nodeButton(node, choose,
    h("span", { class: "name" }, node.rest ? "(other workloads)" : sourceName(node.row), " ", h("small", {}, grouped(node.row.sources, "workload"))),
    h("span", { class: "amount" }, short(node.requests))));
}

function bandBox(band, choose, shown) {
  const { name, about } = LABELS[band.label];
  return h("section", { class: `band ${band.label}`, "aria-label": `${name}, ${about}` },
    h("h4", {}, sign(band.label), h("span", { class: "name" }, name, " ", h("small", {}, about)), h("span", { class: "amount" }, short(band.requests))),
    h("ul", { class: "nodes", "aria-label": name }, band.nodes.map((node) => {
      if (node.folded) return foldedItem(node, "destinations", shown);
      const { row } = node;
      return h("li", { style: { "min-height": `${node.height + 2 * TOP}px` } }, nodeButton(node, choose,
        sign(band.label),
        h("span", { class: "name" }, node.rest ? "(other destinations)" : destinationName(row), " ", h("small", {}, grouped(row.destinations, "destination"))),
        node.fresh && tag(node.fresh, "good"),
        row.destination_kind && tag(row.destination_kind),
        h("span", { class: "amount" }, short(node.requests))));
    })));
}

const nodeButton = (node, choose, ...content) => h("button", {
  type: "button", tabindex: -1, "data-node": node.key, "data-key": node.key,
  title: node.rest ? null : (node.row.source_namespace !== undefined && node.key.startsWith('["source"') ? sourceName(node.row) : destinationName(node.row)),
  onclick: () => choose("node", node),
}, content);

function foldedItem(node, what, shown) {
  return h("li", { style: { "min-height": `${node.height + 2 * TOP}px` } }, h("button", {
    type: "button", class: "more", tabindex: -1, "data-node": node.key, "data-key": node.key,
    onclick: () => go({ rows: String(shown * 3) }, { quietly: true }),
  }, h("span", { class: "name" }, `+ ${count(node.folded)} more ${what}`), h("span", { class: "amount" }, short(node.requests))));
}

/** What an edge is called, with its numbers. */
function edgeText(edge) {
  const from = edge.row ? sourceName(edge.row) : edge.source.row ? sourceName(edge.source.row) : "other workloads";
  const to = edge.row ? destinationName(edge.row) : edge.destination.row ? destinationName(edge.destination.row) : "other destinations";
  const errors = edge.errors ? `, ${plural(edge.errors, "error")}` : "";
  return `${from} → ${to}: ${LABELS[edge.label].short}, ${plural(edge.requests, "request")}${errors}, ${bytes(edge.sent)} out, ${bytes(edge.received)} in`;
}

function edgeShape(edge, unit, choose) {
  const line = svg("path", { class: edge.width < DASHED ? "line thin" : "line", "stroke-width": edge.width.toFixed(2) });
  const core = edge.label === "passthrough" && edge.width >= DASHED
    && svg("path", { class: "core", "stroke-width": Math.min(2.5, edge.width / 4) });
  const reach = svg("path", { class: "reach", "stroke-width": Math.max(10, edge.width) });
  const stop = edge.label === "blackhole" && svg("g", { class: "stop" },
    svg("circle", { r: 7 }), svg("path", { d: "M-3 -3l6 6m0 -6l-6 6" }));
  const open = () => choose("edge", edge);
  const group = svg("g", {
    class: `edge ${edge.label}`, tabindex: -1, role: "button", "aria-label": edgeText(edge), "data-key": edge.key,
    onclick: open, onkeydown: (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); open(); } },
  }, line, core, reach, stop);
  return { group, lines: [line, core, reach].filter(Boolean), stop };
}

/** Put the edges between the nodes as the page has laid them out. */
function draw(drawing, values, paths, buttons) {
  const box = drawing.parentElement.getBoundingClientRect();
  if (!box.width) return;
  const at = new Map();
  for (const [node, button] of buttons) {
    const { top, height } = button.getBoundingClientRect();
    at.set(node, { y: top - box.top, height });
  }
  const height = Math.max(...[...at.values()].map((one) => one.y + one.height)) + 8;
  drawing.setAttribute("width", box.width);
  drawing.setAttribute("height", height);
  const starts = ends(values.sources, at);
  const stops = ends(values.bands.flatMap((band) => band.nodes), at);
  const middle = box.width / 2;
  for (const [edge, { lines, stop }] of paths) {
    const [from, to] = [starts.get(edge), stops.get(edge)];
    const d = `M0 ${from}C${middle} ${from} ${middle} ${to} ${box.width} ${to}`;
    for (const line of lines) line.setAttribute("d", d);
    if (stop) stop.setAttribute("transform", `translate(${middle} ${(from + to) / 2})`);
  }
}

/** Where each edge meets its node: one below the other, around the node's middle. */
function ends(nodes, at) {
  const found = new Map();
  for (const node of nodes) {
    const place = at.get(node.key);
    let y = place.y + (place.height - node.height) / 2;
    for (const edge of node.edges) {
      found.set(edge, Math.round((y + edge.width / 2) * 10) / 10);
      y += edge.width;
    }
  }
  return found;
}

/** Say what is pointed at or focused, and let what does not belong to it step back. */
function highlighting(box, values, paths, buttons, readout, unit) {
  const nodes = new Map([...values.sources, ...values.bands.flatMap((band) => band.nodes)].map((node) => [node.key, node]));
  const edges = new Map([...paths].map(([edge, { group }]) => [group, edge]));
  const of = (target) => {
    const edge = edges.get(target.closest("g.edge"));
    if (edge) return { lit: [edge], text: edgeText(edge) };
    const node = nodes.get(target.closest("[data-node]")?.dataset.node);
    if (!node) return null;
    return { lit: node.edges, text: `${buttons.get(node.key).querySelector(".name").textContent}: ${plural(node.requests, "request")} over ${plural(node.edges.length, "line")}, ${unit(node.value)}${unit === bytes ? "" : " in all"}` };
  };
  let shown = [];
  const light = (target) => {
    const found = target && of(target);
    for (const element of shown) element.classList.remove("on");
    shown = (found?.lit ?? []).flatMap((edge) => [paths.get(edge).group, buttons.get(edge.source.key), buttons.get(edge.destination.key)]);
    for (const element of shown) element.classList.add("on");
    box.classList.toggle("lit", shown.length > 0);
    readout.textContent = found ? found.text : HINT;
  };
  box.addEventListener("pointerover", (event) => light(event.target));
  box.addEventListener("pointerleave", () => light(null));
  box.addEventListener("focusin", (event) => light(event.target));
  box.addEventListener("focusout", () => light(null));
}

/** One stop for Tab, arrow keys inside: up and down in a column, left and right along the calls. */
function walking(box, values, paths, buttons) {
  const destinations = values.bands.flatMap((band) => band.nodes);
  const ordered = values.sources.flatMap((node) => node.edges);
  const columns = [values.sources.map((node) => buttons.get(node.key)), ordered.map((edge) => paths.get(edge).group), destinations.map((node) => buttons.get(node.key))];
  const across = new Map();
  for (const node of values.sources) across.set(buttons.get(node.key), { ArrowRight: paths.get(node.edges[0]).group });
  for (const node of destinations) across.set(buttons.get(node.key), { ArrowLeft: paths.get(node.edges[0]).group });
  for (const [edge, { group }] of paths) {
    across.set(group, { ArrowLeft: buttons.get(edge.source.key), ArrowRight: buttons.get(edge.destination.key) });
  }
  let stop = columns[0][0];
  stop?.setAttribute("tabindex", 0);
  const enter = (element) => {
    stop.setAttribute("tabindex", -1);
    stop = element;
    stop.setAttribute("tabindex", 0);
  };
  box.addEventListener("focusin", (event) => {
    const element = event.target.closest("[data-node], g.edge");
    if (element) enter(element);
  });
  box.addEventListener("keydown", (event) => {
    const column = columns.find((one) => one.includes(stop));
    const at = column?.indexOf(stop);
    const next = { ArrowUp: column?.[at - 1], ArrowDown: column?.[at + 1], Home: column?.[0], End: column?.at(-1), ...across.get(stop) }[event.key];
    if (!next) return;
    event.preventDefault();
    next.focus();
  });
}

/** What lines and signs mean. */
function key(values, measure) {
  const seen = BANDS.filter((label) => values.bands.some((band) => band.label === label));
  return h("ul", { class: "legend", "aria-label": "Key" },
    seen.map((label) => h("li", {},
      svg("svg", { class: "edges", width: 36, height: 14, "aria-hidden": "true" },
        svg("g", { class: `edge ${label}` }, svg("path", { class: "line", d: "M0 7h36", "stroke-width": label === "passthrough" ? 8 : 4 }),
          label === "passthrough" && svg("path", { class: "core", d: "M0 7h36", "stroke-width": 2 }),
          label === "blackhole" && svg("g", { class: "stop", transform: "translate(18 7)" }, svg("circle", { r: 6 }), svg("path", { d: "M-2.5 -2.5l5 5m0 -5l-5 5" })))),
      LABELS[label].about)),
    h("li", { class: "quiet" }, `width: ${measure === "bytes" ? "bytes both ways" : "requests"}`));
}
