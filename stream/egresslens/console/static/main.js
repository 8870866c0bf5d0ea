// The page: what the address asks for is loaded, drawn, and kept up to date.

import { ask, Problem } from "./api.js";
import { drawControls, drawFreshness, drawNav, followTheme } from "./controls.js";
import { h, replace } from "./dom.js";
import { askEdge, close, drawEdge, drawLoading, drawNode, drawProblem, isOpen } from "./panel.js";
import { problem } from "./parts.js";
import { go, range, read } from "./state.js";
import advice from "./views/advice.js";
import alerts from "./views/alerts.js";
import events from "./views/events.js";
import graph from "./views/graph.js";
import pipeline from "./views/pipeline.js";
import { blocked, coverage, databases, fresh, regions } from "./views/reports.js";
import timeline from "./views/timeline.js";

const VIEWS = [graph, timeline, blocked, fresh, databases, regions, alerts, advice, events, coverage, pipeline];
const EVERY_S = 10;
const LONGEST_S = 120;
// Parameters that change the panel, and those that change the picture, but not the question.
const PANEL = { edge: undefined, node: undefined, live: undefined };
const QUIET = { ...PANEL, sort: undefined, rows: undefined, show: undefined };

const view = document.getElementById("view");
const panel = document.getElementById("panel");
const trouble = document.getElementById("trouble");
const status = document.getElementById("status");

const page = {
  state: null, // as drawn
  view: graph,
  data: null, // the answer of the drawn view
  meta: null,
  metaAt: 0,
  took: 0, // seconds that the last answer took
  failures: 0,
  timer: null,
  asking: null, // AbortController of what is under way
};

/** Draw what the address says: at once what is known, then what the API answers. */
async function show() {
  const [before, state] = [page.state, read()];
  page.state = state;
  page.view = VIEWS.find((one) => one.id === state.view) ?? graph;
  const other = !before || before.view !== state.view;
  const question = JSON.stringify({ ...state, ...QUIET });
  const asksAnew = page.question !== question;
  page.question = question;
  drawNav(VIEWS, page.view);
  drawControls(page.view, state, page.meta);
  document.title = `${page.view.title} – Egresslens`;
  if (other) {
    page.data = null;
    replace(view, intro(page.view), bones());
    scrollTo(0, 0);
    if (before) document.getElementById("main").focus({ preventScroll: true });
  }
  if (state.edge) showPanel(before);
  if (asksAnew) await refresh({ announce: true });
  else if (JSON.stringify({ ...before, ...PANEL }) !== JSON.stringify({ ...state, ...PANEL })) drawView();
  if (before && before.live !== state.live) {
    clearTimeout(page.timer);
    plan();
  }
  mark(state);
  if (!state.edge) await showPanel(before);
}

/** Ask for the view's data and draw it if it changed; then wait for the next turn. */
async function refresh({ announce = false } = {}) {
  clearTimeout(page.timer);
  page.asking?.abort();
  page.asking = new AbortController();
  const { signal } = page.asking;
  const { state, view: drawn } = page;
  document.body.classList.toggle("loading", announce);
  const began = Date.now();
  try {
    const [data, meta] = await Promise.all([drawn.load(state, signal), askMeta(announce, signal)]);
    page.failures = 0;
    page.took = (Date.now() - began) / 1000;
    trouble.replaceChildren();
    const same = page.data !== null && JSON.stringify(page.data) === JSON.stringify(data);
    page.data = data;
    page.meta = meta;
    drawControls(drawn, page.state, meta);
    drawFreshness(meta, drawn.timeless ? null : data.range ?? meta.range);
    if (!same || announce) drawView();
    if (announce) status.textContent = `${drawn.title}: ${drawn.says(data)}`;
    if (!announce && !same && page.state.edge) await showPanel(page.state);
  } catch (error) {
    if (signal.aborted) return;
    failed(error);
  } finally {
    if (!signal.aborted) document.body.classList.remove("loading");
  }
  if (!signal.aborted) plan();
}

/** What there is to filter by, and how new it is: not asked for at each turn of a view that follows. */
async function askMeta(anew, signal) {
  if (!anew && page.meta && Date.now() - page.metaAt < EVERY_S * 900) return page.meta;
  const meta = await ask("meta", range(page.state), signal);
  page.metaAt = Date.now();
  return meta;
}

