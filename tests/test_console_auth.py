"""Who may ask the console: passwords, sessions, failed logins, reverse proxies."""

from __future__ import annotations

from pathlib import Path

import pytest

from egresslens.console.auth import (
    Failures,
    Login,
    NamedByProxy,
    Nobody,
    Passwords,
    Proxies,
    Sessions,
    gate,
)
from egresslens.console.problems import Problem
from egresslens.settings import Settings, SettingsError


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def password_file(folder: Path, text: str = "ann:secret\n", mode: int = 0o600) -> Path:
    path = folder / "passwords"
    path.write_text(text)
    path.chmod(mode)
    return path


# --- settings -----------------------------------------------------------------------------------------------


def test_on_the_loopback_nobody_needs_to_log_in():
    assert isinstance(gate(Settings(), Clock(), reachable=False), Nobody)


def test_beyond_the_loopback_it_does_not_start_without_logins():
    with pytest.raises(SettingsError, match="EGRESSLENS_CONSOLE_PASSWORD_FILE"):
        gate(Settings(), Clock(), reachable=True)


def test_a_password_file_lets_users_log_in(tmp_path: Path):
    settings = Settings(console_password_file=password_file(tmp_path))
    assert isinstance(gate(settings, Clock(), reachable=True), Login)


def test_a_header_needs_the_proxies_that_set_it():
    with pytest.raises(SettingsError, match="EGRESSLENS_CONSOLE_PROXIES"):
        gate(Settings(console_user_header="X-Forwarded-User"), Clock(), reachable=True)


def test_a_header_and_a_password_file_exclude_each_other(tmp_path: Path):
    settings = Settings(
        console_user_header="X-Forwarded-User",
        console_proxies=("10.0.0.0/8",),
        console_password_file=password_file(tmp_path),
    )
    with pytest.raises(SettingsError, match="exclude each other"):
        gate(settings, Clock(), reachable=True)


def test_a_proxy_that_logs_people_in_is_enough():
    settings = Settings(console_user_header="X-Forwarded-User", console_proxies=("10.0.0.1",))
    assert isinstance(gate(settings, Clock(), reachable=True), NamedByProxy)


# --- passwords ----------------------------------------------------------------------------------------------


def test_a_password_is_its_users_alone(tmp_path: Path):
    known = Passwords.of_file(password_file(tmp_path, "# who may\n\nann:se:cret\nbob:other\n"))
    assert known.match("ann", "se:cret")
    assert not known.match("ann", "other")
    assert not known.match("nobody", "other")
    assert not known.match("", "")


# Docker and Kubernetes mount secrets with 0644 or 0444, for programs that are not their owner.
@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o440, 0o644, 0o444])
def test_a_file_that_only_its_owner_can_write_is_taken(tmp_path: Path, mode: int):
    Passwords.of_file(password_file(tmp_path, mode=mode))


@pytest.mark.parametrize("mode", [0o602, 0o646, 0o660, 0o666])
def test_a_file_that_others_can_write_is_refused(tmp_path: Path, mode: int):
    with pytest.raises(SettingsError, match="chmod 600"):
        Passwords.of_file(password_file(tmp_path, mode=mode))


@pytest.mark.parametrize("text", ["", "# nobody\n", "ann\n", ":secret\n", "ann:\n"])
def test_a_file_without_users_and_passwords_is_refused(tmp_path: Path, text: str):
    with pytest.raises(SettingsError, match="user:password") as refused:
        Passwords.of_file(password_file(tmp_path, text))
    assert "secret" not in str(refused.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(SettingsError, match="EGRESSLENS_CONSOLE_PASSWORD_FILE"):
        Passwords.of_file(tmp_path / "none")


# --- sessions -----------------------------------------------------------------------------------------------


def test_a_session_is_its_users_until_it_is_over():
    clock = Clock()
    sessions = Sessions(clock)
    token = sessions.begin("ann")
    assert sessions.user(token) == "ann"
    clock.now += 12 * 3600
    assert sessions.user(token) is None


def test_a_session_that_was_ended_is_nobodys():
    sessions = Sessions(Clock())
    token = sessions.begin("ann")
    sessions.end(token)
    assert sessions.user(token) is None


def test_a_token_nobody_was_given_is_nobodys():
    assert Sessions(Clock()).user("") is None


def test_sessions_are_bounded_and_the_oldest_goes_first():
    sessions = Sessions(Clock())
    tokens = [sessions.begin("ann") for _ in range(10_001)]
    assert sessions.user(tokens[0]) is None
    assert sessions.user(tokens[1]) == "ann"


# --- failed logins ------------------------------------------------------------------------------------------


def fail(failures: Failures, address: str, times: int) -> None:
    for _ in range(times):
        failures.add(address)


def test_after_ten_failures_an_address_has_to_wait():
    clock = Clock()
    failures = Failures(clock)
    fail(failures, "203.0.113.1", 9)
    failures.check("203.0.113.1")
    fail(failures, "203.0.113.1", 1)
    with pytest.raises(Problem) as refused:
        failures.check("203.0.113.1")
    assert refused.value.details.status == 429
    assert int(refused.value.headers["Retry-After"]) > 200
    failures.check("203.0.113.2")
    clock.now += 301
    failures.check("203.0.113.1")


def test_a_login_that_works_forgets_the_failures():
    failures = Failures(Clock())
    fail(failures, "203.0.113.1", 10)
    failures.forget("203.0.113.1")
    failures.check("203.0.113.1")


def test_all_addresses_of_one_host_count_together():
    failures = Failures(Clock())
    for number in range(10):
        failures.add(f"2001:db8::{number:x}")
    with pytest.raises(Problem):
        failures.check("2001:db8::ffff")
    failures.check("2001:db8:0:1::1")


def test_what_is_remembered_of_failures_is_bounded():
    failures = Failures(Clock())
    fail(failures, "203.0.113.1", 10)
    for number in range(10_000):
        failures.add(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    failures.check("203.0.113.1")


def test_a_proxy_is_known_by_its_peer_address():
    proxies = Proxies.of(["10.0.0.0/8", "2001:db8::1"])
    assert proxies.hold("10.1.2.3")
    assert proxies.hold("::ffff:10.1.2.3")
    assert proxies.hold("2001:db8::1")
    assert not proxies.hold("192.0.2.1")
    assert not proxies.hold("no address")
