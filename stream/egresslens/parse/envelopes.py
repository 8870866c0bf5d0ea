"""Envelopes: what shippers wrap around a line, and the payload inside.

`split` takes messages apart that hold several records (JSON arrays, objects or lines one after the other,
OpenTelemetry's and Loki's batches). `unwrap` takes the line out of an object that carries one, whoever made
it: Fluent Bit, Fluentd, Filebeat, Elastic Agent, Vector, Logstash, Docker, Google Cloud, `egresslens ship`.
What an envelope says about the pod becomes the source of the line (`source.py`); the innermost envelope, the
one nearest to the proxy, wins.

A value arrives as text whether it was a string or an object. It was an object if it begins with `{` and the
message has the key followed by a brace (`"log":{`): inside a string that key's quotes would be escaped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final

import orjson
import polars as pl

from egresslens.outcome import Filtered, Reject
from egresslens.parse import otlp, partials, source
from egresslens.parse.jsontext import encoded, has_lone_surrogate
from egresslens.parse.ndjson import KEY
from egresslens.parse.otlp import RECORD_KEYS, Part, nanos_ms
from egresslens.parse.seats import FATE, PARTS, Seats
from egresslens.parse.stage import ENVELOPE, LINES, PLACE, Stage, filtered, rejected, trimmed
from egresslens.record import TIMESTAMP
from egresslens.rules import Rules

# Where a line may be, in order of preference: Fluent Bit and Docker; Filebeat, Vector, Logstash; journald;
# others; Google Cloud; Splunk and Logstash (`event.original`); then objects a shipper parsed the line into.
PAYLOADS: Final[tuple[str, ...]] = (
    "log",
    "message",
    "MESSAGE",
    "msg",
    "line",
    "body",
    "@rawstring",
    "textPayload",
    "event.original",
    "event",
    "log_processed",
    "jsonPayload",
    "json",
    "parsed",
)
TIMES: Final[tuple[str, ...]] = ("time", "timestamp", "@timestamp", "date", "receiveTimestamp", "ts")

# What tells about the pod, in order of trust. Google Cloud's pod labels come before its resource, which
# knows the pod's name alone: a label names the workload better than a name without its random parts.
READERS: Final[tuple[tuple[str, source.Read], ...]] = (
    ("kubernetes", source.cached(source.from_kubernetes)),
    ("labels", source.cached(source.from_gcp_labels)),
    ("resource", source.cached(source.from_resource)),
    ("resources", source.cached(source.from_resource)),
    ("orchestrator", source.from_orchestrator),
    ("cloud", source.from_cloud),
    ("cluster", source.from_cluster),
)
# Read only where no pod is known otherwise: they repeat it, or vary from line to line.
PLACES: Final[tuple[tuple[str, source.Read], ...]] = (
    ("file", source.from_path),
    ("filename", source.from_path),
    ("filepath", source.from_path),
    ("file_path", source.from_path),
    ("source", source.from_path),
    ("tag", source.from_path),
    ("log", source.from_path),
    ("container_name", source.from_docker_name),
    ("CONTAINER_NAME", source.from_docker_name),
)
# An object with one of these was made by a shipper.
MARKS: Final[tuple[str, ...]] = (
    "kubernetes",
    "stream",
    "@metadata",
    "@version",
    "source_type",
    "docker",
    "logName",
)
# A structured log line of a program's own has a level and one of these.
STRUCTURED: Final[tuple[str, ...]] = ("scope", "target", "logger", "msg")

KEYS: Final[tuple[str, ...]] = tuple(
    dict.fromkeys(
        (
            *PAYLOADS,
            *TIMES,
            *(key for key, _ in (*READERS, *PLACES)),
            *MARKS,
            "level",
            *STRUCTURED,
            *(key for keys in source.FLAT_KEYS.values() for key in keys),
        )
    )
)
# What Docker's json-file driver begins each line with.
DOCKER: Final = '{"log":"'
# The keys of the common envelopes, which cost half as much to read as all.
COMMON_KEYS: Final[tuple[str, ...]] = (
    "log",
    "message",
    "level",
    *TIMES[:3],
    "stream",
    "kubernetes",
    "orchestrator",
    "cloud",
    "cluster",
)

# --- several records in one message -------------------------------------------------------------------------

# A JSON array, not a text line in brackets: of objects, arrays or strings, or behind a number (`[ts, {…}]`).
_ARRAY: Final = r'^\[(?:\s*\[)*\s*(?:[{"]|-?\d+(?:\.\d+)?\s*,\s*[\[{"]|null\s*[,\]]|\])'
_ARRAY_RE: Final = re.compile(_ARRAY)
_BATCH: Final = r'^\{\s*"(?:resourceLogs|streams|values)"\s*:|^\{\s*"stream"\s*:\s*\{'
_BATCH_RE: Final = re.compile(_BATCH)
_BEHIND_OBJECT: Final = r"\}\s*\n\s*[^\s,}\]]|\}\s*,\s*\n\s*\{"
# Arrays nest no deeper in any shipper's output than Fluentd's `["tag", [[time, record]]]`.
_MAX_ARRAYS: Final = 4


def admit(messages: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    r"""Take OTLP protobuf out of a batch: (the other messages, PARTS).

    Args:
        messages: PLACE and `text`, still as bytes.
    """
    suspect = messages["text"].bin.starts_with(b"\n")
    found: list[tuple[int, Part]] = []
    binary: list[int] = []
    for index in suspect.arg_true():
        value = messages["text"][index]
        parts = otlp.from_bytes(value) if otlp.looks_binary(value) else None
        if parts is not None:
            found += [(len(binary), part) for part in parts]
            binary.append(index)
    if not binary:
        return messages, pl.DataFrame(schema=PARTS)
    holders = (
        messages[binary]
        .drop("text")
        .with_columns(pl.lit(None, dtype).alias(name) for name, dtype in LINES.items() if name not in PLACE)
    )
    index = pl.int_range(messages.height, eager=True)
    return messages.filter(~index.is_in(binary)), spread(holders, found)


def split(lines: pl.DataFrame, rules: Rules, seats: Seats) -> tuple[pl.DataFrame, Stage]:
    """Take apart what holds several records: (LINES, the parts that are none). One line stays one line."""
    text = pl.col("text")
    broken = lines["text"].str.contains("\n", literal=True)
    if broken.any():
        # An object over several lines is one record, unless something begins behind a closing brace.
        several = ~text.str.starts_with("{") | text.str.contains(_BEHIND_OBJECT)
        broken &= lines.select(several).to_series()
    chosen = lines.select(
        pl.lit(broken) | text.str.contains("}{", literal=True) | text.str.contains(_BATCH)
    ).to_series()
    if lines["text"].str.starts_with("[").any():
        chosen |= lines["text"].str.contains(_ARRAY)
    if not chosen.any():
        return lines, Stage()
    holders = lines.filter(chosen)
    texts = [
        _rejoined(text, rules.max_records_per_message) if may else text
        for text, may in zip(holders["text"], partials.may_hold_parts(holders["text"]), strict=True)
    ]
    parts = [(index, part) for index, text in enumerate(texts) for part in _parts(text, rules)]
    taken, stage = seats.take(spread(holders, parts))
    return pl.concat([lines.filter(~chosen), taken]).sort("message", "seq"), stage


def spread(holders: pl.DataFrame, parts: Sequence[tuple[int, Part]]) -> pl.DataFrame:
    """Rows of PARTS for (index into `holders`, part); a part's own source wins over its holder's."""
    schema = {
        "holder": pl.UInt32(),
        "own_text": pl.String(),
        "own_time": pl.Int64(),
        **{f"own_{name}": pl.String() for name in source.COLUMNS},
        **FATE,
    }
    rows = [(index, part.text, part.time_ms, *part.source, part.reason, part.field) for index, part in parts]
    frame = pl.DataFrame(rows, schema=schema, orient="row").join(
        holders.with_row_index("holder"), on="holder", how="left", maintain_order="left"
    )
    return frame.select(
        *PLACE,
        pl.coalesce(pl.col("own_time").cast(TIMESTAMP), "envelope_time").alias("envelope_time"),
        *(pl.coalesce(f"own_{name}", name).alias(name) for name in ENVELOPE if name != "envelope_time"),
        pl.col("own_text").alias("text"),
        *FATE,
    )


def _rejoined(text: str, bound: int) -> str:
    """A message with what a runtime split among its lines, or among an array's values, put together."""
    if not _ARRAY_RE.match(text):
        return "\n".join(partials.rejoined(text.split("\n")))
    items = _items(text, bound)
    return f"[{','.join(partials.rejoined(items))}]" if items and len(items) <= bound else text


