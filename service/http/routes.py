"""The table of routes: for each path its name in the metrics, its methods, whether it needs an API key, its endpoint.

    app.router.routes ─► RouteTable ─► Observe (label), ApiKeys (keyless), dispatch (methods, direct)

Inference endpoints are called directly; every other route is called through FastAPI. OPTIONS is answered here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from service.http import problems

#: Key of a request's ``RouteEntry`` in its scope.
ENTRY = "service.route"


class InferenceRoute(Route):
    """Sends POST requests for ``path``, which may be a template such as ``/models/{name}/classify``, to ``app``."""

    def __init__(self, path: str, app: ASGIApp) -> None:
        super().__init__(path, _handler, methods=["POST"])
        self.app = app


async def _handler(request: Request) -> Response:
    raise AssertionError("requests go to the route's app")


class RouteEntry(NamedTuple):
    label: str  # the value of the ``endpoint`` label
    keyless: bool  # no API key is needed
    methods: tuple[str, ...] = ()  # beside OPTIONS; empty if nothing is served here
    direct: ASGIApp | None = None  # receives POST requests, bypassing FastAPI

    @property
    def allow(self) -> dict[str, str]:
        """The header that names the methods (RFC 9110, section 10.2.1)."""
        return {"Allow": ", ".join((*self.methods, "OPTIONS"))}


_GET, _POST = ("GET", "HEAD"), ("POST",)
_UNKNOWN = RouteEntry("other", keyless=False)
#: ``OPTIONS *`` asks about the whole server (RFC 9110, section 9.3.7).
_SERVER = RouteEntry("other", keyless=True, methods=(*_GET, *_POST))


class RouteTable:
    """Finds the entry of a path: exact paths first, then templates in order."""

    def __init__(self, routes: Iterable[BaseRoute], *, keyless: Collection[str], otherwise: ASGIApp) -> None:
        """``keyless``: paths, templates and mounts that need no API key. ``otherwise`` takes all other requests."""
        self._otherwise = otherwise
        # A path that needs no key needs none where nothing is served at it either.
        self._exact = {path: RouteEntry("other", keyless=True) for path in keyless}
        self._templates: list[tuple[re.Pattern[str], RouteEntry]] = []
        for route in routes:
            if isinstance(route, Mount):
                entry = RouteEntry("other", route.path in keyless, _GET)
                self._templates.append((re.compile(re.escape(route.path) + "/.*", re.DOTALL), entry))
            elif isinstance(route, Route):
                direct = route.app if isinstance(route, InferenceRoute) else None
                entry = RouteEntry(_label(route), route.path in keyless, _POST if direct else _GET, direct)
                if route.param_convertors:
                    self._templates.append((route.path_regex, entry))
                else:
                    self._exact[route.path] = entry

    @property
    def labels(self) -> Sequence[str]:
        """Every value of the ``endpoint`` label."""
        entries = [*self._exact.values(), *(entry for _, entry in self._templates), _UNKNOWN]
        return sorted({entry.label for entry in entries})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the route's own application, or ``otherwise``; after ``enter``."""
        app = self._otherwise
        if scope["type"] == "http":
            entry: RouteEntry = scope[ENTRY]
            method = scope["method"]
            if method in entry.methods:
                app = entry.direct or app
                if method == "HEAD":
                    scope = {**scope, "method": "GET"}  # the server omits the body
            elif method == "OPTIONS" and entry.methods:
                app = Response(status_code=204, headers=entry.allow)
            elif entry.methods:
                app = problems.method_not_allowed(entry.allow)
        await app(scope, receive, send)

    def enter(self, scope: Scope) -> RouteEntry:
        """Put the entry of the request's path, and the parameters in it, into ``scope``; return the entry."""
        entry = self._exact.get(scope["path"])
        if scope["method"] == "OPTIONS" and scope["path"] == "*":
            entry = _SERVER
        if entry is None:
            entry = _UNKNOWN
            for pattern, candidate in self._templates:
                if match := pattern.fullmatch(scope["path"]):
                    entry = candidate
                    scope["path_params"] = match.groupdict()
                    break
        scope[ENTRY] = entry
        return entry


def _label(route: Route) -> str:
    """Files of the web page and the like share one label."""
    if not isinstance(route, (InferenceRoute, APIRoute)) or route.path == "/":
        return "other"
    return route.path.removeprefix("/")
