"""What every route needs, and the front that every request passes: keys, origin, errors, headers, a line in the log."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Route, Router
from starlette.types import Message, Receive, Scope, Send

from weevit.errors import WeevitError
from weevit.serve.addresses import Addresses
from weevit.serve.body import Bodies
from weevit.serve.bounds import PAUSE_S, Bounds
from weevit.serve.keys import Keys
from weevit.serve.metrics import Metrics
from weevit.serve.models import Models
from weevit.serve.place import is_this_machine
from weevit.serve.problems import Problem, ProblemError, of_error
from weevit.text import json_line, one_line

if TYPE_CHECKING:
    from weevit.serve.searching import Searcher

OPEN = frozenset(
    {
        *("/", "/page.js", "/page.css", "/shared.js", "/search", "/search.js"),
        *("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"),
    }
)
"""Paths that need no key: they tell nothing but that a server is there."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}

CONNECTION = "weevit.connection"
"""Key of a scope's state: the `Connection`; absent under other servers than ours."""


@dataclass
class Connection:
    """What is remembered of a connection between its requests.

    Attributes:
        refused_until: on the monotonic clock; until then it has been told to wait.
    """

    refused_until: float = 0.0


GONE = 499
"""Status in the log where the client went away before its answer."""


@dataclass
class Service:
    """A server's state.

    Attributes:
        bounds: limits of requests.
        addresses: where images may be fetched from.
        keys: None where no key is asked for.
        metrics: None where none are kept.
        write: takes the lines of the log.
        models: None until all have answered once.
        index: folder of the index that is searched; None for none.
        found: searches it; None until all models have answered once.
        draining: whether SIGTERM came: connections end with their answers.
        hosts: names that a request may call the server by, beside those of this machine; None for any. A page of
            anybody whose name a name server makes lead here would otherwise read the answers.
    """

    bounds: Bounds
    addresses: Addresses
    keys: Keys | None = None
    metrics: Metrics | None = None
    write: Callable[[str], None] = print
    models: Models | None = None
    index: Path | None = None
    found: Searcher | None = None
    draining: bool = False
    hosts: frozenset[str] | None = None
    bodies: Bodies = field(init=False)

    def __post_init__(self) -> None:
        """Nothing is held yet."""
        self.bodies = Bodies(self.bounds)

    @property
    def ready(self) -> bool:
        """Whether requests are answered."""
        return self.models is not None and not self.draining

    def loaded(self) -> Models:
        """The models; ProblemError 503 while they are loaded."""
        if self.models is None:
            raise _starting()
        return self.models

    def searcher(self) -> Searcher:
        """The index; ProblemError 503 while the models are loaded."""
        if self.found is None:
            raise _starting()
        return self.found


def _starting() -> ProblemError:
    return ProblemError(503, "starting", "The models are being loaded.", "GET /readyz", headers={"Retry-After": "1"})