def _parts(text: str, rules: Rules) -> list[Part]:
    """The records of one message, up to the first one beyond the bound."""
    bound = rules.max_records_per_message
    parts: list[Part] = []
    for piece in _pieces(text, bound, rules.log_format):
        parts += _array(piece, bound) if _ARRAY_RE.match(piece) else _batch(piece)
        if len(parts) > bound:
            break
    return parts


# Where a line of text begins: the time, perhaps behind a prefix, or the request; else it goes on with the
# line before, which something broke in two.
_START: Final = re.compile(
    r'(?:[^"\[\]{}\n]{0,256}\[)?\d{4}-\d\d-\d\d[T ]|ACCESS |"(?:[A-Z]{3,16}|-) |[{[]\s*["{]'
)


# What stands around a line that was pasted, and a time that a terminal or an editor broke off its line.
_FENCE: Final = re.compile(r"```\w*|~~~|\.{3}|\u2026")
_TIME_ALONE: Final = re.compile(r"\[?20\d\d-\d\d-\d\dT[\d:.]{5,18}Z\]?")


def _pieces(text: str, bound: int, log_format: Sequence[str]) -> list[str]:
    """Cut objects or lines that follow one another; JSON written over several lines is one piece."""
    lines = [line for line in (piece.strip() for piece in text.split("\n")) if line]
    if text.startswith("{"):
        each = len(lines) > 1 and all(line[0] == "{" and line[-1] == "}" for line in lines)
        return lines if each else _objects(text, bound)
    if _ARRAY_RE.match(text):
        each = len(lines) > 1 and all(line[0] == "[" and line[-1] == "]" for line in lines)
        return lines if each else [text]
    if any("\n" in custom.strip() for custom in log_format):
        return [text]
    if log_format:
        return lines
    # Where there is nothing but that, it is what was sent.
    lines = [line for line in lines if not _FENCE.fullmatch(line)] or lines
    if len(lines) > 1 and _TIME_ALONE.fullmatch(lines[0]):
        lines = [f"{lines[0]} {lines[1]}", *lines[2:]]
    starts = [place for place, line in enumerate(lines) if not place or _START.match(line)]
    ends = [*starts[1:], len(lines)]
    return ["\n".join(lines[start:end]) for start, end in zip(starts, ends, strict=True)]


