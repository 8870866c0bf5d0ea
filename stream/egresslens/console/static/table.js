// Tables: a caption, header cells, numbers to the right, sorted by a header's button, drawn by the page.

import { h } from "./dom.js";
import { address, go, read } from "./state.js";
import { bytes, count, duration, NONE, plural, time, visible } from "./text.js";

const PAGE = 100;
const SHOW = { number: count, bytes, time, duration };
const RIGHT = new Set(["number", "bytes", "duration"]);
const drawn = new Map(); // caption → rows shown so far, so that a refresh does not fold them again

/**
 * A table of rows. A column is `{name, title, kind, value, cell}`: `kind` is text (default), number, bytes, duration
 * or time; `value(row)` gives what is sorted and shown (default `row[name]`), `cell(row)` a node instead.
 * `open(row)` makes the first cell a button. `sortable: false` where the order is an answer in itself.
 */
export function table(caption, columns, rows, { open = null, sortable = true, note = null } = {}) {
  const shown = columns.filter(Boolean);
  const [by, descending] = order(shown);
  const sorted = sortable && by ? [...rows].sort(comparing(by, descending)) : rows;
  const limit = drawn.get(caption) ?? PAGE;
  const body = h("tbody", {}, sorted.slice(0, limit).map((row) => line(shown, row, open)));
  const more = sorted.length > limit && h("button", { type: "button", class: "more", onclick: () => extend() });
  const extend = () => {
    const from = body.rows.length;
    body.append(...sorted.slice(from, from + PAGE).map((row) => line(shown, row, open)));
    drawn.set(caption, body.rows.length);
    label();
  };
  const label = () => {
    const left = sorted.length - body.rows.length;
    if (left > 0) more.textContent = `Show ${Math.min(PAGE, left)} more of ${plural(left, "row")}`;
    else more.remove();
  };
  if (more) label();
  return h(
    "div", { class: "table" },
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
      h("table", {},
        h("caption", {}, caption, h("span", { class: "quiet" }, ` ${plural(rows.length, "row")}${note ? `, ${note}` : ""}`)),
        h("thead", {}, h("tr", {}, shown.map((column) => heading(column, by, descending, sortable)))),
        body)),
    more,
  );
}

/** Text from a log, cut by the style sheet where it is too long, in full in its title. */
export const clipped = (text, kind = "clip") => h("span", { class: kind, title: visible(text) }, visible(text));

function order(columns) {
  const wanted = read().sort;
  if (!wanted) return [null, false];
  const descending = wanted.startsWith("-");
  return [columns.find((column) => column.name === wanted.replace(/^-/, "")) ?? null, descending];
}

const valueOf = (column, row) => (column.value ? column.value(row) : row[column.name]);

function comparing(column, descending) {
  const sign = descending ? -1 : 1;
  return (one, other) => {
    const [a, b] = [valueOf(column, one), valueOf(column, other)];
    if (a === b) return 0;
    if (a === null || a === undefined) return 1; // what is absent comes last either way
    if (b === null || b === undefined) return -1;
    return sign * (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
  };
}

function heading(column, by, descending, sortable) {
  const right = RIGHT.has(column.kind) && "number";
  if (!sortable || column.cell && !column.value && !column.kind) {
    return h("th", { scope: "col", class: right }, column.title);
  }
  const on = by?.name === column.name;
  const next = on ? (descending ? column.name : `-${column.name}`) : `${RIGHT.has(column.kind) ? "-" : ""}${column.name}`;
  return h(
    "th", { scope: "col", class: right, "aria-sort": on && (descending ? "descending" : "ascending") },
    h("button", {
      type: "button", "data-key": `sort ${column.name}`, onclick: () => go({ sort: next }, { quietly: true }),
    }, column.title, h("span", { class: "arrow", "aria-hidden": "true" }, on ? (descending ? "↓" : "↑") : "")),
  );
}

function line(columns, row, open) {
  const cells = columns.map((column, at) => {
    const content = column.cell ? column.cell(row) : shownValue(column, row);
    const inner = at === 0 && open
      ? h("button", { type: "button", class: "link", "data-key": JSON.stringify(open.key(row)), onclick: () => open.go(row) }, content)
      : content;
    const kind = RIGHT.has(column.kind) ? "number" : column.kind === "time" ? "time" : column.wide ? "wide" : null;
    return at === 0 ? h("th", { scope: "row", class: kind }, inner) : h("td", { class: kind }, inner);
  });
  return h("tr", {}, cells);
}

function shownValue(column, row) {
  const value = valueOf(column, row);
  if (column.kind && column.kind !== "text") return SHOW[column.kind](value);
  if (value === null || value === undefined || value === "") return h("span", { class: "quiet" }, NONE);
  return column.wide ? visible(value) : clipped(value);
}

/** A link to the present state with changes, followed inside the page. */
export const link = (changes, text, more = {}) => h("a", { href: address(changes), "data-nav": true, ...more }, text);