/** The next turn: after the view's interval, five times what an answer takes, later and later while none comes. */
function plan() {
  if (page.state.live !== "on" || document.hidden) return;
  const fixed = page.state.until && new Date(page.state.until) < new Date();
  if (fixed && !page.failures) return; // what is past does not change while one looks
  const every = Math.max(page.view.every ?? EVERY_S, 5 * page.took);
  const wait = Math.min(LONGEST_S, Math.max(every, every * 2 ** page.failures));
  page.timer = setTimeout(refresh, wait * 1000 * (0.9 + Math.random() / 5));
}

function failed(error) {
  page.failures += 1;
  if (error.status === 401) {
    if (error.login) location.assign(`${error.login}?next=${encodeURIComponent(location.search)}`);
    else location.reload();
    return;
  }
  const special = error instanceof Problem && page.view.refused?.(error, page.state, again);
  if (special) replace(view, intro(page.view), special);
  else {
    trouble.replaceChildren(problem(error, again));
    if (page.data === null) replace(view, intro(page.view));
  }
  if (!(error instanceof Problem)) console.error(error);
}

function again() {
  return refresh({ announce: true });
}

function drawView() {
  if (page.data === null) return;
  const began = performance.now();
  replace(view, intro(page.view), page.view.draw(page.data, page.state, page.meta));
  mark(page.state);
  performance.measure("egresslens draw", { start: began });
}

/** Mark what the panel shows. */
function mark(state) {
  for (const one of view.querySelectorAll(".chosen")) one.classList.remove("chosen");
  const key = state.edge ?? state.node;
  if (key) for (const one of view.querySelectorAll(`[data-key="${CSS.escape(key)}"]`)) one.classList.add("chosen");
}

function intro(one) {
  return h("header", { class: "intro" }, h("h1", {}, one.title), h("p", { class: "quiet" }, one.about));
}

const bones = () => h("div", { class: "bones", "aria-hidden": "true" }, ["bone", "bone tall", "bone"].map((kind) => h("div", { class: kind })));

/** Show, fill or hide the panel, as the address says. */
async function showPanel(before) {
  const { state } = page;
  const open = isOpen(state);
  const changed = !before || before.edge !== state.edge || before.node !== state.node;
  document.body.classList.toggle("with-panel", open);
  panel.hidden = !open;
  // On a phone the panel covers the page, which nobody should then walk through.
  const covered = open && matchMedia("(max-width: 720px)").matches;
  for (const id of ["main", "views", "top"]) document.getElementById(id).inert = covered;
  if (!open) {
    if (before && isOpen(before)) view.querySelector(`[data-key="${CSS.escape(before.edge ?? before.node)}"]`)?.focus({ preventScroll: true });
    return;
  }
  if (changed) drawLoading(panel);
  if (changed && before) panel.querySelector("h2").focus();
  try {
    if (state.node) drawNode(panel, state.node, page.data?.edges ?? []);
    else {
      const answer = await askEdge(state);
      if (page.state.edge === state.edge) drawEdge(panel, answer);
    }
  } catch (error) {
    drawProblem(panel, error, () => showPanel(null));
  }
}

/** Links inside the page change the address without loading the page anew. */
function follow(event) {
  const link = event.target.closest?.("a[data-nav]");
  if (!link || event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  history.pushState(null, "", link.getAttribute("href"));
  dispatchEvent(new Event("statechange"));
}

/** Esc closes the panel, `/` goes to the host filter, `p` pauses; not while somebody types. */
function shortcut(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches?.("input, select, textarea");
  if (event.key === "Escape" && isOpen()) close();
  else if (typing) return;
  else if (event.key === "/") {
    event.preventDefault();
    document.querySelector("#filters input[name=host]")?.focus();
  } else if (event.key === "p") go({ live: read().live === "on" ? "off" : undefined }, { quietly: true });
}

addEventListener("popstate", () => show());
addEventListener("statechange", () => show());
document.addEventListener("visibilitychange", () => { if (!document.hidden && read().live === "on") refresh(); });
document.addEventListener("click", follow);
document.addEventListener("keydown", shortcut);
followTheme();
show();