def _objects(text: str, bound: int) -> list[str]:
    """Objects that follow one another, with lines of text between them; else the text as it is.

    More than `bound` are cut off right behind the bound.
    """
    found: list[str] = []
    start = 0
    while start < len(text) and len(found) <= bound:
        if text[start] == "{":
            end = _end(text, start)
            if end < 0:
                # No JSON, or broken: nobody knows where the first object ends.
                return [text]
        else:
            end = text.find("\n", start)
            end = len(text) if end < 0 else end
        found.append(text[start:end].strip())
        start = _BETWEEN.match(text, end).end()  # type: ignore[union-attr]  # it matches everywhere
    return [piece for piece in found if piece]


# What matters for where an object or array ends. A quote or backslash that is alone belongs to no JSON.
_STRING: Final = r'"[^"\\]*(?:\\.[^"\\]*)*"'
_TOKENS: Final = {
    "{": re.compile(rf'{_STRING}|[{{}}"\\]', re.DOTALL),
    "[": re.compile(rf'{_STRING}|[\[\]"\\]', re.DOTALL),
}
_SCALAR: Final = re.compile(rf"{_STRING}|-?\d[-+.\deE]*|true|false|null", re.DOTALL)
_NUMBER: Final = re.compile(r"\s*\[?\s*(-?\d+(?:\.\d+)?)\s*(?:,|$)")
_SPACE: Final = re.compile(r"\s*")
# Between objects that follow one another: an array's commas, without its brackets.
_BETWEEN: Final = re.compile(r"[\s,]*")


# Finds the end of sound JSON ten times as fast as counting brackets. Its values are not used.
_DECODE: Final = json.JSONDecoder(strict=False, parse_int=str, parse_float=str).raw_decode


def _end(text: str, start: int) -> int:
    """Where the object or array that begins at `start` ends, sound or not; -1 if it does not."""
    try:
        return _DECODE(text, start)[1]
    except (ValueError, RecursionError):
        return _balanced(text, start)


