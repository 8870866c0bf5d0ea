"""The console as a web application, and serving it."""

from __future__ import annotations

import asyncio
import html
import logging
import signal
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import quote

import orjson
from aiohttp import web
from clickhouse_connect.driver.exceptions import ClickHouseError

from egresslens.clickhouse.errors import sort
from egresslens.console import guard, openapi, problems
from egresslens.console.api import BASE, ENDPOINTS, Api, Endpoint
from egresslens.console.auth import Gate, Login, gate
from egresslens.console.guard import Door, is_loopback
from egresslens.console.pool import Readers
from egresslens.console.problems import KINDS, Problem
from egresslens.settings import Settings, SettingsError
from egresslens.text import visible

log = logging.getLogger(__name__)

STATIC: Final = Path(__file__).parent / "static"
GRACE_S: Final = 3.0
_TYPES: Final = {
    ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css",
    ".json": "application/json", ".svg": "image/svg+xml", ".png": "image/png", ".ico": "image/x-icon",
    ".txt": "text/plain", ".map": "application/json",
}  # fmt: skip
# By name, so that no name leads anywhere else.
_FILES: Final = {
    path.relative_to(STATIC).as_posix(): path
    for path in STATIC.rglob("*")
    if path.suffix in _TYPES and path.is_file()
}
_LOGIN: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Log in · Egresslens</title>
<link rel="stylesheet" href="static/console.css">
</head>
<body class="login">
<main>
<h1>Egresslens</h1>
<form method="post" action="login">
<input type="hidden" name="next" value="{next}">
{problem}<p><label for="user">User</label><br><input id="user" name="user" autocomplete="username" required
autofocus></p>
<p><label for="password">Password</label><br>
<input id="password" name="password" type="password" autocomplete="current-password" required></p>
<p><button type="submit">Log in</button></p>
</form>
</main>
</body>
</html>
"""
# What may stand in a query string as it is.
_QUERY: Final = "?&=%+:;,@/*!$'()~-._"
_WRONG: Final = '<p role="alert" class="problem">{}</p>\n'

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def create_app(settings: Settings) -> web.Application:
    """The application. It connects to nothing until it is asked.

    Raises:
        SettingsError: the console's settings cannot be used.
    """
    reachable = not is_loopback(settings.console_host) or bool(settings.console_names)
    console = _Console(settings, gate(settings, time.monotonic, reachable=reachable))
    app = web.Application(middlewares=[console.describe_problems, console.let_in], client_max_size=16_384)
    app.on_response_prepare.append(_add_headers)
    app.cleanup_ctx.append(console.readers)
    app.router.add_get("/healthz", _healthz)
    app.router.add_get("/", partial(_file, name="index.html"))
    app.router.add_get("/static/{name:.+}", _file)
    for endpoint in ENDPOINTS:
        app.router.add_get(BASE + endpoint.path, partial(console.give, endpoint))
    app.router.add_get(f"{BASE}/openapi.json", _openapi)
    app.router.add_get(f"{BASE}/problems/{{kind}}", _problem_kind)
    if isinstance(console.gate, Login):
        app.router.add_get("/login", console.login_page)
        app.router.add_post("/login", console.login)
        app.router.add_post("/logout", console.logout)
    return app


async def serve(settings: Settings, announce: Callable[[str], object]) -> None:
    """Serve until SIGINT or SIGTERM; `announce` gets the URL.

    Raises:
        SettingsError: the console's settings cannot be used.
        OSError: the port is taken, or the address is not this machine's.
    """
    app = create_app(settings)
    context = _tls(settings)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=GRACE_S)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.console_host, settings.console_port, ssl_context=context)
        await site.start()
        host, port = settings.console_host, runner.addresses[0][1]
        named = f"[{host}]" if ":" in host else host
        announce(f"{'https' if context else 'http'}://{named}:{port}/")
        await stop.wait()
    finally:
        await runner.cleanup()


class _Console:
    """What the handlers share."""

    def __init__(self, settings: Settings, gate: Gate) -> None:
        self.gate = gate
        self._settings = settings
        self._door = Door(settings.console_names)
        self._api: Api | None = None

    async def readers(self, _: web.Application) -> AsyncIterator[None]:
        """The clients of the store, while the application runs."""
        readers = Readers(self._settings)
        self._api = Api(self._settings, readers, lambda: datetime.now(timezone.utc))
        yield
        readers.close()

    @web.middleware
    async def describe_problems(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer with the problem where there is one."""
        try:
            return await handler(request)
        except Problem as problem:
            return _problem(problem)
        except web.HTTPException as answer:
            return _problem(_of_answer(request, answer))
        except ClickHouseError as error:
            known = problems.of_store(error)
            if known is not None:
                return _problem(known)
            # Neither its text nor the query string: both hold values that somebody typed.
            log.error("%s: %s", _asked(request), _code(error))  # noqa: TRY400 - as above
        except Exception:
            log.exception("%s", _asked(request))
        return _problem(Problem("internal", KINDS["internal"].about))

    @web.middleware
    async def let_in(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let in what comes from the right place, and by whom it may."""
        self._door.check(request)
        if not _is_public(request.path):
            try:
                request["user"] = self.gate.user(request)
            except Problem as problem:
                if problem.details.login and request.path == "/":
                    return _redirect("login")
                raise
        return await handler(request)

    async def give(self, endpoint: Endpoint, request: web.Request) -> web.StreamResponse:
        """Answer a request to the API."""
        if self._api is None:
            raise RuntimeError("the application does not run")
        return await self._api.give(endpoint, request)

    async def login_page(self, request: web.Request) -> web.Response:
        """The form. `next` is the query string of the view to show then."""
        return _login_form(200, "", request.query.get("next", ""))

    async def login(self, request: web.Request) -> web.Response:
        """Log in."""
        self._door.check_form(request)
        try:
            form = await request.post()
        except (LookupError, ValueError):
            raise Problem("parameter", "the form cannot be read") from None
        then = str(form.get("next", ""))
        response = _redirect("./" + (quote(then, safe=_QUERY) if then.startswith("?") else ""))
        try:
            self._login.begin(request, str(form.get("user", "")), str(form.get("password", "")), response)
        except Problem as problem:
            form_again = _login_form(problem.details.status, problem.details.detail, then)
            form_again.headers.update(problem.headers)
            return form_again
        return response

    async def logout(self, request: web.Request) -> web.Response:
        """Log out."""
        self._door.check_form(request)
        response = _redirect("login")
        self._login.end(request, response)
        return response

    @property
    def _login(self) -> Login:
        if not isinstance(self.gate, Login):
            raise TypeError("nobody logs in here")
        return self.gate


def _is_public(path: str) -> bool:
    """Holds nothing that is stored."""
    return path in ("/healthz", "/login", "/logout") or path.startswith("/static/")


async def _healthz(_: web.Request) -> web.Response:
    return web.json_response({"ok": True})


async def _openapi(_: web.Request) -> web.Response:
    response = web.Response(body=orjson.dumps(openapi.document()), content_type="application/json")
    response.enable_compression()
    return response


async def _problem_kind(request: web.Request) -> web.Response:
    name = request.match_info["kind"]
    kind = KINDS.get(name)
    if kind is None:
        raise Problem("not-found", "there is no such kind of problem")
    return web.json_response({"type": f"{BASE}/problems/{name}", **kind._asdict()})


async def _file(request: web.Request, name: str | None = None) -> web.StreamResponse:
    path = _FILES.get(name or request.match_info["name"])
    if path is None:
        raise Problem("not-found", "this console has no such file")
    return web.FileResponse(path, headers={"Content-Type": _TYPES[path.suffix], "Cache-Control": "no-cache"})


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(guard.HEADERS)
    response.headers["Server"] = "egresslens"
    response.headers.setdefault("Cache-Control", "no-store")


def _of_answer(request: web.Request, answer: web.HTTPException) -> Problem:
    """The problem that aiohttp's own answer is."""
    if isinstance(answer, web.HTTPMethodNotAllowed):
        allowed = {"Allow": answer.headers["Allow"]}
        return Problem("method", f"{request.method} is not allowed here", headers=allowed)
    if isinstance(answer, web.HTTPRequestEntityTooLarge):
        return Problem("parameter", "the request's body is too long")
    return Problem("not-found", "this console serves nothing under this path")


def _asked(request: web.Request) -> str:
    """The request for a log: one line, without its query string."""
    return visible(f"{request.method} {request.path}")[:200]


def _code(error: ClickHouseError) -> str:
    trouble = sort(error)
    return f"ClickHouse: {trouble.code} {trouble.name}" if trouble else type(error).__name__


def _problem(problem: Problem) -> web.Response:
    return web.Response(
        body=problem.details.model_dump_json(exclude_none=True).encode(),
        status=problem.details.status,
        content_type=problems.MEDIA_TYPE,
        headers=problem.headers,
    )


def _redirect(to: str) -> web.Response:
    """Relative, so that a proxy may put the console under any path."""
    return web.Response(status=303, headers={"Location": to})


def _login_form(status: int, problem: str, then: str) -> web.Response:
    shown = _WRONG.format(html.escape(problem)) if problem else ""
    return web.Response(
        text=_LOGIN.format(problem=shown, next=html.escape(then)),
        status=status,
        content_type="text/html",
        charset="utf-8",
    )


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if settings.console_tls_certfile is None:
        if settings.console_tls_keyfile is not None:
            raise SettingsError("EGRESSLENS_CONSOLE_TLS_KEYFILE needs EGRESSLENS_CONSOLE_TLS_CERTFILE")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.console_tls_certfile, settings.console_tls_keyfile)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"EGRESSLENS_CONSOLE_TLS_CERTFILE: {error}") from error
    return context
