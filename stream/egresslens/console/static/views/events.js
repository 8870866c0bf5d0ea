import { ask } from "../api.js";
import { h } from "../dom.js";
import { destinationName, sourceName } from "../names.js";
import { badge, facts, nothing, statements, tag } from "../parts.js";
import { filters, go, range, read } from "../state.js";
import { clipped } from "../table.js";
import { bytes, duration, moment, NONE, plural, visible } from "../text.js";

const KEPT = 1000; // records on the page while following
const FIELDS = { request_id: "Request id", path: "Path begins with", code: "Code", flag: "Flag" };
const EXAMPLES = { request_id: "4f2c0d9e-…", path: "/v1/", code: "503 or 5xx", flag: "UH" };

let following = null; // {key, records, cursor}: what came in since the search, for the same question

export default {
  id: "events",
  title: "Records",
  about: "Single access-log records, newest first.",
  labelled: true,
  every: 2,

  async load(state, signal) {
    const asked = { ...range(state), ...filters(state), label: state.label, ...own(state), limit: 100 };
    const key = JSON.stringify(asked);
    if (following?.key === key) {
      const more = await ask("events", { ...asked, follow: following.cursor }, signal);
      following = { ...following, cursor: more.follow ?? following.cursor, cut: following.cut || more.cut,
        records: [...more.records, ...following.records].slice(0, KEPT) };
    } else {
      const first = await ask("events", asked, signal);
      following = { key, records: first.records, cursor: first.follow, next: first.next, sql: first.sql, asked, cut: false };
    }
    return { ...following };
  },

  says: ({ records }) => plural(records.length, "record"),

  draw(data, state, meta) {
    return [search(state), data.records.length ? recordTable(data) : nothing("records", meta), statements(data.sql)];
  },
};

const own = (state) => ({ request_id: state.request_id, path: state.path, code: words(state.code), flag: words(state.flag) });
const words = (text) => (text ? text.split(/[\s,]+/).filter(Boolean) : undefined);

function search(state) {
  const form = h("form", { class: "filters", "aria-label": "Search records", onsubmit: (event) => {
    event.preventDefault();
    go(Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, value.trim() || undefined])));
  } },
  Object.entries(FIELDS).map(([name, title]) => h("label", {}, title,
    h("input", { name, value: state[name] ?? "", placeholder: EXAMPLES[name], autocomplete: "off", spellcheck: "false", "data-key": `field ${name}` }))),
  h("button", { type: "submit" }, "Search"));
  return form;
}

function recordTable(data) {
  const body = h("tbody", {}, data.records.flatMap(recordRows));
  const older = data.next && h("button", { type: "button", class: "more", "data-key": "older", onclick: () => more(data, body, older) }, "Show older ones");
  return h("div", { class: "table" },
    data.cut && h("p", { class: "quiet" }, "More came in than is shown here: narrow the filters to see each."),
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Records" },
      h("table", { class: "records" },
        h("caption", {}, "Records", h("span", { class: "quiet" }, ` newest first${read().live === "on" ? ", following" : ""}`)),
        h("thead", {}, h("tr", {}, ["Time (UTC)", "Workload", "Destination", "Label"].map((title) => h("th", { scope: "col" }, title)),
          h("th", { scope: "col", class: "number" }, "Code"), ["Request", "Flags"].map((title) => h("th", { scope: "col" }, title)),
          ["Took", "Out", "In"].map((title) => h("th", { scope: "col", class: "number" }, title)))),
        body)),
    older);
}

async function more(data, body, button) {
  button.disabled = true;
  const page = await ask("events", { ...data.asked, cursor: following.next }).catch((error) => error);
  button.disabled = false;
  if (page instanceof Error) {
    button.textContent = `${page.message} Try again`;
    return;
  }
  following = { ...following, next: page.next, records: [...following.records, ...page.records] };
  body.append(...page.records.flatMap(recordRows));
  if (!page.next) button.remove();
}

const identity = (row) => `record ${row.topic} ${row.partition} ${row.offset} ${row.seq}`;
const opened = new Set();

function recordRows(row) {
  const id = identity(row);
  const rows = [];
  const toggle = () => {
    if (opened.delete(id)) rows[1].remove();
    else {
      opened.add(id);
      rows[1] = detail(row);
      rows[0].after(rows[1]);
    }
    button.setAttribute("aria-expanded", String(opened.has(id)));
  };
  const button = h("button", { type: "button", class: "link", "aria-expanded": String(opened.has(id)), "data-key": id, onclick: toggle }, moment(row.event_time));
  rows.push(h("tr", {},
    h("th", { scope: "row", class: "time" }, button),
    h("td", {}, clipped(sourceName(row))),
    h("td", {}, clipped(destinationName(row)), row.mismatch && [" ", tag("mismatch", "warn")]),
    h("td", {}, badge(row.label)),
    h("td", { class: "number" }, row.response_code ?? NONE),
    h("td", {}, clipped([row.method, row.path].filter(Boolean).join(" ") || row.protocol || NONE)),
    h("td", {}, visible((row.response_flags ?? []).join(" ")) || NONE),
    h("td", { class: "number" }, duration(row.duration_ms)), h("td", { class: "number" }, bytes(row.bytes_received)), h("td", { class: "number" }, bytes(row.bytes_sent))));
  if (opened.has(id)) rows.push(detail(row));
  return rows;
}

/** All fields of a record that have a value. */
const detail = (row) => h("tr", { class: "detail" }, h("td", { colspan: 10 },
  facts(Object.entries(row).map(([name, value]) => [name, shown(value)]))));

function shown(value) {
  if (value === null || value === undefined || value === "" || (Array.isArray(value) && !value.length)) return null;
  return h("code", {}, visible(Array.isArray(value) ? value.join(" ") : value));
}
