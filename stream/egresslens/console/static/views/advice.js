import { ask } from "../api.js";
import { h } from "../dom.js";
import { destinationName } from "../names.js";
import { choice, copyable, empty, nothing, tag } from "../parts.js";
import { range } from "../state.js";
import { link, table } from "../table.js";
import { count, plural, time, visible } from "../text.js";

const VERDICTS = { allowed: "good", blocked: "bad", "still blocked": "warn", "no longer blocked": "good", "not judged": "" };

export default {
  id: "advice",
  title: "Advice",
  about: "The ServiceEntries and Sidecars that would allow what was seen, and what REGISTRY_ONLY would then block.",
  every: 60,
  filters: ["cluster"],

  load: (state, signal) => ask("advice", {
    ...range(state), cluster: state.cluster, include_blocked: state.include_blocked, registry_only: state.registry_only,
  }, signal),

  says: ({ objects }) => plural(objects.length, "object to apply", "objects to apply"),

  refused(error, state, again) {
    if (error.kind !== "cluster") return null;
    return empty("Which cluster?", error.detail, h("p", { class: "row" }, (error.clusters ?? []).map((cluster) =>
      link({ cluster }, visible(cluster), { class: "button" }))));
  },

  draw(data, state, meta) {
    if (meta && !meta.has_data) return nothing("records", meta);
    return [
      h("div", { class: "heading" },
        choice("include_blocked", "Blocked hosts", { "": "Leave out", true: "Advise too" }, state.include_blocked ?? ""),
        choice("registry_only", "Sidecars", { "": "Scope only", true: "Block the rest" }, state.registry_only ?? "")),
      whatif(data.whatif),
      data.objects.length
        ? [h("h2", {}, "To apply"), h("details", { class: "all" }, h("summary", {}, `All ${plural(data.objects.length, "object")} as one file, for kubectl apply -f`), copyable(data.yaml, "all objects as YAML")),
          h("div", { class: "cards" }, data.objects.map(card))]
        : empty("Nothing to advise", "Everything that was let out in this range is covered by a ServiceEntry, or was set apart below."),
      data.apart.length > 0 && [h("h2", {}, "Set apart"), data.apart.map((group) => h("details", { class: "apart" },
        h("summary", {}, visible(group.reason), h("span", { class: "quiet" }, ` ${plural(group.seen.length, "destination")}, ${plural(group.requests, "request")}`)),
        table(group.reason, [
          { name: "destination", title: "Destination", value: destinationName },
          { name: "requests", title: "Requests", kind: "number" },
          { name: "sources", title: "From", wide: true, value: (row) => row.sources.join(", ") },
        ], group.seen)))],
      data.unused?.length > 0 && table("Entries without traffic", [
        { name: "name", title: "ServiceEntry", value: (row) => `${row.namespace}/${row.name}` },
        { name: "last_seen", title: "Last seen (UTC)", kind: "time" },
      ], data.unused),
      data.unused === null && h("p", { class: "quiet" }, "The history is too short, or ends too early, to tell which entries are unused."),
      h("p", { class: "quiet" }, `From ${time(data.since)} to ${time(data.until)} UTC. Review before you apply: advice knows what was called, not what should be.`),
    ];
  },
};

/** What REGISTRY_ONLY would do now, and after the advice is applied. */
function whatif({ now, applied }) {
  const verdicts = Object.keys(VERDICTS).filter((verdict) => now[verdict] || applied[verdict]);
  if (!verdicts.length) return null;
  const total = (counts) => verdicts.reduce((sum, verdict) => sum + (counts[verdict] ?? 0), 0) || 1;
  const bar = (counts) => h("div", { class: "share", "aria-hidden": "true" }, verdicts.filter((verdict) => counts[verdict]).map((verdict) =>
    h("span", { class: VERDICTS[verdict] || "neutral", style: { "flex-grow": counts[verdict] / total(counts) } })));
  return h("section", { "aria-label": "What if" }, h("h2", {}, "What REGISTRY_ONLY would do"),
    h("table", { class: "whatif" }, h("caption", { class: "unseen" }, "Requests by verdict, today and with the advice applied"),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Requests"), verdicts.map((verdict) => h("th", { scope: "col", class: "number" }, verdict)), h("th", { scope: "col", class: "unseen" }, "Share"))),
      h("tbody", {}, [["with today’s registry", now], ["with the advice applied", applied]].map(([name, counts]) =>
        h("tr", {}, h("th", { scope: "row" }, name), verdicts.map((verdict) => h("td", { class: "number" }, count(counts[verdict] ?? 0))), h("td", { class: "wide" }, bar(counts)))))));
}

function card(object) {
  const callers = [...new Set(object.seen.flatMap((one) => one.sources))];
  return h("article", { class: "card" },
    h("h3", {}, visible(`${object.namespace}/${object.name}`)),
    h("p", { class: "row" }, tag(object.kind), tag(object.change, object.change === "new" ? "good" : "warn"),
      object.requests > 0 && h("span", { class: "quiet" }, plural(object.requests, "request"))),
    callers.length > 0 && h("p", {}, "For ", callers.map(visible).join(", ")),
    object.notes.length > 0 && h("ul", { class: "plain" }, object.notes.map((note) => h("li", {}, visible(note)))),
    copyable(object.yaml, `YAML of ${visible(object.name)}`));
}
