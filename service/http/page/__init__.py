"""``/``: a page for people, made of this process's own files: plain HTML, CSS and modules, nothing from elsewhere.

The files are read once, at start, and served from memory; a name that is not among them is no path at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from fastapi import FastAPI, Request, Response
from starlette.routing import Route

_STATIC: Final = Path(__file__).parent / "static"
_INDEX: Final = "index.html"

_MEDIA_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

#: What the page loads: these names and no others.
_FILES: Final = tuple(
    sorted(path.name for path in _STATIC.iterdir() if path.suffix in _MEDIA_TYPES and path.name != _INDEX)
)

#: The paths of the page and its files. None of them needs an API key: they hold nothing, and the page asks for one.
PATHS: Final = ("/", *(f"/page/{name}" for name in _FILES))

#: Own files and pictures made in the browser; text never becomes markup or a script.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)

#: Stands in the page where /docs is served and is taken out where it is not.
_DOCS_LINK: Final = b'<a href="docs">Try every endpoint</a>'

_Answer = Callable[[Request], Awaitable[Response]]


def install(app: FastAPI, *, docs: bool) -> None:
    """Add ``/`` and its files; the page leads to ``/docs`` if ``docs``."""
    index = (_STATIC / _INDEX).read_bytes()
    assert _DOCS_LINK in index
    if not docs:
        index = index.replace(_DOCS_LINK, b"")
    page_headers = {"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer"}
    routes = [Route("/", _answer(index, ".html", page_headers), methods=["GET"])]
    for name in _FILES:
        path = _STATIC / name
        routes.append(Route(f"/page/{name}", _answer(path.read_bytes(), path.suffix, {}), methods=["GET"]))
    app.router.routes.extend(routes)


def _answer(body: bytes, suffix: str, headers: dict[str, str]) -> _Answer:
    # By content, so that replicas agree. Kept, but asked for again each time: an update of the service changes it.
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {**headers, "Cache-Control": "no-cache", "ETag": tag}

    async def answer(request: Request) -> Response:
        known = [part.strip().removeprefix("W/") for part in request.headers.get("if-none-match", "").split(",")]
        if tag in known or "*" in known:
            return Response(status_code=304, headers=headers)
        return Response(body, media_type=_MEDIA_TYPES[suffix], headers=headers)

    return answer
