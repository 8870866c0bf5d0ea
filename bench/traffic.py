"""Access-log records as a mesh writes them: thousands of sources and destinations, of uneven weight.

Shares follow tests/samples: mostly named outbound clusters, a quarter passthrough, a few blocked (HTTP and
TCP), some inbound. 3,000 source pods, 2,000 destination hosts, 6,000 pairs chosen by a Zipf law; a record is
about 800 bytes of JSON. The same seed gives the same records.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

SOURCES = 3_000
DESTINATIONS = 2_000
PAIRS = 6_000
# Records per second that the event times speak of.
RATE = 20_000
LABELS = ("outbound", "passthrough", "blackhole", "inbound")
SHARES = (0.60, 0.25, 0.05, 0.10)

_BROWSER = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko)"
_AGENTS = (
    f"{_BROWSER} Chrome/126.0.0.0 Safari/537.36",
    "python-requests/2.32.3",
    "Go-http-client/1.1",
    "okhttp/4.12.0",
    "Apache-HttpClient/4.5.14 (Java/17.0.11)",
    "axios/1.7.2",
)
_WORDS = (
    "v1",
    "v2",
    "orders",
    "users",
    "items",
    "search",
    "batch",
    "events",
    "invoices",
    "tokens",
    "objects",
)
_CODES = (200, 200, 200, 200, 200, 200, 201, 204, 304, 404, 503)

_JSON = (
    '{{"start_time":"{start_time}","route_name":{route},"method":{method},"path":{path},"protocol":{protocol},'
    '"response_code":{code},"response_flags":"{flags}","response_code_details":{details},'
    '"connection_termination_details":null,"upstream_transport_failure_reason":null,'
    '"bytes_received":{received},"bytes_sent":{sent},"duration":{duration},"upstream_service_time":{service},'
    '"x_forwarded_for":null,"user_agent":{agent},"request_id":{request},"authority":{authority},'
    '"upstream_host":{upstream},"upstream_cluster":"{cluster}","upstream_local_address":{local},'
    '"downstream_local_address":"{destination}","downstream_remote_address":"{remote}",'
    '"requested_server_name":{sni}}}'
)
_TEXT = (
    '[{start_time}] "{method} {path} {protocol}" {code} {flags} {details} - "-" {received} {sent} {duration} '
    '{service} "-" "{agent}" "{request}" "{authority}" "{upstream}" {cluster} {local} {destination} {remote} '
    "{sni} {route}"
)


@dataclass(frozen=True)
class Pair:
    """A source that calls a destination, and what its records have in common."""

    source: int
    label: int
    fixed: dict[str, str | None]


def pairs(count: int = PAIRS, sources: int = SOURCES, destinations: int = DESTINATIONS) -> list[Pair]:
    """Make pairs, the same ones at every call."""
    chance = random.Random(7)
    return [_pair(chance, n % sources, chance.randrange(destinations)) for n in range(count)]


def _pair(chance: random.Random, source: int, target: int) -> Pair:
    label = chance.choices(range(len(LABELS)), SHARES)[0]
    host = f"{('api', 'auth', 'storage', 'queue', 'metrics')[target % 5]}-{target}.example-{target % 97}.com"
    ip = f"203.{target // 250 % 250}.{target % 250}.{target % 199 + 1}"
    pod = f"10.{40 + source // 60_000}.{source // 250 % 250}.{source % 250 + 1}"
    http = chance.random() < 0.8
    # A third of what is no HTTP goes to databases, by their ports.
    port = 443 if http else chance.choice((443, 443, 443, 443, 3306, 5432))
    fixed: dict[str, str | None] = {
        "pod": pod,
        "agent": chance.choice(_AGENTS) if http else None,
        "authority": host if http else None,
        "protocol": chance.choice(("HTTP/1.1", "HTTP/2")) if http else None,
        "upstream": f"{ip}:{port}",
        "destination": f"{ip}:{port}",
        "cluster": f"outbound|{port}||{host}",
        "route": "default" if http else None,
        "sni": None if http else host,
        "details": "via_upstream" if http else None,
    }
    if LABELS[label] == "passthrough":
        fixed |= {"cluster": "PassthroughCluster", "route": "allow_any" if http else None}
    elif LABELS[label] == "blackhole":
        fixed |= {"upstream": None, "cluster": "BlackHoleCluster"}
        if http:
            fixed |= {"cluster": "-", "route": "block_all", "details": "direct_response"}
    elif LABELS[label] == "inbound":
        fixed |= {
            "cluster": "inbound|8080||",
            "upstream": f"{pod}:8080",
            "destination": f"{pod}:8080",
            "sni": f"outbound_.8080_._.svc-{source % 300}.shop.svc.cluster.local",
        }
    return Pair(source, label, fixed)


class Traffic:
    """Records of the pairs, in the order of their times."""

    def __init__(self, first_ms: int, *, pairs_count: int = PAIRS, rate: float = RATE, seed: int = 1) -> None:
        self._pairs = pairs(pairs_count, max(1, min(SOURCES, pairs_count)))
        self._first_ms = first_ms
        self._rate = rate
        self._numbers = np.random.default_rng(seed)
        self._weights = 1 / np.arange(3, pairs_count + 3)
        self._weights /= self._weights.sum()
        self._at = 0

    def take(self, count: int, kind: str) -> Iterator[tuple[int, int, str]]:
        """(source, label number, record) of the next `count` records; kind: json or text."""
        numbers = self._numbers
        chosen = numbers.choice(len(self._pairs), count, p=self._weights).tolist()
        draws = numbers.integers(0, 2**31, (count, 5)).tolist()
        write = _json if kind == "json" else _text
        for which, draw in zip(chosen, draws, strict=True):
            pair = self._pairs[which]
            yield (
                pair.source,
                pair.label,
                write(pair, self._first_ms + int(self._at * 1000 / self._rate), draw),
            )
            self._at += 1


def _values(pair: Pair, moment_ms: int, draw: list[int]) -> dict[str, str | None]:
    a, b, c, d, e = draw
    fixed = pair.fixed
    seconds, millis = divmod(moment_ms, 1000)
    blocked = fixed["upstream"] is None
    http = fixed["protocol"] is not None
    code = 502 if blocked and http else _CODES[a % len(_CODES)] if http else 0
    return {
        **fixed,
        "start_time": f"{_second(seconds)}.{millis:03d}Z",
        "method": ("GET", "GET", "GET", "POST", "PUT")[b % 5] if http else None,
        "path": (
            f"/{_WORDS[a % 11]}/{_WORDS[b % 11]}/{c % 100_000}?page={d % 50}&token={e:08x}" if http else None
        ),
        "code": str(code),
        "flags": ("-" if http else "UH") if blocked else ("-", "-", "-", "UC")[d % 4] if code == 503 else "-",
        "received": "0" if blocked else str(b % 3000),
        "sent": "0" if blocked else str(c % 60_000),
        "duration": "0" if blocked else str(d % 400),
        "service": None if blocked or not http else str(d % 399),
        "request": f"{a:08x}-{b & 0xFFFF:04x}-9{c & 0xFFF:03x}-{d & 0xFFFF:04x}-{e:08x}{a & 0xFFFF:04x}"
        if http
        else None,
        "local": None if blocked else f"{fixed['pod']}:{32768 + e % 28000}",
        "remote": f"{fixed['pod']}:{32768 + a % 28000}",
    }


_SECONDS: dict[int, str] = {}


def _second(seconds: int) -> str:
    text = _SECONDS.get(seconds)
    if text is None:
        text = _SECONDS[seconds] = str(np.datetime64(seconds, "s"))
    return text


def _json(pair: Pair, moment_ms: int, draw: list[int]) -> str:
    values = _values(pair, moment_ms, draw)
    quoted = {
        name: f'"{values[name]}"' if values[name] is not None else "null"
        for name in (
            "route", "method", "path", "protocol", "details", "service", "agent", "request", "authority",
            "upstream", "local", "sni",
        )
    }  # fmt: skip
    return _JSON.format_map({**values, **quoted})


def _text(pair: Pair, moment_ms: int, draw: list[int]) -> str:
    values = _values(pair, moment_ms, draw)
    return _TEXT.format_map({name: "-" if value is None else value for name, value in values.items()})
