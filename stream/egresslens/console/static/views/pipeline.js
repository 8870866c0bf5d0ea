import { ask } from "../api.js";
import { barTable } from "../chart.js";
import { h } from "../dom.js";
import { empty, statements, tag, tiles } from "../parts.js";
import { table } from "../table.js";
import { ago, count, share, visible } from "../text.js";

const sumOf = (counts) => Object.values(counts ?? {}).reduce((sum, one) => sum + one, 0);
const pairs = (counts) => Object.entries(counts ?? {}).sort(([, one], [, other]) => other - one).map(([name, value]) => [visible(name), value]);

export default {
  id: "pipeline",
  title: "Pipeline",
  about: "Whether all that is logged arrives: lag, rates, and what could not be read.",
  unfiltered: true,
  timeless: true,

  load: (state, signal) => ask("pipeline", {}, signal),

  says: ({ totals }) => (totals.lag === null ? "lag unknown" : `lag ${count(totals.lag)}`),

  draw(data) {
    const { totals, partitions } = data;
    if (!partitions.length) {
      return empty("No worker has stored anything yet",
        h("p", {}, "Start one with ", h("code", {}, "egresslens worker"), ", and ship logs to its topic."), kafka(data));
    }
    const [left, rejected] = [sumOf(totals.filtered), sumOf(totals.rejected)];
    return [
      tiles(
        { name: "Lag", value: totals.lag === null ? "unknown" : count(totals.lag), note: totals.lag === null ? "Kafka not asked" : "messages to go" },
        { name: "Rate", value: data.rates.messages_per_s === null ? "…" : count(Math.round(data.rates.messages_per_s * 10) / 10), note: "messages a second" },
        { name: "Messages", value: count(totals.messages), note: `${count(totals.records)} records` },
        { name: "Kept", value: count(totals.events), note: "records stored" },
        { name: "Left out", value: count(left), note: "inbound, internal" },
        { name: "Not read", value: count(rejected), note: share(rejected, totals.messages) },
        { name: "Stored last", value: ago(data.last_event, data.now) },
      ),
      kafka(data),
      totals.gaps > 0 && h("p", { class: "notice" }, `${count(totals.gaps)} offsets were never delivered: removed by retention or compaction before a worker read them.`),
      h("div", { class: "pair" },
        h("section", {}, rejected ? barTable("Could not be read, by reason", "Reason", pairs(totals.rejected)) : h("p", {}, tag("everything could be read", "good"))),
        h("section", {}, left > 0 && barTable("Left out, by label", "Label", pairs(totals.filtered)))),
      table("Kafka partitions", [
        { name: "partition", title: "Partition", value: (row) => `${row.topic} ${row.partition}` },
        { name: "lag", title: "Lag", kind: "number" },
        { name: "last_offset", title: "Stored to", kind: "number" },
        { name: "end_offset", title: "End", kind: "number" },
        { name: "messages", title: "Messages", kind: "number" },
        { name: "events", title: "Kept", kind: "number" },
        { name: "messages_filtered", title: "Left out", kind: "number" },
        { name: "messages_rejected", title: "Not read", kind: "number" },
        { name: "gaps", title: "Gaps", kind: "number" },
        { name: "updated_at", title: "Written", value: (row) => row.updated_at, cell: (row) => ago(row.updated_at, data.now) },
      ], partitions),
      data.dead_letters.length > 0 && table("Dead letters", [
        { name: "reason", title: "Reason" },
        { name: "field", title: "Field" },
        { name: "topic", title: "Topic" },
        { name: "count", title: "Records", kind: "number" },
        { name: "first_seen", title: "First (UTC)", kind: "time" },
        { name: "last_seen", title: "Last (UTC)", kind: "time" },
      ], data.dead_letters),
      data.latest_dead_letters.length > 0 && table("Latest dead letters", [
        { name: "kafka_timestamp", title: "Time (UTC)", kind: "time" },
        { name: "reason", title: "Reason" },
        { name: "field", title: "Field" },
        { name: "place", title: "Where", value: (row) => `${row.topic} ${row.partition}:${row.offset}${row.seq ? ` (${row.seq})` : ""}` },
        { name: "raw_size", title: "Size", kind: "bytes" },
      ], data.latest_dead_letters),
      data.dead_letters.length > 0 && h("p", { class: "quiet" }, "Look at one with ", h("code", {}, "egresslens dlq show"), ", and once the format is set, ", h("code", {}, "egresslens dlq replay"), "."),
      statements(data.sql),
    ];
  },
};

const kafka = ({ kafka: { reachable, why } }) => (reachable ? null
  : h("p", { class: "notice" }, h("strong", {}, "Lag is unknown. "), visible(why ?? "Kafka does not answer."), " Check EGRESSLENS_KAFKA_BROKERS of the console."));
