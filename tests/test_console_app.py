"""The console over HTTP, without a store: who is let in, what every answer says to browsers, errors."""

from __future__ import annotations

import base64
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from egresslens.console.app import create_app
from egresslens.console.auth import COOKIE
from egresslens.kafka.broker import free_port
from egresslens.settings import Settings, SettingsError

OWN = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}
META = "/api/v1/meta"
OPENAPI = "/api/v1/openapi.json"


@asynccontextmanager
async def console(**given: Any) -> AsyncIterator[TestClient]:
    """A console whose store is away."""
    settings = Settings(clickhouse_url=f"http://127.0.0.1:{free_port()}", **given)
    async with TestClient(TestServer(create_app(settings))) as client:
        yield client


@pytest.fixture
def passwords(tmp_path: Path) -> Path:
    path = tmp_path / "passwords"
    path.write_text("ann:secret\nbob:other\n")
    path.chmod(0o600)
    return path


async def problem(answer: ClientResponse) -> dict[str, Any]:
    assert answer.content_type == "application/problem+json"
    found = await answer.json()
    assert found["status"] == answer.status
    assert found["hint"]
    return found


def own_origin(client: TestClient) -> dict[str, str]:
    return {"Origin": f"http://{client.host}:{client.port}", **OWN}


async def log_in(
    client: TestClient, user: str = "ann", password: str = "secret", **headers: str
) -> ClientResponse:
    form = {"user": user, "password": password}
    return await client.post(
        "/login", data=form, headers={**own_origin(client), **headers}, allow_redirects=False
    )


# --- what every answer says ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/static/main.js", META, OPENAPI, "/healthz", "/nothing"])
async def test_every_answer_has_the_strict_headers(path: str):
    async with console() as client:
        answer = await client.get(path)
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert answer.headers["Server"] == "egresslens"
        assert "Access-Control-Allow-Origin" not in answer.headers


async def test_answers_are_never_kept():
    async with console() as client:
        assert (await client.get(OPENAPI)).headers["Cache-Control"] == "no-store"


async def test_the_page_and_its_files_are_checked_before_they_are_used_again():
    async with console() as client:
        page = await client.get("/")
        assert (page.status, page.content_type) == (200, "text/html")
        assert page.headers["Cache-Control"] == "no-cache"
        again = await client.get("/", headers={"If-None-Match": page.headers["ETag"]})
        assert again.status == 304


async def test_scripts_have_a_type_that_modules_need():
    async with console() as client:
        assert (await client.get("/static/main.js")).content_type == "text/javascript"


@pytest.mark.parametrize(
    "name", ["../app.py", "..%2fapp.py", "%2e%2e/app.py", "/etc/passwd", "", "views", "none.js", "..\\app.py"]
)
async def test_nothing_but_the_pages_files_is_served(name: str):
    async with console() as client:
        answer = await client.get(f"/static/{name}")
        assert answer.status == 404
        await problem(answer)


# --- errors -------------------------------------------------------------------------------------------------


async def test_a_store_that_is_away_is_said_with_what_to_check():
    async with console() as client:
        answer = await client.get(META)
        found = await problem(answer)
        assert (answer.status, found["type"]) == (503, "/api/v1/problems/store-unreachable")
        assert "EGRESSLENS_CLICKHOUSE_URL" in found["hint"]
        assert answer.headers["Retry-After"]


async def test_a_parameter_that_is_none_is_named():
    async with console() as client:
        answer = await client.get("/api/v1/graph?namspace=shop")
        assert answer.status == 400
        assert (await problem(answer))["parameter"] == "namspace"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_nothing_can_be_changed(method: str):
    async with console() as client:
        answer = await client.request(method, META)
        assert answer.status == 405
        await problem(answer)


async def test_what_kinds_of_problems_mean_is_served():
    async with console() as client:
        found = await (await client.get("/api/v1/problems/slow")).json()
        assert found["status"] == 504
        assert (await client.get("/api/v1/problems/none")).status == 404


async def test_a_fault_is_logged_without_what_was_asked(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    async def fail(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("egresslens.console.api.Api.give", fail)
    async with console() as client:
        with caplog.at_level(logging.DEBUG):
            answer = await client.get("/api/v1/events?request_id=hidden-value")
        assert answer.status == 500
        assert "broken" not in str(await problem(answer))
        said = [caplog.handler.format(one) for one in caplog.records if one.name.startswith("egresslens")]
        assert "broken" in said[0]
        assert "hidden-value" not in "".join(said)


# --- from where ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:80", "192.0.2.1", "console.example.com"]
)
async def test_it_answers_to_its_address_and_its_names(host: str, passwords: Path):
    names = ("console.example.com",)
    async with console(console_names=names, console_password_file=passwords) as client:
        assert (await client.get("/healthz", headers={"Host": host})).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "", "console.example.com"]
)
@pytest.mark.parametrize("path", ["/", META, "/healthz", "/static/main.js"])
async def test_a_name_that_is_not_its_own_is_refused(host: str, path: str):
    async with console() as client:
        answer = await client.get(path, headers={"Host": host})
        assert answer.status == 403
        await problem(answer)


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://localhost.evil.example"]
)
async def test_a_page_of_another_origin_is_refused(origin: str):
    async with console() as client:
        assert (await client.get(OPENAPI, headers={"Origin": origin})).status == 403


