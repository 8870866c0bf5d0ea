"""What must be stored of some traffic, once it is known which offset each message has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from chaos import traffic as made
from chaos.traffic import Traffic

KEY: Final = (
    "window_start", "source_namespace", "source_workload", "source_ip", "label", "destination_host",
    "destination_host_source", "destination_port", "protocol", "response_code",
)  # fmt: skip
SUMS: Final = ("requests", "mismatches", "bytes_sent", "bytes_received", "duration_ms_sum")
MEASURES: Final = (
    *SUMS, "duration_ms_max", "duration_buckets", "destination_ips", "first_event", "last_event",
)  # fmt: skip
TIERS: Final = ("1m", "1h", "1d")


@dataclass(frozen=True)
class Truth:
    """Everything by its place.

    records: partition, offset, seq, KEY (window_start is the minute) and what the measures are made of;
        `event` says whether it is young enough for the events table.
    rejects, filtered: partition, offset, seq, reason.
    messages: partition, offset, fate ("records", "rejected" or "filtered").
    """

    records: pl.DataFrame
    rejects: pl.DataFrame
    filtered: pl.DataFrame
    messages: pl.DataFrame

    def windows(self, tier: str) -> pl.DataFrame:
        """The view's rows: KEY and MEASURES, partitions summed."""
        rows = self.records.with_columns(pl.col("window_start").dt.truncate(tier))
        return aggregate(rows, list(KEY))

    def prefixes(self) -> pl.DataFrame:
        """Of each partition and key, what its row must say at each offset that has a record of that key.

        partition, KEY, offset, SUMS, duration_ms_max, first_event, last_event.
        """
        over = ["partition", *KEY]
        ordered = self.records.sort("partition", "offset", "seq")
        running = ordered.select(
            *over,
            "offset",
            pl.int_range(1, pl.len() + 1).over(over).alias("requests"),
            pl.col("mismatch").cast(pl.Int64).cum_sum().over(over).alias("mismatches"),
            *(pl.col(name).cum_sum().over(over) for name in ("bytes_sent", "bytes_received")),
            pl.col("duration").cum_sum().over(over).alias("duration_ms_sum"),
            pl.col("duration").cum_max().over(over).alias("duration_ms_max"),
            pl.col("event_time").cum_min().over(over).alias("first_event"),
            pl.col("event_time").cum_max().over(over).alias("last_event"),
        )
        # Several records of one message count at once.
        return running.unique([*over, "offset"], keep="last", maintain_order=True)

    def counts(self, partition: int) -> dict[str, object]:
        """What `progress` must say of a partition once everything is read."""
        messages = self.messages.filter(partition=partition)
        records = self.records.filter(partition=partition)
        fates = dict(messages["fate"].value_counts().iter_rows())
        return {
            "last_offset": messages["offset"].max(),
            "messages": messages.height,
            "messages_with_records": fates.get("records", 0),
            "messages_filtered": fates.get("filtered", 0),
            "messages_rejected": fates.get("rejected", 0),
            "records": records.height,
            "events": int(records["event"].sum()),
            "gaps": 0,
            "filtered": _reasons(self.filtered, partition),
            "rejected": _reasons(self.rejects, partition),
        }


def _reasons(outcomes: pl.DataFrame, partition: int) -> dict[str, int]:
    return dict(outcomes.filter(partition=partition)["reason"].value_counts().iter_rows())


