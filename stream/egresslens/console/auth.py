"""Who asks: nobody in particular (loopback), a user of the password file, or whom a reverse proxy names."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import logging
import secrets
import stat
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web

from egresslens.console.problems import Problem
from egresslens.settings import Settings, SettingsError

log: Final = logging.getLogger("egresslens.console")

COOKIE: Final = "egresslens_session"
SESSION_S: Final = 12 * 3600
_MAX_SESSIONS: Final = 10_000
_MAX_FAILURES: Final = 10
_FAILURES_S: Final = 300.0
_MAX_ADDRESSES: Final = 10_000
_LONGEST: Final = 256

Clock = Callable[[], float]
"""Seconds, monotonic."""


class Passwords:
    """Users and their passwords."""

    def __init__(self, passwords: Mapping[str, str]) -> None:
        self._digests = {user: _digest(password) for user, password in passwords.items()}
        self._nobody = _digest(secrets.token_hex())

    @classmethod
    def of_file(cls, path: Path) -> Passwords:
        """Read lines `user:password`; blank lines and those that begin with # are none.

        Raises:
            SettingsError: the file cannot be read, can be written by others, or holds no user.
        """
        what = f"EGRESSLENS_CONSOLE_PASSWORD_FILE: {path}"
        try:
            mode = path.stat().st_mode
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{what}: {error}") from error
        if mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise SettingsError(f"{what} can be written by others: chmod 600 {path}")
        # Not refused: Docker and Kubernetes mount secrets so, for a program that is not the files' owner.
        if mode & stat.S_IROTH:
            log.warning("%s can be read by all users of this machine or container", path)
        passwords: dict[str, str] = {}
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            user, colon, password = line.partition(":")
            if not colon or not user.strip() or not password:
                raise SettingsError(f"{what}: line {number} is not `user:password`")
            passwords[user.strip()] = password
        if not passwords:
            raise SettingsError(f"{what} holds no line `user:password`")
        return cls(passwords)

    def match(self, user: str, password: str) -> bool:
        """Whether the password is the user's, in the same time for every user that is and is not."""
        known = self._digests.get(user, self._nobody)
        return hmac.compare_digest(known, _digest(password)) and user in self._digests


class Sessions:
    """Who is logged in: tokens only browsers have, kept here as digests. Bounded; the oldest goes first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._users: OrderedDict[bytes, tuple[str, float]] = OrderedDict()

    def begin(self, user: str) -> str:
        """A new token."""
        token = secrets.token_urlsafe(32)
        self._users[_digest(token)] = (user, self._clock() + SESSION_S)
        while len(self._users) > _MAX_SESSIONS:
            self._users.popitem(last=False)
        return token

    def user(self, token: str) -> str | None:
        """Whose token it is; None where it is over or none."""
        user, end = self._users.get(_digest(token), (None, 0.0))
        return user if self._clock() < end else None

    def end(self, token: str) -> None:
        """Log out."""
        self._users.pop(_digest(token), None)


class Failures:
    """Failed logins by address: so many, then none for a while. Bounded; the longest untouched goes first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failed: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def check(self, address: str) -> None:
        """Let an address try.

        Raises:
            Problem: it failed too often; with Retry-After.
        """
        count, until = self._failed.get(_network(address), (0, 0.0))
        left = until - self._clock()
        if count >= _MAX_FAILURES and left > 0:
            raise Problem(
                "too-many-requests",
                "too many passwords were wrong",
                headers={"Retry-After": str(int(left) + 1)},
            )

    def add(self, address: str) -> None:
        """Note a failure."""
        network, now = _network(address), self._clock()
        count, until = self._failed.pop(network, (0, 0.0))
        self._failed[network] = (count + 1 if until > now else 1, now + _FAILURES_S)
        while len(self._failed) > _MAX_ADDRESSES:
            self._failed.popitem(last=False)

    def forget(self, address: str) -> None:
        """A login worked."""
        self._failed.pop(_network(address), None)


@dataclass(frozen=True)
class Proxies:
    """The reverse proxies whose headers are believed, by peer address."""

    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Proxies:
        """Addresses and networks."""
        return cls(tuple(map(ipaddress.ip_network, texts)))

    def hold(self, peer: str) -> bool:
        """Whether a peer is one of them."""
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self.networks)


class Nobody:
    """Nobody needs to log in: only this machine reaches the console."""

    def user(self, _: web.BaseRequest) -> None:
        """Nobody in particular."""
        return


class NamedByProxy:
    """A reverse proxy logs people in, and names them in a header."""

    def __init__(self, header: str, proxies: Proxies) -> None:
        self._header = header
        self._proxies = proxies

    def user(self, request: web.BaseRequest) -> str:
        """Whom the proxy names.

        Raises:
            Problem: the request did not come through a proxy that is trusted, or names nobody.
        """
        if not self._proxies.hold(request.remote or ""):
            raise Problem(
                "forbidden",
                "the request did not come through a reverse proxy that is trusted",
                hint="Open the console through its proxy, one of EGRESSLENS_CONSOLE_PROXIES.",
            )
        named = request.headers.getall(self._header, [])
        if len(named) != 1 or not named[0].strip():
            raise Problem(
                "unauthorized", "the proxy names no user", hint=f"It must set {self._header}, once."
            )
        return named[0].strip()[:_LONGEST]


