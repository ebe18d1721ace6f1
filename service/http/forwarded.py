"""Who the client is behind proxies: the last address in X-Forwarded-For that is none of theirs (uvicorn's middleware).

Each proxy appends the address that connected to it, and only what our own proxies appended can be believed: whatever
stands further left, a client may have sent itself.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

#: Stands for the other end of a Unix socket, which has no address and is always believed.
_UNIX = "unix"
#: Begins an IPv4 address where IPv6 is listened to as well.
_MAPPED = "::ffff:"


class Forwarded(ProxyHeadersMiddleware):
    """Replaces the client in the scope if the request comes from one of ``proxies`` or through a Unix socket."""

    def __init__(self, app: ASGIApp, proxies: Collection[str]) -> None:
        """``proxies``: addresses, networks, or ``*`` for any, which takes the first address in the header."""
        untyped: Any = app
        super().__init__(untyped, "*" if "*" in proxies else [*proxies, _UNIX])

    # Starlette's types, as in every other ASGI application here; uvicorn's are of its own and mean the same.
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # type: ignore[override]
        host, port = scope.get("client") or (_UNIX, 0)
        untyped: tuple[Any, ...] = ({**scope, "client": (host.removeprefix(_MAPPED), port)}, receive, send)
        await super().__call__(*untyped)
