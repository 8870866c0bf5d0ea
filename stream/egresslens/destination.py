"""Hosts and addresses: what a record's names and addresses say about where the traffic went.

Everything here is read from the record alone. Whether a destination is external, in which region it lies and
which ServiceEntry knows it is judged when read (design section 3).
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import Final, NamedTuple

import idna

_CACHE: Final = 65_536
_PORT = re.compile(r":(\d{1,5})$")
_ASCII = re.compile(r"^[\x21-\x7e]+$")

# Istio's own name for the probe port's inbound cluster (up to 1.5): no host, so its case is kept.
_RESERVED_HOSTS: Final = frozenset({"mgmtCluster"})

# `outbound_.PORT_.SUBSET_.HOST`: Istio's SNI on mutual TLS connections (model/service.go,
# BuildDNSSrvSubsetKey). Published copies sometimes lose the underscores around the subset.
_SRV = re.compile(r"^(?:outbound|inbound)_\.(\d+)_\.(?:(?P<subset>.*?)_\.(?P<host>.+)|[^.]*\.(?P<rest>.+))$")


class HostPort(NamedTuple):
    """A host as it was asked for: normalised name or address, its port, and which of the two it is."""

    host: str | None
    port: int | None
    is_address: bool


class Address(NamedTuple):
    """An IP address and a port; null where the text holds none."""

    ip: str | None
    port: int | None


@lru_cache(maxsize=_CACHE)
def host_port(authority: str | None) -> HostPort:
    """Read `host`, `host:port`, `ip:port` or `[v6]:port`, as an authority or SNI has it."""
    if not authority:
        return HostPort(None, None, is_address=False)
    text = authority.strip()
    port = None
    match = _PORT.search(text)
    if match and (text.count(":") == 1 or text[: match.start()].endswith("]")) and int(match[1]) <= 65535:
        port = int(match[1])
        text = text[: match.start()]
    ip = _ip(text)
    if ip:
        return HostPort(ip, port, is_address=True)
    return HostPort(normal_host(text), port, is_address=False)


@lru_cache(maxsize=_CACHE)
def normal_host(host: str) -> str | None:
    """Lower-case a host name, drop its trailing dot and spell it in ASCII (IDNA 2008, UTS 46).

    What is no host name at all is kept as it was asked for, in lower case: it is evidence.
    """
    if host in _RESERVED_HOSTS:
        return host
    host = host.rstrip(".")
    if not host:
        return None
    if not _ASCII.match(host):
        try:
            host = idna.encode(host, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError):
            return host.lower()
    return host.lower()


@lru_cache(maxsize=_CACHE)
def sni_host(name: str | None) -> HostPort:
    """Read a server name: a host, or Istio's `outbound_.PORT_.SUBSET_.HOST`, which names the service."""
    match = _SRV.match(name) if name else None
    if not match:
        return host_port(name)
    return HostPort(normal_host(match["host"] or match["rest"]), int(match[1]), is_address=False)


def is_srv_name(name: str | None) -> bool:
    """Whether a server name is Istio's `outbound_.…` form, which only mutual TLS inside the mesh uses."""
    return bool(name and _SRV.match(name))


@lru_cache(maxsize=_CACHE)
def address(text: str | None) -> Address:
    """Read `ip:port`, `[v6]:port`, `tcp://ip:port` or `envoy://listener/ip:port`.

    A UNIX socket's path or an internal listener's name holds no address.
    """
    if not text or text.startswith("/"):
        return Address(None, None)
    tail = text.rsplit("/", 1)[-1]
    match = _PORT.search(tail)
    if match and (tail.count(":") == 1 or tail[: match.start()].endswith("]")):
        ip = _ip(tail[: match.start()])
        return Address(ip, int(match[1]) if ip and int(match[1]) <= 65535 else None)
    return Address(_ip(tail), None)


def _ip(text: str) -> str | None:
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if not bare or (bare[0] not in "0123456789abcdefABCDEF:"):
        return None
    try:
        return str(ipaddress.ip_address(bare.split("%", 1)[0]))
    except ValueError:
        return None
