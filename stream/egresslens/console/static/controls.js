// What stands around a view: navigation, range, filters, live, theme, and how fresh the data is.

import { h, replace } from "./dom.js";
import { LABELS } from "./names.js";
import { go, read, viewAddress } from "./state.js";
import { ago, time, visible } from "./text.js";

const RANGES = { "15m": "15 minutes", "1h": "1 hour", "6h": "6 hours", "24h": "24 hours", "7d": "7 days", "30d": "30 days", "90d": "90 days" };
const FILTERS = { cluster: "Cluster", namespace: "Namespace", workload: "Workload", host: "Host" };
const GROUPS = { graph: "Look", blocked: "Ask", events: "Check" };

const element = (id) => document.getElementById(id);

export function drawNav(views, current) {
  replace(element("views"), h("ul", {}, views.map((view) => [
    GROUPS[view.id] && h("li", { class: "group", "aria-hidden": "true" }, GROUPS[view.id]),
    h("li", {}, h("a", {
      href: viewAddress(view.id), "data-nav": true, "data-key": `view ${view.id}`, "aria-current": view === current && "page",
    }, view.title)),
  ])));
  // On a phone the views are one row that scrolls; what is shown must be in sight.
  const bar = element("views");
  const here = bar.querySelector("[aria-current]");
  bar.scrollLeft = here.offsetLeft - (bar.clientWidth - here.offsetWidth) / 2;
}

/** Range, filters and live of the state; what a view does not take is left out. */
export function drawControls(view, state, meta) {
  drawRange(view, state);
  drawFilters(view, state, meta);
  const live = element("live");
  const on = state.live === "on";
  live.setAttribute("aria-pressed", String(on));
  live.textContent = on ? "Live" : "Paused";
  live.title = `${on ? "Updates by itself; press to pause" : "Paused; press to update by itself"} (p)`;
  live.onclick = () => go({ live: on ? "off" : undefined }, { quietly: true });
}

function drawRange(view, state) {
  const form = element("range");
  form.hidden = Boolean(view.timeless);
  if (form.contains(document.activeElement) && form.dataset.of === rangeKey(state)) return;
  form.dataset.of = rangeKey(state);
  const since = state.from ? "custom" : state.since;
  const known = since in RANGES || since === "custom" ? RANGES : { ...RANGES, [since]: since };
  const select = h("select", { name: "since", "data-key": "range", onchange: () => {
    if (select.value === "custom") go({ since: undefined, from: minute(Date.now() - 3_600_000), until: minute(Date.now()) });
    else go({ since: select.value, from: undefined, until: undefined });
  } }, Object.entries(known).map(([value, text]) => h("option", { value, selected: value === since }, `Last ${text}`)),
  h("option", { value: "custom", selected: since === "custom" }, "From … to …"));
  const moment = (name, title) => {
    const input = h("input", { type: "datetime-local", name, value: (state[name] ?? "").slice(0, 16), "data-key": `range ${name}`, onchange: () => {
      if (input.value) go({ [name]: `${input.value}:00Z` });
    } });
    return h("label", {}, title, input);
  };
  replace(form, h("label", {}, h("span", { class: "unseen" }, "Time range"), select),
    since === "custom" && [moment("from", "from"), moment("until", "to"), h("span", { class: "quiet" }, "UTC")]);
}

const rangeKey = (state) => JSON.stringify([state.since, state.from, state.until]);
const minute = (moment) => `${new Date(moment).toISOString().slice(0, 16)}:00Z`;

function drawFilters(view, state, meta) {
  const form = element("filters");
  form.hidden = Boolean(view.unfiltered);
  const names = (view.filters ?? Object.keys(FILTERS)).filter((name) => name !== "cluster" || state.cluster || meta?.clusters.length > 1);
  const key = JSON.stringify([names, view.labelled, names.map((name) => state[name]), state.label, meta?.namespaces, meta?.clusters, meta?.workloads.length]);
  if (form.dataset.of === key) return;
  form.dataset.of = key;
  const on = [...names, view.labelled && "label"].filter((name) => name && state[name]);
  replace(form, names.map((name) => filter(name, state, meta)), view.labelled && labels(state),
    on.length > 0 && h("button", { type: "button", class: "link", "data-key": "clear filters", onclick: () => go(Object.fromEntries(on.map((name) => [name, undefined]))) }, "Clear"));
  form.onsubmit = (event) => event.preventDefault();
}

function filter(name, state, meta) {
  const options = known(name, state, meta);
  const list = options.length > 0 && h("datalist", { id: `known-${name}` }, options.map((value) => h("option", { value })));
  const input = h("input", {
    name, value: state[name] ?? "", list: list && list.id, placeholder: name === "host" ? "any, * for any text" : "any", autocomplete: "off", spellcheck: "false",
    "data-key": `filter ${name}`, onchange: () => go({ [name]: input.value.trim() || undefined }),
    onkeydown: (event) => { if (event.key === "Enter" && (read()[name] ?? "") !== input.value.trim()) go({ [name]: input.value.trim() || undefined }); },
  });
  return h("label", { class: state[name] ? "on" : null }, FILTERS[name], input, list);
}

function known(name, state, meta) {
  if (!meta) return [];
  if (name === "cluster") return meta.clusters.filter(Boolean);
  if (name === "namespace") return meta.namespaces.filter(Boolean);
  if (name !== "workload") return [];
  const mine = meta.workloads.filter((one) => !state.namespace || one.source_namespace === state.namespace);
  return [...new Set(mine.map((one) => one.source_workload).filter(Boolean))];
}

function labels(state) {
  const select = h("select", { name: "label", "data-key": "filter label", onchange: () => go({ label: select.value || undefined }) },
    h("option", { value: "" }, "any"),
    Object.entries(LABELS).map(([value, { name, short }]) => h("option", { value, selected: state.label === value }, `${name}: ${short}`)));
  return h("label", { class: state.label ? "on" : null }, "Label", select);
}

/** What the answer covers and how new the newest record is. */
export function drawFreshness(meta, range) {
  const each = range && { 60: "minutes", 3600: "hours", 86400: "days" }[range.step_s];
  replace(element("freshness"), h("span", { title: range ? `${time(range.since)} to ${time(range.until)} UTC, read from ${each ?? "records"}` : null },
    meta.last_event ? `Newest ${ago(meta.last_event, meta.now)}` : "No records"));
  replace(element("account"), meta.logout && h("form", { method: "post", action: "logout" }, h("span", { class: "quiet" }, visible(meta.user ?? "")), h("button", { type: "submit" }, "Log out")));
}

/** The button that goes from the system's theme to dark to light; the choice is kept in this browser. */
export function followTheme() {
  const button = element("theme");
  const draw = () => {
    const theme = document.documentElement.dataset.theme ?? "auto";
    button.textContent = `Theme: ${theme}`;
  };
  button.addEventListener("click", () => {
    const next = { auto: "dark", dark: "light", light: "auto" }[document.documentElement.dataset.theme ?? "auto"];
    if (next === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    try {
      if (next === "auto") localStorage.removeItem("egresslens.theme");
      else localStorage.setItem("egresslens.theme", next);
    } catch {
      // Storage is refused: the choice holds for this page.
    }
    draw();
  });
  draw();
}
