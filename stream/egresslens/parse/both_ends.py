"""A line of text read from both ends, whatever its headers hold.

Envoy's text log copies header bytes as they are (envoyproxy/envoy#4191), so a client can put quotes into
its User-Agent, path, X-Forwarded-For or request id and imitate the log's own fields. What stands before the
first header is the proxy's own: the first request line that is followed by a status is the real one, because
a path has no spaces. So is what stands behind the last header: the words of the tail, the upstream host, the
authority. Whatever is left in between belongs to the client's headers, quotes and all.

One header is printed before the status: `x-envoy-original-path` replaces the path, and may hold spaces. A
workload that sends it can imitate the code on its own lines, but neither label nor host.

All work is linear in the length of the line.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from egresslens.parse.damage import Damage
from egresslens.parse.reading import Reading

STAMP: Final = r"20\d\d-\d\d-\d\dT[\d:.]{5,18}(?:Z|[+-]\d\d:?\d\d)?"
HEAD = re.compile(
    r'(?:(?:\[(?P<time>[^\[\]"\\]{1,64})\]'
    rf"|\[?(?P<stamp>{STAMP})\]?"
    r'|(?P<cut>[^\[\]"\\]{1,64}\])) ?)?(?=")'
)
FLAGS: Final = r"-|[A-Za-z][A-Za-z0-9_]{0,63}(?:,[A-Za-z][A-Za-z0-9_]{0,63}){0,31}|"
# The end of the request line and what the proxy says of it: `HTTP/1.1" 200 - `. An absent value is `-`, or
# nothing at all with omit_empty_values.
_STATUS = re.compile(rf'(?:HTTP/\d(?:\.\d)?|(?<= )-|(?<= ))" (\d{{1,3}}|-) ({FLAGS}) ')
_NUMBER: Final = r"(\d+|-|)"
_NUMBERS = re.compile(rf'" {_NUMBER} {_NUMBER} {_NUMBER} {_NUMBER} "')
NUMBER_NAMES: Final = ("bytes_received", "bytes_sent", "duration", "upstream_service_time")
TAIL: Final = (
    "upstream_cluster",
    "upstream_local_address",
    "downstream_local_address",
    "downstream_remote_address",
    "requested_server_name",
    "route_name",
)
RIGHT: Final = ("upstream_host", "authority", "request_id")
# Istio 1.0 for TCP: no request, no headers.
_TCP_1_0 = re.compile(
    rf'({FLAGS}) {_NUMBER} {_NUMBER} {_NUMBER} "([^"]*)" (\S+) (\S+) (\S+) ([^\s"]+)', re.ASCII
)

# (bare words between flags and numbers, quoted values there, words of the tail) -> layout (reference: A.1)
_SHAPES: Final[dict[tuple[int, int, int], str]] = {
    (0, 0, 0): "envoy_text",
    (1, 0, 0): "envoy_text_details",
    (0, 0, 4): "istio_text_1.0",
    (0, 1, 5): "istio_text_1.1",
    (0, 2, 5): "istio_text_1.2",
    (0, 2, 6): "istio_text_1.3",
    (0, 1, 6): "istio_text_1.8",
    (2, 1, 6): "istio_text_1.9",
}


def exact(text: str) -> Reading | None:
    """Read a line that has all parts of its layout, whatever its headers hold."""
    if "\n" in text:
        return None
    head = HEAD.match(text)
    if not head:
        return _tcp_1_0(text)
    begin = head.end()
    status = _STATUS.search(text, begin)
    middle = status and _middle(text, status.end())
    right = middle and _right(text, middle.end)
    if not (status and middle and right):
        return None
    request = text[begin + 1 : text.index('"', max(status.start(), begin + 1))]
    if not head["time"] and '" ' in request:
        # The head is lost, and this status is somewhere in a header.
        return None
    layout = _SHAPES.get((middle.words, middle.quoted, len(right.words)))
    tail: dict[str, str] | None = dict(zip(TAIL, right.words, strict=False))
    missing: tuple[Damage, ...] = ()
    if layout is None and len(right.words) in (4, 5):
        # Nobody prints a layout without its last words; but with omit_empty_values they may be empty.
        layout = _SHAPES.get((middle.words, middle.quoted, 6))
        if '""' not in text:
            tail, missing = tail_of(right.words), (Damage.MISSING_FIELDS,)
    if layout is None or tail is None:
        return None
    if layout == "istio_text_1.1":
        # It has Mixer's status where 1.8 has the failure reason; the tail alone tells them apart.
        del middle.fields["upstream_transport_failure_reason"]
    time, damage = time_of(head)
    fields = {
        **time,
        **request_of(request),
        "response_code": status[1],
        "response_flags": status[2],
        **middle.fields,
        **right.fields,
        **tail,
    }
    return Reading(fields, layout, (*damage, *missing, *_forged(fields)))


def time_of(head: re.Match[str]) -> tuple[dict[str, str], tuple[Damage, ...]]:
    """The start time before the request (HEAD's groups), and what is wrong with it."""
    if head["time"]:
        return {"start_time": head["time"]}, ()
    if head["stamp"]:
        return {"start_time": head["stamp"]}, (Damage.BROKEN_BRACKET,)
    return {}, (Damage.TRUNCATED_HEAD if head["cut"] else Damage.NO_TIMESTAMP,)


# Istio 1.0 has no space between path and protocol.
_FUSED = re.compile(r"(.*?)(HTTP/\d(?:\.\d)?)", re.DOTALL)


def request_of(text: str) -> dict[str, str]:
    """Split `METHOD PATH PROTOCOL` at its first and last space."""
    method, _, rest = text.partition(" ")
    path, space, protocol = rest.rpartition(" ")
    if (not space or not protocol.startswith("HTTP/")) and (fused := _FUSED.fullmatch(rest)):
        path, protocol = fused[1], fused[2]
    return {"method": method, "path": path, "protocol": protocol}


class _Middle(NamedTuple):
    fields: dict[str, str]
    words: int
    quoted: int
    end: int  # where the first header's opening quote is


def _middle(text: str, begin: int) -> _Middle | None:
    """Read what stands between the flags and X-Forwarded-For."""
    quote = text.find('"', begin)
    if quote < 0:
        return None
    words = text[begin:quote].split(" ")[:-1]
    if len(words) in (4, 5) and all(word in ("-", "") or word.isdecimal() for word in words[-4:]):
        fields = dict(zip(NUMBER_NAMES, words[-4:], strict=True))
        if len(words) == 5:
            fields["response_code_details"] = words[0]
        return _Middle(fields, len(words) - 4, 0, quote)
    numbers = _NUMBERS.search(text, quote)
    if not numbers:
        return None
    fields = dict(zip(NUMBER_NAMES, numbers.groups(), strict=True))
    inner = text[quote + 1 : numbers.start()]
    quoted = 1
    if words:
        details, _, termination = _unbraced(text[begin : quote - 1]).rpartition(" ")
        fields["response_code_details"] = details.replace("\0", " ")
        fields["connection_termination_details"] = termination.replace("\0", " ")
        words = ["details", "termination"] if details else words
    elif '" "' in inner:
        # Mixer's policy status comes first, and holds no quotes.
        inner, quoted = inner.partition('" "')[2], 2
    if '"' in inner:
        # The numbers are not the proxy's: they stand in a header.
        return None
    fields["upstream_transport_failure_reason"] = inner
    return _Middle(fields, len(words), quoted, numbers.end() - 1)


def _unbraced(text: str) -> str:
    """Mark spaces inside braces and brackets (NUL), as proxies of Istio 1.9's age may write them."""
    if text.count(" ") < 2:
        return text
    depth = 0
    marked = []
    for char in text:
        depth += (char in "{[") - (char in "}]" and depth > 0)
        marked.append("\0" if char == " " and depth else char)
    return "".join(marked)


class _Right(NamedTuple):
    fields: dict[str, str]
    words: list[str]


def _right(text: str, begin: int) -> _Right | None:
    """Read a line from its end to `begin`, the opening quote of X-Forwarded-For."""
    close = text.rfind('"')
    tail = text[close + 1 :].split(" ")
    if tail[0] or "\t" in text[close:]:
        return None
    fields: dict[str, str] = {}
    for name in RIGHT[:2]:
        opening = text.rfind('"', begin + 1, close)
        if opening < 0 or text[opening - 2 : opening] != '" ':
            return None
        fields[name] = text[opening + 1 : close]
        close = opening - 2
    # Which of the client's headers holds a quote, no rule can tell, and nothing depends on it.
    headers, behind, request_id = text[begin + 1 : max(close, begin + 1)].rpartition('" "')
    forwarded, between, agent = headers.partition('" "')
    if not behind or not between:
        return None
    clients = {"x_forwarded_for": forwarded, "user_agent": agent, "request_id": request_id}
    return _Right({**fields, **clients}, tail[1:])


def _tcp_1_0(text: str) -> Reading | None:
    head = _BRACKETED.match(text)
    found = _TCP_1_0.fullmatch(text, head.end() if head else 0)
    if not found:
        return None
    names = ("response_flags", *NUMBER_NAMES[:3], "upstream_host", *TAIL[:4])
    fields = dict(zip(names, found.groups(), strict=True))
    time, damage = time_of(head) if head else ({}, (Damage.NO_TIMESTAMP,))
    return Reading({**time, **fields}, "istio_text_1.0_tcp", damage)


_BRACKETED = re.compile(
    rf'(?:\[(?P<time>[^\[\]"\\]{{1,64}})\]|\[?(?P<stamp>{STAMP})\]?|(?P<cut>[^\[\]"\\]{{1,64}}\])) ?'
)
# What the log itself writes and no honest header holds: a status, a cluster's name, a reserved name.
_IMITATION = re.compile(
    r'" (?:\d{1,3}|-) (?:-|[A-Z]{2,5}\b)|\w\|\d*\|[^|"]*\|'
    r"|(?:Passthrough|BlackHole)Cluster|block_all|allow_any"
)
_CLIENTS: Final = ("path", "x_forwarded_for", "user_agent", "request_id")


def _forged(fields: dict[str, str]) -> tuple[Damage, ...]:
    values = (fields.get(name, "") for name in _CLIENTS)
    return (
        (Damage.FORGED_FIELDS,) if any('"' in value and _IMITATION.search(value) for value in values) else ()
    )


ADDRESS: Final = r"-|\[?[^\s\"|]*:\d{1,5}|[a-z_]+://\S*|/[\w./@-]+"
_CLUSTER: Final = r"-|[^\s\":|]+\|[^\s\"]*|[A-Za-z][\w.-]*;?"
_NAME: Final = r"-|(?![0-9.]+$)[A-Za-z0-9_*.{}-]+"
_TAIL_SHAPES: Final = tuple(
    re.compile(shape) for shape in (_CLUSTER, ADDRESS, ADDRESS, ADDRESS, _NAME, r"[^\s\"]+")
)
# Which words of the tail may be there: all but the last few; all but the cluster; all but the upstream's
# own address, which is absent on lines without upstream.
_TAILS: Final = ((0, 1, 2, 3, 4, 5), (1, 2, 3, 4, 5), (0, 2, 3, 4, 5))


def tail_of(words: list[str]) -> dict[str, str] | None:
    """Name the words of a tail that may lack some, by their shapes; None without a destination's address.

    The last of them may be an address that was cut, and others may stand behind: as many count as fit.
    """
    for count in range(min(len(words), len(TAIL)), 2, -1):
        for places in _TAILS:
            chosen = places[:count]
            if len(chosen) == count and all(
                _TAIL_SHAPES[place].fullmatch(word) for place, word in zip(chosen, words, strict=False)
            ):
                found = {TAIL[place]: word for place, word in zip(chosen, words, strict=False)}
                return found if found.get("downstream_local_address", "-") != "-" else None
    return None