def _balanced(text: str, start: int) -> int:
    opening = text[start]
    depth = 0
    for token in _TOKENS[opening].finditer(text, start):
        match token[0]:
            case "{" | "[":
                depth += 1
            case "}" | "]":
                depth -= 1
                if not depth:
                    return token.end()
            case '"' | "\\":
                return -1
    return -1


def _items(text: str, bound: int) -> list[str] | None:
    """The values of a JSON array as they are written, up to the first beyond `bound`; None if it is none."""
    items: list[str] = []
    at = _SPACE.match(text, 1).end()  # type: ignore[union-attr]  # it matches everywhere
    last = len(text) - 1
    if at == last and text[at] == "]":
        return items
    while at < len(text):
        if text[at] in "{[":
            end = _end(text, at)
        else:
            scalar = _SCALAR.match(text, at)
            end = scalar.end() if scalar else -1
        if end < 0:
            return None
        items.append(text[at:end])
        at = _SPACE.match(text, end).end()  # type: ignore[union-attr]  # it matches everywhere
        if len(items) > bound or (at == last and text[at] == "]"):
            return items
        if text[at : at + 1] != ",":
            return None
        at = _SPACE.match(text, at + 1).end()  # type: ignore[union-attr]  # it matches everywhere
    return None


def _array(text: str, bound: int, depth: int = _MAX_ARRAYS) -> list[Part]:
    """The records of a JSON array; more than `bound` are as many as it takes to be refused."""
    items = _items(text, bound)
    if items is None:
        return [Part(None, reason=Reject.INVALID_JSON.value)]
    if not depth:
        return [Part(None, reason=Reject.BAD_ENVELOPE.value)]
    if len(items) > bound:
        return [_EMPTY] * (bound + 1)
    return _records(items, bound, depth) or [_EMPTY]


def _records(items: Sequence[str], bound: int, depth: int) -> list[Part]:
    """The records among an array's values.

    Beside records, arrays hold times and tags: `[time, record]` (Fluent Bit), `[[time, metadata], record]`
    (Fluent Bit from 2.1), `[tag, time, record]` and `[tag, [[time, record], …]]` (Fluentd).
    """
    if len(items) == 2 and items[1][0] == "{" and (head := _NUMBER.match(items[0])):
        return _batch(items[1], epoch_ms(head[1]))
    time_ms = next((epoch_ms(item) for item in items if _NUMBER.match(item) and item[0] != "["), None)
    nested = any(item[0] in "{[" for item in items)
    parts: list[Part] = []
    for item in items:
        if len(parts) > bound:
            break
        if item[0] == "[":
            parts += _array(item, bound - len(parts), depth - 1)
        elif item[0] == "{":
            parts += _batch(item, time_ms)
        elif item == "null":
            parts.append(_EMPTY)
        elif not nested:
            parts += _scalar(item)
    return parts


_EMPTY: Final = Part(None, reason=Reject.EMPTY.value)


def _scalar(item: str) -> list[Part]:
    """A string in an array of strings is a line."""
    try:
        text = orjson.loads(item)
    except orjson.JSONDecodeError:
        reason = Reject.LONE_SURROGATE if has_lone_surrogate(item) else Reject.INVALID_JSON
        return [Part(None, reason=reason.value)]
    return _batch(text) if isinstance(text, str) else [Part(None, reason=Reject.UNKNOWN_FORMAT.value)]


def _batch(text: str, time_ms: int | None = None) -> list[Part]:
    """The records of an OpenTelemetry or Loki batch; any other text is one part."""
    if _BATCH_RE.match(text):
        try:
            found = orjson.loads(text)
        except orjson.JSONDecodeError:
            found = {}
        if "resourceLogs" in found:
            return otlp.from_json(found)
        if isinstance(found.get("streams"), list):
            return [part for stream in found["streams"] for part in _loki(stream)] or [_NO_VALUES]
        if isinstance(found.get("stream"), dict) and "values" in found:
            return _loki(found)
    text = text.strip()
    return [Part(text, time_ms) if text else _EMPTY]


_NO_VALUES: Final = Part(None, reason=Reject.BAD_ENVELOPE.value, field="values")