class Front:
    """The application.

    Args:
        service: the state.
        routes: of the protocols.
    """

    def __init__(self, service: Service, routes: Sequence[Route]) -> None:
        self._service = service
        self._router = Router(list(routes), redirect_slashes=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":  # the server speaks nothing else
            return
        scope["app"] = self  # so that the router raises its errors
        sent = _Sent(send, self._service)
        start = time.perf_counter()
        try:
            self._check(scope)
            await self._router(scope, receive, sent)
        except ClientDisconnect:
            sent.status = GONE
        except Exception as error:
            await self._problem(error, scope, receive, sent)
        finally:
            self._log(scope, sent, time.perf_counter() - start)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host, hosts = _hostname(headers), self._service.hosts
        public = "." in host and not is_this_machine(host)  # a name in one word is of a network, and of no page
        if public and hosts is not None and host not in hosts:
            raise ProblemError(
                403,
                "other_host",
                f"This server is for this machine only, and is not known as {host[:60]!a}.",
                "weevit serve --allow-host NAME",
            )
        origin = headers.get("origin")
        if origin is not None and _netloc(origin) != headers.get("host"):
            raise ProblemError(403, "other_origin", "Pages of other origins may not use this server.")
        keys = self._service.keys
        if keys is not None and scope["path"] not in OPEN and not keys.has(_key(headers)):
            raise ProblemError(
                401,
                "no_key",
                "This server needs an API key.",
                "Authorization: Bearer KEY",
                headers={"WWW-Authenticate": "Bearer"},
            )

    async def _problem(self, error: Exception, scope: Scope, receive: Receive, sent: _Sent) -> None:
        problem = _problem_of(error)
        if problem.status == 500 and not isinstance(error, ProblemError):
            self._service.write(json_line({"level": "error", "error": type(error).__name__, "where": _where(error)}))
        sent.code = problem.code
        if problem.code == "busy":
            await _hold_back(scope)
        if not sent.started:
            problem.more.update(_for_clients_of(scope["path"], problem))
            await problem.response()(scope, receive, sent)

    def _log(self, scope: Scope, sent: _Sent, seconds: float) -> None:
        route = scope.get("route")
        path = route.path if isinstance(route, Route) else "other"
        notes = scope.get("state", {})
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "method": scope["method"] if scope["method"] in _METHODS else "other",
            "route": path,
            "status": sent.status,
            "ms": round(1000 * seconds, 1),
            "images": notes.get("images", 0),
            "bytes": notes.get("bytes", 0),
        }
        line |= {name: value for name, value in (("model", notes.get("model")), ("code", sent.code)) if value}
        self._service.write(json_line(line))
        if self._service.metrics is not None:
            self._service.metrics.request(path, sent.status, seconds)


async def _hold_back(scope: Scope) -> None:
    """Let a client that was refused on this connection a moment ago wait for its next refusal.

    Without, 64 clients that ask again at once take most of the processor from those that are answered.
    """
    connection = scope.get("state", {}).get(CONNECTION)
    if connection is None:  # another server's
        return
    await asyncio.sleep(connection.refused_until - time.monotonic())
    connection.refused_until = time.monotonic() + PAUSE_S


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})


class _Sent:
    """The way back: adds the headers, and remembers what was sent."""

    def __init__(self, send: Send, service: Service) -> None:
        self._send, self._service = send, service
        self.status, self.started, self.code = GONE, False, ""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started, self.status = True, message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            if self._service.draining:
                headers["Connection"] = "close"
        await self._send(message)


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:  # brackets that do not close: the origin of no page
        return ""


def _hostname(headers: Headers) -> str:
    """The name that the request calls the server by; empty without one, which no browser leaves out."""
    try:
        return urlsplit(f"//{headers.get('host', '')}").hostname or ""
    except ValueError:  # brackets that do not close: the name of no page
        return ""


def _key(headers: Headers) -> str:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")


def _problem_of(error: Exception) -> Problem:
    if isinstance(error, ProblemError):
        return error.problem
    if isinstance(error, HTTPException):
        if error.status_code == 405:
            allowed = (error.headers or {}).get("Allow", "")
            return Problem(405, "method", f"This address takes {allowed}.", "", {"Allow": allowed})
        return Problem(404, "unknown_address", "There is nothing at this address.", "GET /openapi.json lists them all")
    if isinstance(error, WeevitError):
        return of_error(error).problem
    return Problem(500, "failed", "The server failed; its log says where.")


def _for_clients_of(path: str, problem: Problem) -> dict[str, object]:
    """The field `error`, in which clients of two protocols look for a message."""
    if path.startswith("/v2"):
        return {"error": problem.detail}
    if path == "/v1/embeddings":
        said = f"{problem.detail} {problem.hint}".strip()
        return {"error": {"message": said, "type": problem.code, "code": problem.code, "param": None}}
    return {}


def _where(error: Exception) -> str:
    """The last line of code of an error, without its message: that may quote the request."""
    frames = traceback.extract_tb(error.__traceback__)
    return one_line(f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}") if frames else ""
