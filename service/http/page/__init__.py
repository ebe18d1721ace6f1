"""``/``: the web page, plain HTML, CSS and JavaScript modules, with nothing loaded from other servers.

The files are read once, at start, and served from memory; each is a route of its own.
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

#: The files that the page loads.
_FILES: Final = tuple(
    sorted(path.name for path in _STATIC.iterdir() if path.suffix in _MEDIA_TYPES and path.name != _INDEX)
)

#: The paths of the page and its files. They need no API key: they hold no data, and the page asks for a key itself.
PATHS: Final = ("/", *(f"/page/{name}" for name in _FILES))

#: Allows only the page's own files and images made in the browser; text never becomes markup or a script.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)

#: Removed from the page if /docs is not served.
_DOCS_LINK: Final = b'<a href="docs">Try every endpoint</a>'


def add_page(app: FastAPI, *, docs: bool) -> None:
    """Add ``/`` and its files; the page links to ``/docs`` if ``docs``."""
    index = (_STATIC / _INDEX).read_bytes()
    assert _DOCS_LINK in index
    if not docs:
        index = index.replace(_DOCS_LINK, b"")
    page_headers = {"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer"}
    app.router.routes.append(Route("/", _handler(index, ".html", page_headers)))
    for path in (_STATIC / name for name in _FILES):
        app.router.routes.append(Route(f"/page/{path.name}", _handler(path.read_bytes(), path.suffix, {})))


def _handler(body: bytes, suffix: str, headers: dict[str, str]) -> Callable[[Request], Awaitable[Response]]:
    # The tag depends on the content, so replicas agree. Browsers must revalidate: an update of the service changes it.
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {**headers, "Cache-Control": "no-cache", "ETag": tag}

    async def answer(request: Request) -> Response:
        tags = [part.strip().removeprefix("W/") for part in request.headers.get("if-none-match", "").split(",")]
        if tag in tags or "*" in tags:
            return Response(status_code=304, headers=headers)
        return Response(body, media_type=_MEDIA_TYPES[suffix], headers=headers)

    return answer