def _loki(stream: object) -> list[Part]:
    """One of Loki's streams: its labels, and values of (nanoseconds, line, perhaps structured metadata)."""
    if not isinstance(stream, dict) or not isinstance(values := stream.get("values"), list):
        return [_NO_VALUES]
    labels = stream.get("stream")
    sender = source.from_stream(labels) if isinstance(labels, dict) else source.UNKNOWN
    return [
        otlp.line(value[1], nanos_ms(value[0]), sender)
        if isinstance(value, list) and len(value) >= 2 and isinstance(value[1], str)
        else _NO_VALUES
        for value in values
    ] or [_NO_VALUES]


# --- one record in one object -------------------------------------------------------------------------------


def unwrap_common(rows: pl.DataFrame) -> tuple[pl.DataFrame, Stage]:
    """Take lines out of the common envelopes, by COMMON_KEYS alone.

    Returns:
        (LINES of the rows that need a look at all keys, the others as a Stage; its `lines` are the payloads)
    """
    rows = rows.with_columns(pl.coalesce(_log_line(rows), f"{KEY}message").alias("payload"))
    fits = rows.select(
        (
            pl.col(f"{KEY}kubernetes").str.starts_with("{").fill_null(value=False)
            | pl.col(f"{KEY}stream").is_in(("stdout", "stderr")).fill_null(value=False)
        )
        & pl.col(f"{KEY}level").is_null()
        & _filled(pl.col("payload"))
    ).to_series()
    left = rows.select(list(LINES)).filter(~fits)
    return left, _lines(_proxied(rows if fits.all() else rows.filter(fits)))


def unwrap(rows: pl.DataFrame, rules: Rules) -> tuple[pl.DataFrame, Stage]:
    """Take payloads out of envelopes.

    Args:
        rows: PLACE, ENVELOPE, `text` and `$.key` columns of `KEYS`.
        rules: with custom formats, an object without a known payload may itself be a record.

    Returns:
        (rows that are records themselves, everything else as a Stage; its `lines` are the payloads)
    """
    if rows.is_empty():
        return rows, Stage()
    rows, stage = _proxied(rows)
    present = {key: pl.col(KEY + key).is_not_null() for key in (*RECORD_KEYS, *MARKS, *STRUCTURED, "level")}
    rows = rows.with_columns(
        log_line=_log_line(rows),
        is_record=pl.any_horizontal(present[key] for key in sorted(RECORD_KEYS)),
        marked=pl.any_horizontal(present[key] for key in MARKS),
        structured=present["level"] & pl.any_horizontal(present[key] for key in STRUCTURED),
    ).with_columns(payload=_payload(rows))
    own = pl.col("is_record") | (pl.col("structured") & pl.col("payload").is_null())
    records, others = rows.filter(own), rows.filter(~own)
    wrapped = others.filter(pl.col("payload").is_not_null())
    stage += _lines((wrapped, Stage()))
    records_too, searched = _unknown(others.filter(pl.col("payload").is_null()), rules)
    return _told(pl.concat([records, records_too])), stage + searched


def beside(rows: pl.DataFrame) -> tuple[pl.DataFrame, Stage]:
    """Lines whose keys a shipper put beside its own: (LINES with what COMMON_KEYS tell, filtered)."""
    rows, stage = _proxied(rows)
    return rows.with_columns(_time(rows)).select(list(LINES)), stage


def _filled(column: pl.Expr) -> pl.Expr:
    return column.str.contains(r"\S").fill_null(value=False)


def _log_line(rows: pl.DataFrame) -> pl.Expr:
    """`log` where it is the line, rather than Filebeat's object about the file."""
    log = pl.col(f"{KEY}log")
    if rows[f"{KEY}log"].str.starts_with("{").any():
        was_object = log.str.starts_with("{") & pl.col("text").str.contains(r'"log"\s*:\s*\{')
        log = pl.when(~was_object).then(log)
    return pl.when(_filled(log)).then(log)


def _payload(rows: pl.DataFrame) -> pl.Expr:
    """The line, in the first of PAYLOADS that holds one.

    A structured log line's `message` is its own words; only `log` can be the whole of it.
    """
    columns = {key: pl.col(KEY + key) for key in PAYLOADS}
    if rows[f"{KEY}event"].str.starts_with("{").any():
        columns["event"] = pl.lit(rows[f"{KEY}event"].map_elements(_original, return_dtype=pl.String))
    candidates = [
        pl.when(_filled(columns[key])).then(columns[key])
        for key in PAYLOADS[1:]
        if rows[KEY + key].null_count() < rows.height
    ]
    return pl.coalesce("log_line", pl.when(~pl.col("structured")).then(pl.coalesce(*candidates, None)))


