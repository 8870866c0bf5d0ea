// Small things that several views show: badges, tiles, texts to copy, states without data.

import { h, svg } from "./dom.js";
import { LABELS, labelOf } from "./names.js";
import { address, go, read } from "./state.js";
import { ago, plural, visible } from "./text.js";

const SHAPES = {
  // A shape for each situation, so that colour is never the only sign: octagon with a cross, open ring with a
  // question mark, filled circle with a tick, square.
  blackhole: ["M5.5 1.5h5l4 4v5l-4 4h-5l-4-4v-5z", "M5.5 5.5l5 5m0-5l-5 5"],
  passthrough: ["M8 1.5a6.5 6.5 0 1 0 .01 0z", "M6.2 6.3a1.9 1.9 0 1 1 2.6 1.8c-.6.3-.8.6-.8 1.2m0 2.2v.1"],
  outbound: ["M8 1.5a6.5 6.5 0 1 0 .01 0z", "M5 8.2l2.1 2.1L11 6"],
  unknown: ["M2.5 2.5h11v11h-11z", "M5.5 8h5"],
};

/** The sign of a label, as an SVG of 16 × 16. */
export function sign(label) {
  const name = labelOf(label);
  const [outline, mark] = SHAPES[name];
  return svg("svg", { class: `sign ${name}`, viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" },
    svg("path", { class: "outline", d: outline }), svg("path", { class: "mark", d: mark }));
}

/** A label's sign and words. */
export const badge = (label) =>
  h("span", { class: `badge ${labelOf(label)}`, title: LABELS[labelOf(label)].about }, sign(label), LABELS[labelOf(label)].short);

/** A short word that qualifies something: `tag("new", "good")`. */
export const tag = (text, kind = "") => h("span", { class: `tag ${kind}` }, visible(text));

/** A figure with its name: `{name, value, note, kind}`. */
const tile = ({ name, value, note, kind }) =>
  h("div", { class: `tile ${kind ?? ""}` }, h("dt", {}, kind && sign(kind), name), h("dd", {}, value, note && h("small", {}, note)));

export const tiles = (...all) => h("dl", { class: "tiles" }, all.map(tile));

/** Pairs of a name and a value or node; those without a value are left out. */
export const facts = (pairs) =>
  h("dl", { class: "facts" }, pairs.filter(([, value]) => value !== null && value !== undefined && value !== "")
    .map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));

/** Buttons of which one is pressed; `options` is value → text, and pressing one sets the state's `name`. */
export function choice(name, title, options, value) {
  return h("div", { class: "choice", role: "group", "aria-label": title },
    h("span", { class: "quiet", "aria-hidden": "true" }, title),
    Object.entries(options).map(([key, text]) =>
      h("button", {
        type: "button", "aria-pressed": String(key === value), "data-key": `${name} ${key}`,
        onclick: () => go({ [name]: key, sort: undefined }),
      }, text)));
}

/** A text in a frame with a button that copies it. `name` says what is copied. */
export function copyable(text, name) {
  const code = h("pre", { tabindex: 0, role: "region", "aria-label": name }, visibleLines(text));
  const button = h("button", { type: "button", "data-key": `copy ${name}`, "aria-label": `Copy ${name}` }, "Copy");
  button.addEventListener("click", async () => {
    button.textContent = (await copied(text, code)) ? "Copied" : "Press Ctrl+C";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  return h("div", { class: "code" }, button, code);
}

// As `visible`, but lines stay lines.
const visibleLines = (text) => text.split("\n").map(visible).join("\n");

async function copied(text, code) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Off loopback without TLS there is no clipboard: the text is selected instead.
    getSelection().selectAllChildren(code);
    return false;
  }
}

/** The statements behind an answer, folded. */
export function statements(sql) {
  if (!sql?.length) return null;
  return h("details", { class: "sql" }, h("summary", {}, "The SQL behind this"),
    sql.map(({ name, text }) => h("section", {}, h("h4", {}, name), copyable(text, `SQL: ${name}`))));
}

/** Say that there is nothing, and what to do about it. */
export const empty = (title, ...advice) => h("div", { class: "empty" }, h("h2", {}, title), advice.map((one) => (one instanceof Node ? one : h("p", {}, one))));

/** Nothing was found: because nothing was ever stored, because of filters, or because of the range. */
export function nothing(what, meta) {
  if (meta && !meta.has_data) {
    return empty("No records yet",
      "The store is there and empty. Records appear here a few seconds after a worker has read them.",
      h("ol", {},
        h("li", {}, "Turn Envoy's access log on (Istio: meshConfig.accessLogFile, or the Telemetry API)."),
        h("li", {}, "Ship it to Kafka with any shipper, or try a file: ", h("code", {}, "egresslens ship access.log")),
        h("li", {}, "Run a worker: ", h("code", {}, "egresslens worker"), ". What it could not read is in ",
          h("a", { href: address({ view: "pipeline" }, {}), "data-nav": true }, "Pipeline"), ".")),
      h("p", {}, "Only trying? ", h("code", {}, "egresslens demo"), " makes traffic in all three situations."));
  }
  const state = read();
  const on = ["cluster", "namespace", "workload", "host", "label"].filter((name) => state[name]);
  const clear = on.length > 0 && h("button", {
    type: "button", onclick: () => go(Object.fromEntries(on.map((name) => [name, undefined]))),
  }, `Clear ${plural(on.length, "filter")}`);
  const wider = { "24h": "7d", "6h": "24h", "1h": "24h", "15m": "24h", "7d": "30d" }[state.since];
  return empty(`No ${what} in this range`,
    meta?.last_event && h("p", {}, `The newest record is of ${ago(meta.last_event, meta.now)}.`),
    h("p", { class: "row" }, clear, wider && h("button", { type: "button", onclick: () => go({ since: wider }) }, `Look at ${wider}`)));
}

/** Say that judgements are missing, where they are. */
export const notJudged = (data) => data.not_judged > 0 && h("p", { class: "notice" },
  `${plural(data.not_judged, "destination")} not judged yet: scope, kind, region and ServiceEntry are missing. To judge: `,
  h("code", {}, "egresslens registry refresh"), ".");

/** A text whose parts in backticks are code. */
const withCode = (text) => visible(text).split("`").map((part, at) => (at % 2 ? h("code", {}, part) : part));

/** A problem as a box: what happened, what to do, and a button that tries again. */
export function problem(error, again) {
  return h("div", { class: "problem", role: "alert" },
    h("h2", {}, error.title ?? "Something went wrong"), h("p", {}, withCode(error.detail ?? error.message ?? String(error))),
    error.hint && h("p", {}, h("strong", {}, "What to do: "), withCode(error.hint)),
    h("button", { type: "button", onclick: again }, "Try again"));
}
