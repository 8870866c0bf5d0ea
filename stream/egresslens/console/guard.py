"""What the console lets in before it asks who it is, and what it says to browsers with every answer.

A page of somebody else can have a browser send requests here, or (DNS rebinding) make its own name lead here.
So a request must call the console by an address or by a name of its own, and a browser's request to the API
must come from the console's own page. Nothing can be changed by a request but the session, and that only by
POST from the own page.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from egresslens.console.problems import Problem

LOCALHOST: Final = "localhost"
CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'; require-trusted-types-for 'script'; "
    "trusted-types 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    # Tells other sites nothing. With `no-referrer` browsers send `Origin: null` with the console's own forms
    # (Fetch standard, "append a request Origin header"), and who logs in could not be told from anybody.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


class Door:
    """Checks where a request comes from. `names` are those of the console, beside its address."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset((*names, LOCALHOST))

    def check(self, request: web.BaseRequest) -> None:
        """Let a request pass.

        Raises:
            Problem: it calls the console by a foreign name, or comes from a foreign page.
        """
        host = _hostname(f"//{request.host}")
        if not self._is_own(host):
            raise Problem("forbidden", f"this console is not called {host!r}"[:200])
        origin = request.headers.get("Origin")
        if origin is not None and not self._is_own_page(origin, request.host):
            raise Problem("forbidden", "a page of another origin asks")
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            # Following a link to the page is what links are for; using the API or a form is not.
            is_page = request.method in ("GET", "HEAD") and not request.path.startswith("/api/")
            if not is_page or request.headers.get("Sec-Fetch-Dest", "document") != "document":
                raise Problem("forbidden", "a page of another site asks")

    def check_form(self, request: web.BaseRequest) -> None:
        """Let a request that changes the session pass: from the console's own page alone.

        Raises:
            Problem: the browser does not say that it does.
        """
        if request.headers.get("Origin") is None and request.headers.get("Sec-Fetch-Site") != "same-origin":
            raise Problem("forbidden", "a form must come from the console's own page")

    def _is_own(self, host: str) -> bool:
        """Rebinding needs a name that an attacker owns: an address is never one."""
        return host in self._names or is_address(host)

    def _is_own_page(self, origin: str, host: str) -> bool:
        # Behind a proxy the console may be called by another name than browsers call it by.
        return urlsplit(origin).netloc.lower() == host.lower() or _hostname(origin) in self._names - {
            LOCALHOST
        }


def is_address(host: str) -> bool:
    """Whether a host is an address and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a listener on this host."""
    return host == LOCALHOST or (is_address(host) and ipaddress.ip_address(host).is_loopback)


def _hostname(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""