def _original(event: str) -> str | None:
    """Splunk's `event` is the line, or the parsed line; Elastic's is about it, and `original` is the line."""
    if not event.startswith("{"):
        return event
    found = source.json_object(event)
    original = found.get("original")
    return original if isinstance(original, str) else event if RECORD_KEYS.intersection(found) else None


def _lines(found: tuple[pl.DataFrame, Stage]) -> Stage:
    """The payloads of rows as LINES, beside what `found` holds already."""
    rows, stage = found
    if rows.is_empty():
        return stage
    text = trimmed(rows["payload"]).alias("text")
    return stage + Stage(lines=[rows.select(*PLACE, _time(rows), *list(ENVELOPE)[1:], text)])


def _unknown(rows: pl.DataFrame, rules: Rules) -> tuple[pl.DataFrame, Stage]:
    """Objects without a record's keys and without a payload: look deeper, or say what is missing."""
    if rows.is_empty():
        return rows, Stage()
    rows = rows.with_columns(
        payload=pl.Series([_within(text) for text in rows["text"]], dtype=pl.String),
        blank=pl.any_horizontal(pl.col(KEY + key).is_not_null() for key in PAYLOADS),
    )
    deep = pl.col("payload").is_not_null()
    stage = _lines((rows.filter(deep), Stage()))
    rows = rows.filter(~deep)
    # A custom JSON format has keys of its own, which may have been lifted beside the shipper's.
    envelope = pl.col("marked") & (not rules.log_format)
    blank = envelope & pl.col("blank")
    stage += rejected(rows.filter(blank), Reject.EMPTY)
    stage += rejected(rows.filter(envelope & ~blank), Reject.BAD_ENVELOPE, _payload_key())
    return rows.filter(~envelope).select(pl.exclude("blank")), stage


def _payload_key() -> pl.Expr:
    """The key under which this kind of envelope should hold its line."""
    google = pl.col(f"{KEY}logName").is_not_null()
    beats = pl.any_horizontal(
        pl.col(KEY + key).is_not_null() for key in ("@metadata", "@version", "source_type")
    )
    return (
        pl.when(google)
        .then(pl.lit("textPayload"))
        .when(beats)
        .then(pl.lit("message"))
        .otherwise(pl.lit("log"))
    )


# A shipper may put the parsed line under any key (`Merge_Log_Key`), at any depth that is sane.
_MAX_SEARCH: Final = 6


def _within(text: str) -> str | None:
    """The record that an object holds somewhere inside, as JSON text."""
    if '"start_time"' not in text and '"upstream_cluster"' not in text:
        return None
    try:
        found: list[Any] = [orjson.loads(text)]
    except orjson.JSONDecodeError:
        return None
    for _ in range(_MAX_SEARCH):
        found = [value for item in found for value in item.values() if isinstance(value, dict)]
        for item in found:
            if len(RECORD_KEYS.intersection(item)) > 1:
                record = encoded(item)
                return None if record is None else record.decode()
    return None


def _told(rows: pl.DataFrame) -> pl.DataFrame:
    """Records with the identity their own fields tell, where no envelope knows better."""
    frames = _flat(rows)
    if frames:
        known = rows.select(list(ENVELOPE)[1:])
        rows = rows.with_columns(_over([known, *frames], rows.height).drop("container"))
    marked = pl.col("marked")
    # Keys that mean one thing in a record and another beside it.
    foreign = [name for name in ("host", "timestamp") if KEY + name in rows.columns]
    return rows.with_columns(
        _time(rows),
        *(
            pl.when(~marked & ~pl.col(KEY + name).str.starts_with("{")).then(KEY + name).alias(KEY + name)
            for name in foreign
        ),
    ).drop("log_line", "is_record", "marked", "structured", "payload")


def _flat(rows: pl.DataFrame) -> list[pl.DataFrame]:
    columns = {
        field: [KEY + key for key in keys if rows[KEY + key].null_count() < rows.height]
        for field, keys in source.FLAT_KEYS.items()
    }
    told = rows.select(
        pl.coalesce(_name(column) for column in names).alias(field)
        for field, names in columns.items()
        if names
    )
    return [
        source.resolve(told[field], read)
        for field, read in source.FLAT_READERS.items()
        if field in told.columns
    ]


