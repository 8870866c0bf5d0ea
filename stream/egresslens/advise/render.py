"""Advice as YAML for `kubectl apply`: objects by a YAML dumper, evidence as comments.

Hosts and workloads are other people's text. Objects hold only what was validated; comments are one line each
with control and format characters written out, so that no text can end a comment or steer a terminal.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Final

import yaml

from egresslens.advise.plan import ADDRESS
from egresslens.advise.values import Advice, Advised, Apart, Evidence
from egresslens.registry.models import Object
from egresslens.registry.value import parse_ip
from egresslens.text import visible

_SOURCES: Final = 5
_LISTED: Final = 100
# Written as it is: nothing that a YAML parser of any version takes for a number, a date or a truth.
_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_WORDS: Final = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"})
_NAME_SOURCES: Final = {
    "authority": "the Host header",
    "sni": "the TLS server name",
    "registry": "the mesh's registry",
    "address": "the address",
}


class _Dumper(yaml.SafeDumper):
    """Block style, lists indented, no aliases, and quotes around every text that might be something else."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if plain else '"')


_Dumper.add_representer(str, _text)


def render(advice: Advice) -> str:
    """Write all of it as one multi-document YAML text."""
    lines = list(_head(advice))
    for advised in (*advice.entries, *advice.sidecars):
        lines += ["---", *_comments(advised), to_yaml(advised.object).rstrip("\n")]
    lines += ["---"] if not advice.entries and not advice.sidecars else []
    lines += _aparts(advice.apart)
    lines += _unused(advice)
    return "\n".join(lines) + "\n"


def render_diff(advice: Advice) -> str:
    """Write what would change in the registry as a unified diff; empty if nothing would."""
    return "".join(line for advised in (*advice.entries, *advice.sidecars) for line in _diff(advised))


def to_yaml(one: Object) -> str:
    """Write an object as YAML."""
    text: str = yaml.dump(
        _ordered(one.document()), Dumper=_Dumper, sort_keys=False, default_flow_style=False, width=10_000
    )
    return text


def _ordered(document: dict[str, Any]) -> dict[str, Any]:
    metadata = {key: value for key, value in document["metadata"].items() if key != "creationTimestamp"}
    return {
        "apiVersion": document["apiVersion"],
        "kind": document["kind"],
        "metadata": metadata,
        "spec": document.get("spec", {}),
    }


def _diff(advised: Advised) -> Iterator[str]:
    name = f"{advised.object.kind}/{advised.object.title}"
    before = to_yaml(advised.before) if advised.before else ""
    yield from difflib.unified_diff(
        before.splitlines(keepends=True),
        to_yaml(advised.object).splitlines(keepends=True),
        f"a/{name}" if before else "/dev/null",
        f"b/{name}",
    )


def _head(advice: Advice) -> Iterator[str]:
    new = sum(advised.before is None for advised in advice.entries)
    yield _comment(
        f"{new} new and {len(advice.entries) - new} extended ServiceEntries, {len(advice.sidecars)} Sidecars."
    )
    yield _comment(f"From traffic seen {_time(advice.since)} to {_time(advice.until)} (UTC).")
    if advice.apart:
        yield _comment("What is not allowed by them is listed at the end, with the reasons.")


def _comments(advised: Advised) -> Iterator[str]:
    if advised.before:
        yield _comment(f"Extends the existing {advised.object.kind} {advised.object.title}.")
    for note in advised.notes:
        yield _comment(f"Note: {note}.")
    yield from _evidence(advised.evidence)


def _evidence(several: Iterable[Evidence]) -> Iterator[str]:
    listed = list(several)
    for one in listed[:_LISTED]:
        names = " and ".join(_NAME_SOURCES.get(name, name) for name in one.name_sources)
        port = f":{one.port}" if one.port else ""
        yield _comment(
            f"{one.host}{port}: {one.requests:,} requests by {_sources(one)}, "
            f"{_time(one.first)} to {_time(one.last)}, named by {names}"
        )
    if len(listed) > _LISTED:
        yield _comment(f"and {len(listed) - _LISTED:,} more hosts")


def _sources(one: Evidence) -> str:
    listed = ", ".join(f"{name} ({count:,})" for name, count in one.sources[:_SOURCES])
    more = len(one.sources) - _SOURCES
    return listed + (f" and {more:,} more" if more > 0 else "")


def _aparts(aparts: Iterable[Apart]) -> Iterator[str]:
    for apart in aparts:
        yield ""
        yield _comment(f"{apart.reason}:")
        yield from _networks(apart.evidence) if apart.reason == ADDRESS else ()
        yield from _evidence(apart.evidence)


def _networks(several: Iterable[Evidence]) -> Iterator[str]:
    """The addresses of each port, put together to as few CIDRs as hold exactly them."""
    ports: dict[int, list[str]] = {}
    for one in several:
        ports.setdefault(one.port or 0, []).append(one.host)
    for port, addresses in sorted(ports.items()):
        found = [address for address in map(parse_ip, addresses) if address is not None]
        v4 = ipaddress.collapse_addresses(
            ipaddress.IPv4Network(one) for one in found if isinstance(one, ipaddress.IPv4Address)
        )
        v6 = ipaddress.collapse_addresses(
            ipaddress.IPv6Network(one) for one in found if isinstance(one, ipaddress.IPv6Address)
        )
        networks = [*map(str, v4), *map(str, v6)]
        more = f" and {len(networks) - _LISTED:,} more" if len(networks) > _LISTED else ""
        yield _comment(f"port {port or 'unknown'}: {', '.join(networks[:_LISTED])}{more}")


def _unused(advice: Advice) -> Iterator[str]:
    if advice.unused is None:
        yield ""
        yield _comment("Which entries are no longer used cannot be told: the history is too short.")
    elif advice.unused:
        yield ""
        yield _comment("Entries without traffic, to be removed:")
        for one in advice.unused:
            seen = f"last used {_time(one.last_seen)}" if one.last_seen else "not used in the history"
            hosts = ", ".join(one.entry.spec.hosts[:_SOURCES])
            yield _comment(f"ServiceEntry {one.entry.title} ({hosts}): {seen}")


def _comment(text: str) -> str:
    return f"# {visible(text)}"


def _time(when: datetime) -> str:
    return when.strftime("%Y-%m-%d %H:%M")
