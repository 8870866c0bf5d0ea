"""Damaged lines of text, as people publish and shippers mangle them, read as far as either end carries.

A line whose tail is lost is not read: where the traffic went is what this is about.
"""

from __future__ import annotations

import re
from typing import Final

from egresslens.parse.both_ends import (
    ADDRESS,
    HEAD,
    NUMBER_NAMES,
    RIGHT,
    STAMP,
    request_of,
    tail_of,
    time_of,
)
from egresslens.parse.damage import Damage
from egresslens.parse.reading import Reading

# Longer lines, or lines with more parts, are not looked at so closely.
_MAX_TORN: Final = 16_384
_MAX_TOKENS: Final = 96
_TOKEN = re.compile(r'"[^"]*"|[^\s"]+')
_REQUEST = re.compile(r'"(?P<request>[A-Za-z-]{1,32} [^"]*?(?:HTTP/\d(?:\.\d)?| -))" ')
_UNQUOTED_REQUEST = re.compile(
    rf'\[(?P<time>{STAMP})\] (?P<request>[A-Za-z-]{{1,32}} [^"]*?(?:HTTP/\d(?:\.\d)?| -))" '
)
_CUT_REQUEST = re.compile(r'(?P<request>[^"]*?(?:HTTP/\d(?:\.\d)?| -))" ')
_BARE: Final = r'[^\s"]+'
_QUOTED: Final = r'"[^"]*"'
_COUNT: Final = r"-|\d+"
_TORN_FLAGS: Final = r"-|[A-Z][A-Za-z0-9]{1,39}(?:,[A-Z][A-Za-z0-9]{1,39}){0,31}"
_BETWEEN: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    layout: (
        ("response_code", r"-|\d{1,3}"),
        ("response_flags", _TORN_FLAGS),
        *details,
        *((name, _COUNT) for name in NUMBER_NAMES),
        ("x_forwarded_for", _QUOTED),
        ("user_agent", _QUOTED),
    )
    for layout, details in {
        "istio_text_1.9": (
            ("response_code_details", _BARE),
            ("connection_termination_details", _BARE),
            ("upstream_transport_failure_reason", _QUOTED),
        ),
        "istio_text_1.3": (
            ("istio_policy_status", _QUOTED),
            ("upstream_transport_failure_reason", _QUOTED),
        ),
        "istio_text_1.8": (("upstream_transport_failure_reason", _QUOTED),),
    }.items()
}


def torn(text: str) -> Reading | None:
    """Read a damaged line from both ends, as far as either end carries.

    The tail must be there up to the destination's address, with the upstream host before it: without them the
    line says nothing of where it went.
    """
    close = text.rfind('"')
    if close < 0 or len(text) > _MAX_TORN:
        return None
    tail = tail_of(text[close + 1 :].split())
    if not tail or not (right := _torn_right(text, close)):
        return None
    fields, stop = right
    damage = Damage.MISSING_FIELDS
    head = HEAD.match(text)
    request = _REQUEST.match(text, head.end()) if head else None
    time, times = time_of(head) if head and request else ({}, ())
    if request:
        fields |= request_of(request["request"])
    elif request := _UNQUOTED_REQUEST.match(text):
        fields |= {"start_time": request["time"], **request_of(request["request"])}
    else:
        damage = Damage.TRUNCATED_HEAD
        if request := _CUT_REQUEST.match(text):
            fields |= _cut_request(request["request"])
    layout = "istio_text_1.9"
    if request:
        # Without the request nobody knows where the headers begin.
        tokens = _TOKEN.findall(text, request.end(), stop)
        if len(tokens) > _MAX_TOKENS:
            return None
        layout = _torn_layout(tokens)
        fields |= _two_ended(tokens, _BETWEEN[layout])
    return Reading({**time, **fields, **tail}, layout, (*times, damage))


def _torn_right(text: str, close: int) -> tuple[dict[str, str], int] | None:
    """Upstream host, authority and request id before `close`, and where the first of them begins."""
    fields: dict[str, str] = {}
    for name in RIGHT:
        opening = text.rfind('"', 0, close)
        if opening < 0:
            break
        value = text[opening + 1 : close]
        if name == "upstream_host" and not re.fullmatch(ADDRESS, value):
            return None
        fields[name] = value
        close = text.rfind('"', 0, opening)
        if text[close + 1 : opening].strip():
            return fields, opening
    return (fields, opening) if "authority" in fields else None


def _cut_request(text: str) -> dict[str, str]:
    """What is left of a request line whose beginning is lost: the path only if a word stands before it."""
    before, _, protocol = text.rpartition(" ")
    _, space, path = before.rpartition(" ")
    return {"path": path, "protocol": protocol} if space else {"protocol": protocol}


def _torn_layout(tokens: list[str]) -> str:
    """Tell layouts apart by what follows the flags (reference: A.1)."""
    after = tokens[2:4]
    if after and after[0].startswith('"'):
        return "istio_text_1.3" if after[-1].startswith('"') and len(after) > 1 else "istio_text_1.8"
    return "istio_text_1.9"


def _two_ended(tokens: list[str], sequence: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Match tokens with a sequence of fields from the left and from the right, up to the first misfit."""
    found: dict[str, str] = {}
    for token, (name, shape) in zip(tokens, sequence, strict=False):
        if not re.fullmatch(shape, token):
            break
        found[name] = token
    left = len(found)
    for token, (name, shape) in zip(reversed(tokens[left:]), reversed(sequence[left:]), strict=False):
        if not re.fullmatch(shape, token):
            break
        found[name] = token
    return {name: token[1:-1] if token[0] == '"' else token for name, token in found.items()}
