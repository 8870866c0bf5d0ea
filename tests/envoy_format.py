"""Prints records the way Envoy does: command operators substituted, nothing escaped in text.

Envoy's rules (substitution_formatter.cc): an absent value is `-` (or empty with `omit_empty_values`), `:N`
cuts to N bytes, JSON values of one operator keep their type.
"""

import json
import re
from datetime import datetime, timezone

OPERATOR = re.compile(r"%([A-Z0-9_]+(?:\(.*?\))?)(?::([0-9]+))?%")


def text(format_string, values, *, omit_empty=False):
    """One line of a text format; `values` are by operator (`REQ(:PATH)`), times as datetimes."""

    def substitute(match):
        if match[0] == "%%":
            return "%"
        return _cut(_printed(match[1], values.get(match[1])), match[2], "" if omit_empty else "-")

    return re.sub("%%|" + OPERATOR.pattern, substitute, format_string)


def json_line(template, values, *, typed=True, omit_empty=False):
    """One line of a JSON format, keys in reverse order, since Envoy promises none."""
    return json.dumps(_json(template, values, typed, omit_empty), separators=(",", ":"))


def _json(template, values, typed, omit_empty):
    if isinstance(template, dict):
        found = {key: _json(inner, values, typed, omit_empty) for key, inner in reversed(template.items())}
        return {key: value for key, value in found.items() if value is not None or not omit_empty}
    if isinstance(template, list):
        return [_json(inner, values, typed, omit_empty) for inner in template]
    if isinstance(template, str) and (single := OPERATOR.fullmatch(template)) and typed:
        value = values.get(single[1])
        return (
            value
            if isinstance(value, int) or value is None
            else _cut(_printed(single[1], value), single[2], "")
        )
    return text(template, values, omit_empty=omit_empty) if isinstance(template, str) else template


def _cut(value, length, absent):
    if value is None:
        return absent
    return value.encode()[: int(length)].decode("utf-8", "replace") if length else value


def _printed(operator, value):
    if isinstance(value, datetime):
        return _time(value, operator)
    return None if value is None else str(value)


def _time(moment, operator):
    moment = moment.astimezone(timezone.utc)
    form = operator[operator.index("(") + 1 : -1] if "(" in operator else "%Y-%m-%dT%H:%M:%S.%3fZ"
    nanos = f"{moment.microsecond:06}000"
    form = re.sub("%([1-9])?f", lambda match: nanos[: int(match[1] or 9)], form)
    return moment.strftime(form.replace("%s", str(int(moment.timestamp()))))
