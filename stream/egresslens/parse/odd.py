"""The exact way, one line at a time: for text that no columnar layout fits.

Envoy's text log copies header bytes as they are (envoyproxy/envoy#4191), so a client can put quotes into
its User-Agent, path, X-Forwarded-For or request id and imitate the log's own fields. A line is therefore
read from both ends: what stands before the first header is the proxy's own (the first request line that is
followed by a status is the real one), and so is what stands behind the last (the words of the tail, the
upstream host, the authority). Whatever is left in between belongs to the client's headers, quotes and all.

Damaged lines, as people publish and shippers mangle them, are read as far as a rule carries, and say so in
`damage`. A line whose tail is lost is not read: where it went is what this is about.

All work is linear in the length of the line.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

import polars as pl

from egresslens.outcome import Filtered, Reject
from egresslens.parse import prefixes, ztunnel
from egresslens.parse.damage import Damage
from egresslens.parse.reading import Reading, rows
from egresslens.parse.stage import Stage, filtered, rejected
from egresslens.parse.values import typed
from egresslens.rules import Rules

# --- proxies' own logs --------------------------------------------------------------------------------------

_ISO: Final = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?"
# istio-agent's and ztunnel's logs, and Envoy's through the agent: `TIME LEVEL SCOPE MESSAGE`, tabs between.
_AGENT_LOG: Final = (
    rf"^(?:[^\"\[\]{{}}\t]{{0,256}} )?{_ISO}\s+"
    r"(?i:trace|debug|info|warn|warning|error|critical|fatal|none)(?:\s|$)"
)
# Envoy's own: `[TIME][THREAD][LEVEL][LOGGER] MESSAGE`.
_ENVOY_LOG: Final = (
    rf"^(?:[^\"\[\]{{}}]{{0,256}} )?\[{_ISO}\] ?\[\d+\] ?"
    r"\[(?:trace|debug|info|warn|warning|error|critical|off)\]"
)


def step(lines: pl.DataFrame, rules: Rules) -> Stage:
    """Read odd lines (LINES): records, prefixed lines' texts (as lines), other logs, and rejects."""
    text = pl.col("text")
    lines, stage = ztunnel.step(lines, rules)
    own = lines.select(text.str.contains(_AGENT_LOG) | text.str.contains(_ENVOY_LOG)).to_series()
    stage += filtered(lines.filter(own), Filtered.PROXY_LOG)
    lines, stripped = prefixes.viewer(lines.filter(~own))
    stage += Stage(lines=[stripped])
    blank = lines["text"] == ""
    stage += rejected(lines.filter(blank), Reject.EMPTY)
    lines = lines.filter(~blank)
    readings = [read(text) for text in lines["text"]]
    unread = pl.Series([reading is None for reading in readings], dtype=pl.Boolean)
    stage += rejected(lines.filter(unread), Reject.UNKNOWN_FORMAT)
    return stage + typed(rows(lines.filter(~unread), [found for found in readings if found]), rules)


def read(text: str) -> Reading | None:
    """Read one line of text in any default layout, damaged or not; None if it is none."""
    candidate = text
    damage: tuple[Damage, ...] = ()
    for candidate, damage in _repaired(text):
        if found := _exact(candidate):
            return found._replace(damage=tuple(dict.fromkeys((*damage, *found.damage))))
    found = _torn(candidate)
    return found and found._replace(damage=tuple(dict.fromkeys((*damage, *found.damage))))


# --- repairs ------------------------------------------------------------------------------------------------

_CURLY = str.maketrans("\u201c\u201d\u201e\u201f\u2033", '"""""')
# Where a message holds a second line, joining the two would give one line's head the other's tail.
_SECOND_LINE = re.compile(r'\n\s*(?:\[20|"(?:[A-Z]{3,16}|-) )')


def _repaired(text: str) -> Iterator[tuple[str, tuple[Damage, ...]]]:
    """The line as it is, then with one repair after the other, as far as they change anything."""
    damage: tuple[Damage, ...] = ()
    yield text, damage
    for repair, name in (
        (_unescaped, Damage.ESCAPED_QUOTES),
        (_plain_quotes, Damage.ODD_QUOTES),
        (_single_spaces, Damage.ODD_SPACES),
    ):
        repaired = repair(text)
        if repaired != text:
            text, damage = repaired, (*damage, name)
            yield text, damage


def _unescaped(text: str) -> str:
    """Decode a JSON string that lost its quotes, or kept them."""
    first = text.find('"')
    if first < 1 or text[first - 1] != "\\":
        # The line's own first quote is not escaped. A header may well hold backslashes and quotes.
        if not (first == 0 and text.startswith('"[20') and text.endswith('"')):
            return text
        text = text[1:-1]
    try:
        decoded = json.loads(f'"{text}"')
    except ValueError:
        decoded = text.replace('\\"', '"')
    return str(decoded).strip()


def _plain_quotes(text: str) -> str:
    return html.unescape(text.translate(_CURLY)) if '"' not in text else text


def _single_spaces(text: str) -> str:
    return text if _SECOND_LINE.search(text) else " ".join(text.split())


