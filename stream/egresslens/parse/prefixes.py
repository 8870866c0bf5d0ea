"""What container runtimes and log viewers put before a line, taken off column by column.

What a prefix says (time, namespace, pod) goes into the ENVELOPE columns, unless an envelope around it has
said so already.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import polars as pl

from egresslens.parse import source
from egresslens.parse.values import times

_TIME: Final = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)"
# The container runtimes' own file format (CRI): `TIME STREAM TAGS LINE`; tag F is the end of a line.
_CRI: Final = rf"^{_TIME} std(?:out|err) F(?::\S*)?(?: |$)"
# `kubectl logs --timestamps`
_STAMPED: Final = rf"^{_TIME} (?:\[20\d\d-|\{{)"
_NAME: Final = r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?"
_ANSI: Final = "\x1b\\[[0-9;]*m"
# `kubectl logs --prefix`, `stern` (also over all namespaces), `docker compose logs`; then a time, perhaps.
_VIEWER: Final = (
    rf"(?s)^(?:\[pod/({_NAME})/{_NAME}\] |(?:({_NAME}) )?({_NAME}) {_NAME} |\S+ *\| )?"
    rf"(?:({_TIME}) )?"
    r'(\[20.*|\{.*|\\?".*)$'
)
# Any other prefix: what follows it says by itself that it is a line of Envoy's.
_OTHER: Final = (
    r'(?s)^(?:[^"]{1,256}?(\[20\d\d-\d\d-\d\dT[0-9:.,]+(?:Z|[+-]\d\d:?\d\d)?\]? .*)'
    r'|[^\[\]{}"\\]{0,256}?[\s|:`\'(\x{feff}](\\?"(?:[A-Z]{3,16}|-) .*|\{\s*".*))$'
)
# Milliseconds alone are Envoy's own %START_TIME%, which may have lost its brackets.
_OWN_TIME: Final = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \\?\""


def runtime(lines: pl.DataFrame) -> pl.DataFrame:
    """Take off what the container runtime and `kubectl logs --timestamps` write: lines in, lines out (LINES).

    A prefix of the wrong shape stays, and so does that of a partial line (tag P).
    """
    # Most lines have none, and a look at the first byte costs a tenth.
    if lines.select((pl.col("text").str.starts_with("{") | pl.col("text").str.starts_with("[")).all()).item():
        return lines
    cri = lines["text"].str.contains(_CRI)
    stamped = lines["text"].str.contains(_STAMPED)
    if not (cri.any() or stamped.any()):
        return lines
    parts = [
        lines.filter(~(cri | stamped)),
        _behind_time(lines.filter(cri), 4),
        _behind_time(lines.filter(stamped), 2),
    ]
    parts = [part for part in parts if part.height]
    return parts[0] if len(parts) == 1 else pl.concat(parts).sort("message", "seq")


def _behind_time(lines: pl.DataFrame, words: int) -> pl.DataFrame:
    """The text behind `words` - 1 words, the first of which is the time."""
    cut = lines["text"].str.splitn(" ", words).struct.unnest()
    return lines.with_columns(
        cut[f"field_{words - 1}"].fill_null("").str.strip_chars_start().alias("text"),
        pl.coalesce("envelope_time", times(cut["field_0"])).alias("envelope_time"),
    )


def viewer(lines: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Part lines (LINES) by whether a log viewer, or whoever, put something before them.

    Returns:
        (lines without prefix; lines that had one, with what it said, and the text behind it)
    """
    bare = pl.col("text").str.contains(r'^(?:\[20|\{|\\?")')
    rest = lines.filter(~bare)
    if rest.is_empty():
        return lines, rest
    text = rest["text"].str.replace_all(_ANSI, "")
    found = text.str.extract_groups(_VIEWER).struct.unnest()
    found.columns = ["prefix_pod", "namespace", "pod", "time", "rest"]
    other = text.str.extract_groups(_OTHER).struct.unnest()
    behind = pl.when(~text.str.contains(_OWN_TIME)).then(pl.coalesce(found["rest"], *other))
    place = pl.concat_str(pl.col("namespace").fill_null(""), pl.coalesce("prefix_pod", "pod"), separator=" ")
    said = source.resolve(found.select(place).to_series(), _named).with_columns(
        times(found["time"]).alias("envelope_time")
    )
    rest = rest.with_columns(
        behind.alias("text:behind"),
        *(
            pl.coalesce(name, said[name]).alias(name)
            for name in ("envelope_time", "source_namespace", "source_workload", "source_pod", "source_role")
        ),
    )
    unstripped = rest.filter(pl.col("text:behind").is_null()).select(lines.columns)
    stripped = rest.filter(pl.col("text:behind").is_not_null())
    return (
        pl.concat([lines.filter(bare), unstripped]),
        stripped.with_columns(pl.col("text:behind").alias("text")).select(lines.columns),
    )


@lru_cache(4_096)
def _named(text: str) -> source.Source:
    """Read `NAMESPACE POD`; the namespace may be empty."""
    namespace, _, pod = text.partition(" ")
    return source.from_pod(pod, namespace or None, {})