async def test_its_own_page_is_answered():
    async with console() as client:
        assert (await client.get(OPENAPI, headers=own_origin(client))).status == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_another_site_may_link_to_the_page_and_not_use_the_api(site: str):
    async with console() as client:
        link = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        assert (await client.get("/", headers=link)).status == 200
        assert (await client.get(OPENAPI, headers=link)).status == 403
        assert (await client.get("/", headers={**link, "Sec-Fetch-Dest": "iframe"})).status == 403
        assert (await client.get("/static/main.js", headers={**OWN, "Sec-Fetch-Site": site})).status == 403


# --- who ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given", [{"console_host": "0.0.0.0"}, {"console_host": "192.0.2.1"}, {"console_names": ("a.example",)}]
)
def test_without_logins_it_is_for_this_machine_alone(given: dict[str, Any]):
    with pytest.raises(SettingsError, match="needs logins"):
        create_app(Settings(**given))


@pytest.mark.parametrize("path", [META, OPENAPI, "/api/v1/nothing"])
async def test_without_a_password_nothing_is_answered(passwords: Path, path: str):
    async with console(console_password_file=passwords) as client:
        answer = await client.get(path)
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")
        assert (await problem(answer))["login"] == "login"


async def test_a_browser_is_not_asked_for_a_password_by_itself(passwords: Path):
    async with console(console_password_file=passwords) as client:
        answer = await client.get(OPENAPI, headers=OWN)
        assert answer.status == 401
        assert "WWW-Authenticate" not in answer.headers


async def test_the_page_leads_to_the_login(passwords: Path):
    async with console(console_password_file=passwords) as client:
        answer = await client.get("/", allow_redirects=False)
        assert (answer.status, answer.headers["Location"]) == (303, "login")
        form = await client.get("/login")
        assert (form.status, form.content_type) == (200, "text/html")
        assert 'type="password"' in await form.text()


async def test_programs_use_basic_authentication(passwords: Path):
    async with console(console_password_file=passwords) as client:
        right = {"Authorization": f"Basic {base64.b64encode(b'ann:secret').decode()}"}
        wrong = {"Authorization": f"Basic {base64.b64encode(b'ann:other').decode()}"}
        assert (await client.get(OPENAPI, headers=right)).status == 200
        assert (await client.get(OPENAPI, headers=wrong)).status == 401
        assert (await client.get(OPENAPI, headers={"Authorization": "Basic !"})).status == 401
        assert (await client.get(OPENAPI, headers={"Authorization": "Bearer x"})).status == 401


async def test_a_browser_logs_in_and_out(passwords: Path):
    async with console(console_password_file=passwords) as client:
        answer = await log_in(client)
        assert (answer.status, answer.headers["Location"]) == (303, "./")
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert "Secure" not in cookie
        assert (await client.get(OPENAPI, headers=OWN)).status == 200
        token = answer.cookies[COOKIE].value
        out = await client.post("/logout", headers=own_origin(client), allow_redirects=False)
        assert (out.status, out.headers["Location"]) == (303, "login")
        kept = {"Cookie": f"{COOKIE}={token}", **OWN}
        assert (await client.get(OPENAPI, headers=kept)).status == 401


@pytest.mark.parametrize(
    ("then", "location"),
    [
        ("?view=blocked&host=*.example.com", "./?view=blocked&host=*.example.com"),
        ("?host=a%20b", "./?host=a%20b"),
        ("?host=\u202e\r\nX: y", "./?host=%E2%80%AE%0D%0AX:%20y"),
        ("//evil.example", "./"),
        ("https://evil.example/?", "./"),
    ],
)
async def test_after_the_login_comes_the_view_that_was_asked_for(passwords: Path, then: str, location: str):
    async with console(console_password_file=passwords) as client:
        form = {"user": "ann", "password": "secret", "next": then}
        answer = await client.post("/login", data=form, headers=own_origin(client), allow_redirects=False)
        assert (answer.status, answer.headers["Location"]) == (303, location)