# --- both ends ----------------------------------------------------------------------------------------------

_STAMP: Final = r"20\d\d-\d\d-\d\dT[\d:.]{5,18}(?:Z|[+-]\d\d:?\d\d)?"
_HEAD = re.compile(
    r'(?:(?:\[(?P<time>[^\[\]"\\]{1,64})\]'
    rf"|\[?(?P<stamp>{_STAMP})\]?"
    r'|(?P<cut>[^\[\]"\\]{1,64}\])) ?)?(?=")'
)
_FLAGS: Final = r"-|[A-Za-z][A-Za-z0-9_]{0,63}(?:,[A-Za-z][A-Za-z0-9_]{0,63}){0,31}|"
# The end of the request line and what the proxy says of it: `HTTP/1.1" 200 - `. An absent value is `-`, or
# nothing at all with omit_empty_values.
_STATUS = re.compile(rf'(?:HTTP/\d(?:\.\d)?|(?<= )-|(?<= ))" (\d{{1,3}}|-) ({_FLAGS}) ')
_NUMBER: Final = r"(\d+|-|)"
_NUMBERS = re.compile(rf'" {_NUMBER} {_NUMBER} {_NUMBER} {_NUMBER} "')
_NUMBER_NAMES: Final = ("bytes_received", "bytes_sent", "duration", "upstream_service_time")
_TAIL: Final = (
    "upstream_cluster",
    "upstream_local_address",
    "downstream_local_address",
    "downstream_remote_address",
    "requested_server_name",
    "route_name",
)
_RIGHT: Final = ("upstream_host", "authority", "request_id")
# Istio 1.0 for TCP: no request, no headers.
_TCP_1_0 = re.compile(
    rf'({_FLAGS}) {_NUMBER} {_NUMBER} {_NUMBER} "([^"]*)" (\S+) (\S+) (\S+) (\S+)', re.ASCII
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


def _exact(text: str) -> Reading | None:
    """Read a line that has all parts of its layout, whatever its headers hold."""
    head = _HEAD.match(text)
    if not head:
        return _tcp_1_0(text)
    begin = head.end()
    status = _STATUS.search(text, begin)
    middle = status and _middle(text, status.end())
    right = middle and _right(text, middle.end)
    if not (status and middle and right):
        return None
    tail = right.words
    layout = _SHAPES.get((middle.words, middle.quoted, len(tail)))
    if layout is None:
        return None
    if layout == "istio_text_1.1":
        # It has Mixer's status where 1.8 has the failure reason; the tail alone tells them apart.
        del middle.fields["upstream_transport_failure_reason"]
    time, damage = _time_of(head)
    fields = {
        **time,
        **_request(text[begin + 1 : text.index('"', max(status.start(), begin + 1))]),
        "response_code": status[1],
        "response_flags": status[2],
        **middle.fields,
        **right.fields,
        **dict(zip(_TAIL, tail, strict=False)),
    }
    return Reading(fields, layout, (*damage, *_forged(fields)))


def _time_of(head: re.Match[str]) -> tuple[dict[str, str], tuple[Damage, ...]]:
    if head["time"]:
        return {"start_time": head["time"]}, ()
    if head["stamp"]:
        return {"start_time": head["stamp"]}, (Damage.BROKEN_BRACKET,)
    return {}, (Damage.TRUNCATED_HEAD if head["cut"] else Damage.NO_TIMESTAMP,)


# Istio 1.0 has no space between path and protocol.
_FUSED = re.compile(r"(.*?)(HTTP/\d(?:\.\d)?)", re.DOTALL)


def _request(text: str) -> dict[str, str]:
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
        fields = dict(zip(_NUMBER_NAMES, words[-4:], strict=True))
        if len(words) == 5:
            fields["response_code_details"] = words[0]
        return _Middle(fields, len(words) - 4, 0, quote)
    numbers = _NUMBERS.search(text, quote)
    if not numbers:
        return None
    fields = dict(zip(_NUMBER_NAMES, numbers.groups(), strict=True))
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
    if tail[0]:
        return None
    fields: dict[str, str] = {}
    for name in _RIGHT:
        opening = text.rfind('"', begin + 1, close)
        if opening < 0 or text[opening - 2 : opening] != '" ':
            return None
        fields[name] = text[opening + 1 : close]
        close = opening - 2
    if close <= begin:
        return None
    # A quote in X-Forwarded-For or in the User-Agent: no rule can tell which, and nothing depends on it.
    forwarded, between, agent = text[begin + 1 : close].partition('" "')
    if not between:
        return None
    return _Right({**fields, "x_forwarded_for": forwarded, "user_agent": agent}, tail[1:])


def _tcp_1_0(text: str) -> Reading | None:
    head = _BRACKETED.match(text)
    found = _TCP_1_0.fullmatch(text, head.end() if head else 0)
    if not found:
        return None
    names = ("response_flags", *_NUMBER_NAMES[:3], "upstream_host", *_TAIL[:4])
    fields = dict(zip(names, found.groups(), strict=True))
    time, damage = _time_of(head) if head else ({}, (Damage.NO_TIMESTAMP,))
    return Reading({**time, **fields}, "istio_text_1.0_tcp", damage)


_BRACKETED = re.compile(
    rf'(?:\[(?P<time>[^\[\]"\\]{{1,64}})\]|\[?(?P<stamp>{_STAMP})\]?|(?P<cut>[^\[\]"\\]{{1,64}}\])) ?'
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


# --- damaged lines ------------------------------------------------------------------------------------------

# Longer lines, or lines with more parts, are not looked at so closely.
_MAX_TORN: Final = 16_384
_MAX_TOKENS: Final = 96
_ADDRESS: Final = r"-|\[?[^\s\"|]*:\d{1,5}|[a-z_]+://\S*|/[\w./@-]+"
_CLUSTER: Final = r"-|[^\s\":|]+\|[^\s\"]*|[A-Za-z][\w.-]*;?"
_NAME: Final = r"-|[A-Za-z0-9_*.{}-]+"
_TAIL_SHAPES: Final = tuple(
    re.compile(shape) for shape in (_CLUSTER, _ADDRESS, _ADDRESS, _ADDRESS, _NAME, r"[^\s\"]+")
)
# Which words of the tail may be there: all but the last few; all but the cluster; all but the upstream's
# own address, which is absent on lines without upstream.
_TAILS: Final = ((0, 1, 2, 3, 4, 5), (1, 2, 3, 4, 5), (0, 2, 3, 4, 5))
_TOKEN = re.compile(r'"[^"]*"|[^\s"]+')
_REQUEST = re.compile(r'"(?P<request>[A-Za-z-]{1,32} [^"]*?(?:HTTP/\d(?:\.\d)?| -))" ')
_CUT_REQUEST = re.compile(r'(?P<request>[^"]*?(?:HTTP/\d(?:\.\d)?| -))" ')
_BARE: Final = r'[^\s"]+'
_QUOTED: Final = r'"[^"]*"'
_COUNT: Final = r"-|\d+"
_BETWEEN: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    layout: (
        ("response_code", r"-|\d{1,3}"),
        ("response_flags", _FLAGS),
        *details,
        *((name, _COUNT) for name in _NUMBER_NAMES),
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


def _torn(text: str) -> Reading | None:
    """Read a damaged line from both ends, as far as either end carries.

    The tail must be there up to the destination's address, with the upstream host before it: without them the
    line says nothing of where it went.
    """
    close = text.rfind('"')
    if close < 0 or len(text) > _MAX_TORN:
        return None
    tail = _torn_tail(text[close + 1 :].split())
    if not tail or not (right := _torn_right(text, close)):
        return None
    fields, stop = right
    damage = Damage.MISSING_FIELDS
    head = _HEAD.match(text)
    request = _REQUEST.match(text, head.end()) if head else None
    time, times = _time_of(head) if head and request else ({}, ())
    if request:
        fields |= _request(request["request"])
    else:
        damage = Damage.TRUNCATED_HEAD
        if request := _CUT_REQUEST.match(text):
            fields |= _cut_request(request["request"])
    tokens = _TOKEN.findall(text, request.end() if request else 0, max(stop, 0))
    if len(tokens) > _MAX_TOKENS:
        return None
    layout = _torn_layout(tokens)
    between = _two_ended(tokens, _BETWEEN[layout], from_left=bool(request))
    return Reading({**time, **fields, **between, **tail}, layout, (*times, damage))


def _torn_tail(words: list[str]) -> dict[str, str] | None:
    for places in _TAILS:
        chosen = places[: len(words)]
        if 3 <= len(words) <= len(places) and all(
            _TAIL_SHAPES[place].fullmatch(word) for place, word in zip(chosen, words, strict=True)
        ):
            found = {_TAIL[place]: word for place, word in zip(chosen, words, strict=True)}
            return found if found.get("downstream_local_address", "-") != "-" else None
    return None


def _torn_right(text: str, close: int) -> tuple[dict[str, str], int] | None:
    """Upstream host, authority and request id before `close`, and where the first of them begins."""
    fields: dict[str, str] = {}
    for name in _RIGHT:
        opening = text.rfind('"', 0, close)
        if opening < 0:
            break
        value = text[opening + 1 : close]
        if name == "upstream_host" and not re.fullmatch(_ADDRESS, value):
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


def _two_ended(
    tokens: list[str], sequence: tuple[tuple[str, str], ...], *, from_left: bool
) -> dict[str, str]:
    """Match tokens with a sequence of fields from the left and from the right, up to the first misfit."""
    found: dict[str, str] = {}
    left = 0
    if from_left:
        for token, (name, shape) in zip(tokens, sequence, strict=False):
            if not re.fullmatch(shape, token):
                break
            found[name] = token
            left += 1
    rest = zip(reversed(tokens[left:]), reversed(sequence[left:]), strict=False)
    for token, (name, shape) in rest:
        if not re.fullmatch(shape, token):
            break
        found[name] = token
    return {name: token[1:-1] if token[0] == '"' else token for name, token in found.items()}