def aggregate(records: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    """Sum records by a key into the measures of a window."""
    return (
        records.group_by(key)
        .agg(
            pl.len().cast(pl.Int64).alias("requests"),
            pl.col("mismatch").sum().cast(pl.Int64).alias("mismatches"),
            pl.col("bytes_sent").sum(),
            pl.col("bytes_received").sum(),
            pl.col("duration").sum().alias("duration_ms_sum"),
            pl.col("duration").max().alias("duration_ms_max"),
            *(
                (pl.col("bucket") == bucket).sum().cast(pl.Int64).alias(f"bucket_{bucket}")
                for bucket in range(len(made.BOUNDS_MS) + 1)
            ),
            pl.col("destination_ip").drop_nulls().unique().sort().alias("destination_ips"),
            pl.col("event_time").min().alias("first_event"),
            pl.col("event_time").max().alias("last_event"),
        )
        .with_columns(pl.concat_list(pl.col("^bucket_.*$")).alias("duration_buckets"))
        .select(*key, *MEASURES)
    )


def truth(traffic: Traffic, places: pl.DataFrame) -> Truth:
    """What must be stored; `places` are message, partition and offset of everything in the topic."""
    kinds = pl.DataFrame({"message": np.arange(traffic.count), "message_kind": traffic.kinds})
    placed = places.join(kinds, on="message", maintain_order="left")
    assert placed.height == places.height
    records = _with_fate(placed.drop("message_kind").join(traffic.records, on="message"), traffic.now)
    parts = placed.filter(pl.col("message_kind").is_in([made.PART, made.LOST_PART, made.CRI_PART]))
    assert parts["message"].is_unique().all(), "parts of split lines came twice: their truth is another one"
    given_up = _given_up(placed)
    place = ["partition", "offset", "seq", "reason"]
    rejects = pl.concat(
        [
            records.filter(fate="rejected").select(place),
            given_up.select(
                "partition",
                "offset",
                pl.lit(0, pl.Int64).alias("seq"),
                pl.lit("unfinished_partial").alias("reason"),
            ),
        ]
    )
    fates = records.group_by("partition", "offset").agg(
        pl.when((pl.col("fate") == "records").any())
        .then(pl.lit("records"))
        .when((pl.col("fate") == "rejected").any())
        .then(pl.lit("rejected"))
        .otherwise(pl.lit("filtered"))
        .alias("fate")
    )
    good = _capped(_keyed(records.filter(fate="records")))
    return Truth(good, rejects, records.filter(fate="filtered").select(place), fates)


def _with_fate(records: pl.DataFrame, now: int) -> pl.DataFrame:
    """Add `fate` and `reason`, and `age_days` as of `now`: Kafka has the records minutes later, no matter."""
    kind, age = pl.col("kind"), (now - pl.col("ended")) / made.DAY_MS
    bad = pl.lit(None, pl.String)
    for one, reason in made.REASONS.items():
        bad = pl.when(kind == one).then(pl.lit(reason)).otherwise(bad)
    bad = (
        pl.when((kind == made.TORN_ARRAY) & (pl.col("seq") == made.BAD_SEQ))
        .then(pl.lit("bad_value"))
        .otherwise(bad)
    )
    partial = kind.is_in([made.PART, made.LOST_PART, made.CRI_PART])
    frame = records.with_columns(age.alias("age_days"))
    frame = frame.with_columns(
        pl.when(bad.is_not_null())
        .then(bad)
        .when(~partial & (age < -1))
        .then(pl.lit("future_event_time"))
        .when(~partial & (age > made.WINDOWS_TTL_DAYS))
        .then(pl.lit("past_retention"))
        .alias("why_rejected"),
        pl.when(partial)
        .then(pl.lit("partial"))
        .when(kind == made.INBOUND)
        .then(pl.lit("inbound"))
        .alias("why_filtered"),
    )
    return frame.with_columns(
        pl.when(pl.col("why_rejected").is_not_null())
        .then(pl.lit("rejected"))
        .when(pl.col("why_filtered").is_not_null())
        .then(pl.lit("filtered"))
        .otherwise(pl.lit("records"))
        .alias("fate"),
        pl.coalesce("why_rejected", "why_filtered").alias("reason"),
    )


def _given_up(placed: pl.DataFrame) -> pl.DataFrame:
    """Parts whose rest never came, and behind which the partition has gone on for long enough."""
    ends = placed.group_by("partition").agg(pl.col("offset").max().alias("end"))
    lost = placed.filter(message_kind=made.LOST_PART).join(ends, on="partition")
    return lost.filter(pl.col("offset") + made.SPAN <= pl.col("end"))


def _keyed(records: pl.DataFrame) -> pl.DataFrame:
    source = (
        pl.when(label="outbound")
        .then(pl.lit("registry"))
        .when("tcp")
        .then(pl.lit("sni"))
        .otherwise(pl.lit("authority"))
    )
    event_time = pl.col("ended").cast(pl.Datetime("ms", "UTC"))
    bucket = np.searchsorted(np.array(made.BOUNDS_MS), records["duration"].to_numpy())
    return records.with_columns(
        pl.Series("bucket", bucket),
        event_time.alias("event_time"),
        event_time.dt.truncate("1m").alias("window_start"),
        (pl.col("age_days") <= made.EVENTS_TTL_DAYS).alias("event"),
        pl.col("name").alias("destination_host"),
        source.alias("destination_host_source"),
        pl.col("port").cast(pl.Int64).alias("destination_port"),
        pl.col("address").alias("destination_ip"),
    )


def _capped(records: pl.DataFrame) -> pl.DataFrame:
    """Count as `(other)` what comes after the first CAP destinations of a window, workload and partition."""
    over = ["partition", "window_start", "source_namespace", "source_workload", "source_ip"]
    destination = ["destination_host", "destination_host_source", "destination_port"]
    ranks = (
        records.sort("offset", "seq")
        .unique([*over, *destination], keep="first", maintain_order=True)
        .select(*over, *destination, pl.int_range(1, pl.len() + 1).over(over).alias("rank"))
    )
    marked = records.join(ranks, on=[*over, *destination], nulls_equal=True, maintain_order="left")
    other = pl.col("rank") > made.CAP
    return marked.with_columns(
        pl.col("destination_host").alias("event_host"),
        pl.when(other).then(pl.lit("(other)")).otherwise("destination_host").alias("destination_host"),
        pl.when(other)
        .then(pl.lit("other"))
        .otherwise("destination_host_source")
        .alias("destination_host_source"),
        pl.when(~other).then("destination_port").alias("destination_port"),
        pl.when(~other).then("destination_ip").alias("destination_ip"),
    )
