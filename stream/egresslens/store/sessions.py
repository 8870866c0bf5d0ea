"""Handles for requests: a fresh one, or the pinned one of a session."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from egresslens.store import errors
from egresslens.store.engine import Engine, Handle
from egresslens.store.errors import StoreError
from egresslens.store.passwords import Account

DEFAULT_SECONDS: Final = 60
MAX_SECONDS: Final = 3600
DEFAULT_DATABASE: Final = "default"


@dataclass
class Lease:
    """A handle for the time of one request.

    Attributes:
        chosen: what SET chose earlier in this session.
    """

    handle: Handle
    chosen: dict[str, str] = field(default_factory=dict)
    _pinned: bool = False
    _database: str = DEFAULT_DATABASE
    # What differs from the handle's beginning; None where a change has failed half-way, perhaps.
    _changed: dict[str, str | None] = field(default_factory=dict)
    _before: dict[str, str] = field(default_factory=dict)

    def prepare(self, database: str, settings: Mapping[str, str]) -> None:
        """Make `database` the current one and `settings`, over what SET chose, the only ones that differ.

        Names of settings must have been checked.
        """
        database = database or DEFAULT_DATABASE
        if database != self._database:
            self.handle.use(database)
            self._database = database
        wanted = {**self.chosen, **settings}
        # `SET name = DEFAULT` would give the engine's default, not that of the account's profile.
        changes = {name: self._before[name] for name in self._changed if name not in wanted}
        changes |= {name: value for name, value in wanted.items() if self._changed.get(name) != value}
        if not changes:
            return
        unknown = [name for name in changes if name not in self._before]
        if self._pinned and unknown:
            self._before |= self.handle.settings(unknown)
        self._changed |= dict.fromkeys(changes)
        self.handle.set(changes)
        self._changed = dict(wanted)


@dataclass
class _Session:
    lease: Lease
    expires: float
    lock: threading.Lock = field(default_factory=threading.Lock)


class Sessions:
    """Sessions by account and name; a session is used by one request at a time."""

    def __init__(self, engine: Engine, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._limit = limit
        self._clock = clock
        self._sessions: dict[tuple[Account, str], _Session] = {}
        self._lock = threading.Lock()

    @contextmanager
    def lease(
        self, account: Account, name: str, *, seconds: str = "", must_exist: bool = False
    ) -> Iterator[Lease]:
        """A handle for one request: the session's if `name` is one, else a fresh one.

        Raises:
            StoreError: the session is in use, unknown (`must_exist`), or `seconds` is no time of a session.
        """
        if not name:
            handle = self._engine.handle(account)
            try:
                yield Lease(handle)
            finally:
                handle.close()
            return
        kept = _seconds(seconds)
        session = self._take(account, name, must_exist=must_exist)
        try:
            yield session.lease
        finally:
            session.expires = self._clock() + kept
            session.lock.release()

    def end(self, account: Account, name: str) -> None:
        """Forget a session that is not in use."""
        with self._lock:
            self._drop(lambda key, _: key == (account, name))

    def close(self) -> None:
        """Forget all sessions that are not in use."""
        with self._lock:
            self._drop(lambda _, __: True)

    def _take(self, account: Account, name: str, *, must_exist: bool) -> _Session:
        key = (account, name)
        with self._lock:
            now = self._clock()
            self._drop(lambda _, session: session.expires < now)
            if key not in self._sessions:
                if must_exist:
                    raise StoreError(errors.SESSION_NOT_FOUND, f"Session {name!r} not found")
                self._make_room(account)
                self._sessions[key] = _Session(
                    Lease(self._engine.handle(account), _pinned=True), now + DEFAULT_SECONDS
                )
            session = self._sessions[key]
            if not session.lock.acquire(blocking=False):
                raise StoreError(
                    errors.SESSION_IS_LOCKED, f"Session {name!r} is locked by a concurrent client"
                )
            return session

    def _make_room(self, account: Account) -> None:
        mine = [key for key in self._sessions if key[0] == account]
        if len(mine) >= self._limit:
            first = min(mine, key=lambda key: self._sessions[key].expires)
            self._drop(lambda key, _: key == first)

    def _drop(self, which: Callable[[tuple[Account, str], _Session], bool]) -> None:
        for key in [key for key, session in self._sessions.items() if which(key, session)]:
            if self._sessions[key].lock.acquire(blocking=False):
                self._sessions.pop(key).lease.handle.close()


def _seconds(text: str) -> float:
    if not text:
        return DEFAULT_SECONDS
    if not text.isdecimal() or int(text) > MAX_SECONDS:
        raise StoreError(
            errors.INVALID_SESSION_TIMEOUT,
            f"Invalid session timeout {text[:20]!r}: at most {MAX_SECONDS} seconds",
        )
    return int(text)