class Login:
    """Users of the password file: HTTP basic authentication for programs, a session for browsers."""

    def __init__(self, passwords: Passwords, proxies: Proxies, clock: Clock) -> None:
        self._passwords = passwords
        self._proxies = proxies
        self._sessions = Sessions(clock)
        self._failures = Failures(clock)

    def user(self, request: web.BaseRequest) -> str:
        """Who asks.

        Raises:
            Problem: nobody who may, or too many tries.
        """
        given = _basic(request.headers.get("Authorization", ""))
        if given is not None:
            return self._match(request, *given)
        user = self._sessions.user(request.cookies.get(COOKIE, ""))
        if user is None:
            raise _unauthorized(request, "log in first")
        return user

    def begin(self, request: web.BaseRequest, user: str, password: str, response: web.Response) -> None:
        """Log a browser in.

        Raises:
            Problem: user or password is wrong, or there were too many tries.
        """
        found = self._match(request, user, password)
        self.end(request, response)
        response.set_cookie(
            COOKIE,
            self._sessions.begin(found),
            path="/",
            max_age=SESSION_S,
            httponly=True,
            samesite="Strict",
            secure=self._is_secure(request),
        )

    def end(self, request: web.BaseRequest, response: web.Response) -> None:
        """Log a browser out."""
        self._sessions.end(request.cookies.get(COOKIE, ""))
        response.del_cookie(COOKIE, path="/", httponly=True, samesite="Strict")

    def _match(self, request: web.BaseRequest, user: str, password: str) -> str:
        address = self._address(request)
        self._failures.check(address)
        if not self._passwords.match(user[:_LONGEST], password[:_LONGEST]):
            self._failures.add(address)
            raise _unauthorized(request, "the user or the password is wrong")
        self._failures.forget(address)
        return user

    def _address(self, request: web.BaseRequest) -> str:
        """Who tries: the peer, or whom a trusted proxy says it speaks for."""
        peer = request.remote or ""
        forwarded = ",".join(request.headers.getall("X-Forwarded-For", []))
        hops = [hop.strip() for hop in forwarded.split(",")]
        for hop in reversed(hops):
            if not self._proxies.hold(peer) or not hop:
                break
            peer = hop
        return peer

    def _is_secure(self, request: web.BaseRequest) -> bool:
        """Whether the browser speaks TLS, with the console or with a trusted proxy."""
        proxied = self._proxies.hold(request.remote or "")
        return request.secure or (proxied and request.headers.get("X-Forwarded-Proto") == "https")


Gate = Nobody | NamedByProxy | Login


def gate(settings: Settings, clock: Clock, *, reachable: bool) -> Gate:
    """How these settings have people identified.

    Args:
        settings: of the console.
        clock: seconds, monotonic.
        reachable: whether others than this machine can reach the console.

    Raises:
        SettingsError: others could reach it and nobody would need to log in, or the settings are at odds.
    """
    proxies = Proxies.of(settings.console_proxies)
    if settings.console_user_header is not None:
        if settings.console_password_file is not None:
            raise SettingsError(
                "EGRESSLENS_CONSOLE_USER_HEADER and EGRESSLENS_CONSOLE_PASSWORD_FILE exclude each other: "
                "either a reverse proxy logs people in, or the console does"
            )
        if not proxies.networks:
            raise SettingsError(
                "EGRESSLENS_CONSOLE_USER_HEADER needs EGRESSLENS_CONSOLE_PROXIES: the addresses of the "
                "reverse proxies that set it, or anybody could"
            )
        return NamedByProxy(settings.console_user_header, proxies)
    if settings.console_password_file is not None:
        return Login(Passwords.of_file(settings.console_password_file), proxies, clock)
    if reachable:
        raise SettingsError(
            "beyond the loopback the console needs logins: set EGRESSLENS_CONSOLE_PASSWORD_FILE (lines "
            "`user:password`, mode 0600), or EGRESSLENS_CONSOLE_USER_HEADER and "
            "EGRESSLENS_CONSOLE_PROXIES for a reverse proxy that logs people in; or leave "
            "EGRESSLENS_CONSOLE_HOST at 127.0.0.1 and EGRESSLENS_CONSOLE_NAMES empty"
        )
    return Nobody()


def _unauthorized(request: web.BaseRequest, detail: str) -> Problem:
    # Browsers would ask for a password themselves; the page has a form for it.
    from_browser = "Sec-Fetch-Mode" in request.headers
    challenge = {} if from_browser else {"WWW-Authenticate": 'Basic realm="egresslens", charset="UTF-8"'}
    return Problem("unauthorized", detail, headers=challenge, login="login")


def _basic(header: str) -> tuple[str, str] | None:
    scheme, _, given = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, _, password = base64.b64decode(given.strip(), validate=True).decode().partition(":")
    except ValueError:
        return "", ""
    return user, password


def _digest(text: str) -> bytes:
    # Headers are read with surrogates where they are no UTF-8.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _network(address: str) -> str:
    """Whose tries count together: of IPv6 the /64 that one host commonly owns."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:_LONGEST]
    if isinstance(found, ipaddress.IPv6Address) and not found.ipv4_mapped:
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(getattr(found, "ipv4_mapped", None) or found)