async def test_the_view_that_was_asked_for_is_text_in_the_form(passwords: Path):
    async with console(console_password_file=passwords) as client:
        text = await (await client.get("/login", params={"next": '?"><script>'})).text()
        assert "<script>" not in text
        assert 'value="?&quot;&gt;&lt;script&gt;"' in text


async def test_a_wrong_password_is_said_in_the_form_and_sets_no_session(passwords: Path):
    async with console(console_password_file=passwords) as client:
        answer = await log_in(client, user="<b>ann", password="guess")
        text = await answer.text()
        assert (answer.status, answer.content_type) == (401, "text/html")
        assert "is wrong" in text
        assert "guess" not in text
        assert "<b>" not in text
        assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("path", ["/login", "/logout"])
@pytest.mark.parametrize(
    "headers", [{}, {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
)
async def test_only_its_own_page_logs_in_and_out(passwords: Path, path: str, headers: dict[str, str]):
    async with console(console_password_file=passwords) as client:
        form = {"user": "ann", "password": "secret"}
        answer = await client.post(path, data=form, headers=headers, allow_redirects=False)
        assert answer.status == 403


async def test_too_many_failures_have_to_wait(passwords: Path):
    async with console(console_password_file=passwords) as client:
        for _ in range(10):
            assert (await log_in(client, password="guess")).status == 401
        answer = await log_in(client)
        assert answer.status == 429
        assert int(answer.headers["Retry-After"]) > 0


async def test_a_form_that_is_too_long_is_refused(passwords: Path):
    async with console(console_password_file=passwords) as client:
        assert (await log_in(client, password="x" * 100_000)).status == 400


async def test_behind_tls_of_a_trusted_proxy_the_cookie_is_secure(passwords: Path):
    async with console(console_password_file=passwords, console_proxies=("127.0.0.1",)) as client:
        answer = await log_in(client, **{"X-Forwarded-Proto": "https"})
        assert "Secure" in answer.headers["Set-Cookie"]


async def test_failures_count_by_whom_a_trusted_proxy_speaks_for(passwords: Path):
    async with console(console_password_file=passwords, console_proxies=("127.0.0.1",)) as client:
        for _ in range(10):
            await log_in(client, password="guess", **{"X-Forwarded-For": "198.51.100.7"})
        assert (await log_in(client, **{"X-Forwarded-For": "198.51.100.7"})).status == 429
        assert (await log_in(client, **{"X-Forwarded-For": "198.51.100.8"})).status == 303


async def test_whom_a_stranger_says_it_speaks_for_does_not_count(passwords: Path):
    async with console(console_password_file=passwords) as client:
        for number in range(10):
            await log_in(client, password="guess", **{"X-Forwarded-For": f"198.51.100.{number}"})
        assert (await log_in(client)).status == 429


async def test_a_trusted_proxy_names_the_user():
    given = {"console_user_header": "X-Forwarded-User", "console_proxies": ("127.0.0.1",)}
    async with console(**given) as client:
        assert (await client.get(OPENAPI, headers={"X-Forwarded-User": "ann"})).status == 200
        assert (await client.get(OPENAPI)).status == 401
        assert (await client.get(OPENAPI, headers={"X-Forwarded-User": " "})).status == 401
        assert (await client.get("/login")).status == 404


async def test_a_header_of_anybody_else_names_nobody():
    given = {"console_user_header": "X-Forwarded-User", "console_proxies": ("192.0.2.1",)}
    async with console(**given) as client:
        answer = await client.get(OPENAPI, headers={"X-Forwarded-User": "ann"})
        assert answer.status == 403
        assert "EGRESSLENS_CONSOLE_PROXIES" in (await problem(answer))["hint"]


# --- what no browser sends ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a%00b.js", "x" * 300 + ".js", "..%2fapp.py", "%ff.js"])
async def test_a_name_that_no_file_can_have_is_not_found(name: str):
    async with console() as client:
        answer = await client.get(URL(f"/static/{name}", encoded=True))
        assert answer.status == 404


@pytest.mark.parametrize(
    "headers",
    [{"Authorization": "Basic \udcff"}, {"Cookie": f"{COOKIE}=\udcff"}, {"Authorization": "Basic \xff"}],
)
async def test_credentials_that_are_no_text_are_wrong(passwords: Path, headers: dict[str, str]):
    async with console(console_password_file=passwords) as client:
        answer = await client.get("/api/v1/meta", headers=headers)
        assert answer.status == 401


async def test_a_form_in_an_encoding_that_does_not_exist_is_a_wrong_parameter(passwords: Path):
    async with console(console_password_file=passwords) as client:
        of_form = {"Content-Type": "application/x-www-form-urlencoded; charset=foo"}
        answer = await client.post("/login", data="user=a", headers={**own_origin(client), **of_form})
        assert answer.status == 400
