"""Envoy's and Istio's default text layouts, read column by column.

A layout alternates bare and quoted parts. Cutting a line at its quotes and each bare part at its spaces gives
the fields; a line belongs to a layout only if every part has the layout's exact number of words. No two
layouts share both the number of quotes and the numbers of words, so a line fits one at most; a line that a
quote inside a header has changed fits none and takes the exact way of `odd.py`.

Layouts: Istio's source per release tag (`DefaultTextLogFormat`), Envoy's access_log/usage documentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import polars as pl

from egresslens.parse.stage import Stage
from egresslens.parse.values import TEXT_FIELDS, typed
from egresslens.rules import Rules

Q = tuple[str, ...] | str


@dataclass(frozen=True)
class Layout:
    """A text layout: bare parts are tuples of words, quoted parts are single names."""

    name: str
    parts: tuple[Q, ...]

    @property
    def quotes(self) -> int:
        """Number of double quotes in a line of this layout."""
        return 2 * sum(isinstance(part, str) for part in self.parts)


_TIME = ("[start_time]",)
_NUMBERS = ("bytes_received", "bytes_sent", "duration", "upstream_service_time")
_HEADERS: tuple[Q, ...] = (
    "x_forwarded_for", (), "user_agent", (), "request_id", (), "authority", (), "upstream_host",
)  # fmt: skip
_TAIL_4 = (
    "upstream_cluster", "upstream_local_address", "downstream_local_address", "downstream_remote_address",
)  # fmt: skip
_TAIL_5 = (*_TAIL_4, "requested_server_name")
_TAIL_6 = (*_TAIL_5, "route_name")
_STATUS = ("response_code", "response_flags")
_DETAILS = (*_STATUS, "response_code_details", "connection_termination_details")
_MIXER = "istio_policy_status"
_UTFR = "upstream_transport_failure_reason"

LAYOUTS: Final[tuple[Layout, ...]] = (
    Layout("istio_text_1.9", (_TIME, "request", _DETAILS, _UTFR, _NUMBERS, *_HEADERS, _TAIL_6)),
    Layout("istio_text_1.8", (_TIME, "request", _STATUS, _UTFR, _NUMBERS, *_HEADERS, _TAIL_6)),
    Layout("istio_text_1.3", (_TIME, "request", _STATUS, _MIXER, (), _UTFR, _NUMBERS, *_HEADERS, _TAIL_6)),
    Layout("istio_text_1.2", (_TIME, "request", _STATUS, _MIXER, (), _UTFR, _NUMBERS, *_HEADERS, _TAIL_5)),
    Layout("istio_text_1.1", (_TIME, "request", _STATUS, _MIXER, _NUMBERS, *_HEADERS, _TAIL_5)),
    Layout("istio_text_1.0", (_TIME, "request", (*_STATUS, *_NUMBERS), *_HEADERS, _TAIL_4)),
    Layout(
        "istio_text_1.0_tcp",
        (
            ("[start_time]", "response_flags", "bytes_received", "bytes_sent", "duration"),
            "upstream_host",
            _TAIL_4,
        ),
    ),
    Layout("envoy_text", (_TIME, "request", (*_STATUS, *_NUMBERS), *_HEADERS)),
    # Published Envoy configurations often add only %RESPONSE_CODE_DETAILS% to Envoy's default.
    Layout(
        "envoy_text_details", (_TIME, "request", (*_STATUS, "response_code_details", *_NUMBERS), *_HEADERS)
    ),
)


def step(lines: pl.DataFrame, rules: Rules) -> tuple[Stage, pl.DataFrame]:
    """Read lines (LINES) that fit a layout; the other lines come back unchanged."""
    current, *older = LAYOUTS
    rows, lines = read(lines, current)
    stage = typed(rows, rules)
    for layout in older:
        # Hardly a line is left, and a layout that cannot fit costs as much as one that does.
        likely = lines["text"].str.count_matches('"', literal=True) == layout.quotes
        if likely.any():
            rows, others = read(lines.filter(likely), layout)
            lines = pl.concat([lines.filter(~likely), others])
            stage += typed(rows, rules)
    return stage, lines


def read(lines: pl.DataFrame, layout: Layout) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split lines into those of this layout, with their fields as text, and the others.

    Args:
        lines: a frame with a `text` column.
        layout: the layout to read.

    Returns:
        (rows of this layout: the other columns of `lines`, the layout's fields as text, `format`;
        the other lines, unchanged)
    """
    cut = lines["text"].str.split_exact('"', layout.quotes + 1).struct.unnest()
    tests = [_pieces("field_", layout.quotes + 1)]
    splits: list[pl.Expr] = []
    fields: list[pl.Expr] = []
    last = len(layout.parts) - 1
    for index, part in enumerate(layout.parts):
        column = f"field_{index}"
        if part == "request":
            splits.append(pl.col(column).str.split_exact(" ", 3).alias("request"))
            tests.append(_pieces("request", 3))
            fields += [_piece("request", i, name) for i, name in enumerate(("method", "path", "protocol"))]
        elif isinstance(part, str):
            fields.append(pl.col(column).alias(part))
        else:
            before, after = int(index > 0), int(index < last or isinstance(layout.parts[last], str))
            count = before + len(part) + after
            splits.append(pl.col(column).str.split_exact(" ", count).alias(f"bare_{index}"))
            tests += _bare(f"bare_{index}", part, before, after)
            fields += [
                _piece(f"bare_{index}", before + i, name).str.strip_chars("[]")
                if name == _TIME[0]
                else _piece(f"bare_{index}", before + i, name)
                for i, name in enumerate(part)
            ]
    if isinstance(layout.parts[last], str):
        # Behind the last quote there is nothing more.
        tests.append(pl.col(f"field_{last + 1}") == "")
    cut = cut.with_columns(splits)
    fits = cut.select(pl.all_horizontal(tests).fill_null(value=False)).to_series()
    if not fits.any():
        return pl.DataFrame(), lines
    named = cut.select(fields).rename({_TIME[0]: "start_time"})
    known = [name for name in named.columns if name in TEXT_FIELDS]
    rows = lines.drop("text").hstack(named.select(known))
    rows = rows.with_columns(pl.lit(layout.name).alias("format"), pl.lit(None, pl.String).alias("damage"))
    return (rows, lines.clear()) if fits.all() else (rows.filter(fits), lines.filter(~fits))


def _piece(struct: str, index: int, name: str) -> pl.Expr:
    return pl.col(struct).struct[index].alias(name)


def _pieces(struct: str, count: int) -> pl.Expr:
    """Whether a text was cut into exactly `count` pieces (`split_exact` gives nulls beyond the last)."""
    if struct == "field_":
        return pl.col(f"field_{count - 1}").is_not_null() & pl.col(f"field_{count}").is_null()
    return pl.col(struct).struct[count - 1].is_not_null() & pl.col(struct).struct[count].is_null()


def _bare(struct: str, part: tuple[str, ...], before: int, after: int) -> list[pl.Expr]:
    """Tests of a bare part: its number of words, and the spaces that separate it from the quotes."""
    count = before + len(part) + after
    tests = [_pieces(struct, count)]
    if before:
        tests.append(pl.col(struct).struct[0] == "")
    if after:
        tests.append(pl.col(struct).struct[count - 1] == "")
    if part[:1] == _TIME:
        word = pl.col(struct).struct[before]
        tests.append(word.str.starts_with("[") & word.str.ends_with("]"))
    if "response_code" in part:
        code = pl.col(struct).struct[before + part.index("response_code")]
        tests.append(code.cast(pl.UInt16, strict=False).is_not_null() | (code == "-"))
    return tests