def _name(column: str) -> pl.Expr:
    value = pl.col(column).str.strip_chars()
    return pl.when((value != "-") & (value != "") & ~value.str.starts_with("{")).then(value)


# --- source and time ----------------------------------------------------------------------------------------


def _proxied(rows: pl.DataFrame) -> tuple[pl.DataFrame, Stage]:
    """Rows with ENVELOPE's columns filled; those of other containers than istio-proxy are filtered."""
    given = set(rows.columns)
    frames = [
        source.resolve(rows[KEY + key], read)
        for key, read in READERS
        if KEY + key in given and rows[KEY + key].null_count() < rows.height
    ]
    pod = _first(frames, "source_pod", rows.height)
    if pod.null_count():
        unplaced = rows.select(
            pl.when(pod.is_null()).then(KEY + key).alias(key) for key, _ in PLACES if KEY + key in given
        )
        frames += [
            source.resolve(unplaced[key], read)
            for key, read in PLACES
            if key in unplaced.columns and unplaced[key].null_count() < rows.height
        ]
    if not frames:
        return rows, Stage()
    outer = rows.select(list(ENVELOPE)[1:])
    rows = rows.with_columns(_over([*frames, outer], rows.height))
    other = (pl.col("container") != source.PROXY_CONTAINER).fill_null(value=False)
    stage = filtered(rows.filter(other), Filtered.OTHER_CONTAINER)
    return (rows.filter(~other) if stage.filtered else rows).drop("container"), stage


def _over(frames: Sequence[pl.DataFrame], height: int) -> pl.DataFrame:
    """The first known value of each of source.COLUMNS."""
    return pl.DataFrame({name: _first(frames, name, height) for name in source.COLUMNS})


def _first(frames: Sequence[pl.DataFrame], name: str, height: int) -> pl.Series:
    """The first known value of a column."""
    columns = [frame[name] for frame in frames if name in frame.columns]
    told = [column for column in columns if column.null_count() < height]
    if not told:
        return pl.Series(name, [None], dtype=pl.String).new_from_index(0, height)
    return told[0] if not told[0].null_count() else pl.select(pl.coalesce(told)).to_series()


def _time(rows: pl.DataFrame) -> pl.Expr:
    """When the envelope was made, else what an outer one said."""
    given = [KEY + key for key in TIMES if KEY + key in rows.columns]
    texts = rows.select(pl.coalesce(given)).to_series()
    return pl.coalesce(pl.lit(times(texts)), "envelope_time").alias("envelope_time")


def times(texts: pl.Series) -> pl.Series:
    """Read shippers' times: RFC 3339 with any fraction and offset, or epoch seconds to nanoseconds."""
    frame = texts.alias("text").to_frame()
    text = pl.col("text")
    seconds = text.str.slice(0, 19).str.to_datetime("%Y-%m-%dT%H:%M:%S", time_unit="ms", strict=False)
    millis = text.str.slice(20, 3).str.strip_chars_end("Z").str.pad_end(3, "0").cast(pl.UInt16, strict=False)
    moment = (seconds + pl.duration(milliseconds=millis.fill_null(0))).dt.replace_time_zone("UTC")
    found = frame.select(pl.when(text.str.ends_with("Z")).then(moment)).to_series()
    if found.null_count() == texts.null_count():
        return found
    frame = frame.with_columns(pl.when(found.is_null()).then(text))
    # Epoch times of 10, 13, 16 or 19 digits: the first 13 digits, with those of a fraction, are milliseconds.
    digits = pl.concat_str(text.str.extract(_EPOCH, 1), text.str.extract(_EPOCH, 2).fill_null(""))
    epoch = digits.str.pad_end(13, "0").str.slice(0, 13).cast(pl.Int64, strict=False).cast(TIMESTAMP)
    offset = text.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%z", time_unit="ms", time_zone="UTC", strict=False)
    return frame.select(pl.coalesce(pl.lit(found), epoch, offset)).to_series()


_EPOCH: Final = r"^(\d{10}(?:\d{3}){0,3})(?:\.(\d+))?$"
_EPOCH_RE: Final = re.compile(_EPOCH)


def epoch_ms(text: str) -> int | None:
    """Read one epoch time, as `times` does."""
    found = _EPOCH_RE.match(text)
    return int((found[1] + (found[2] or "")).ljust(13, "0")[:13]) if found else None
