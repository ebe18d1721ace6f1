"""The HTTP server: uvicorn with our connection class; it drains when the lifecycle does.

drain ─► listener closes ─► requests in flight finish or the time to drain is over ─► ``serve`` returns
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http import httptools_impl

from service.config import Settings
from service.host.process import connection_limit
from service.http.server.connection import Connection
from service.metrics import Metrics
from service.serving.lifecycle import Lifecycle

#: uvicorn's buffer for a body, sized for an ordinary photo as in ``listener``.
_UNREAD_BODY = 2**18

#: Accepts connections from a listener for a server, until closed.
Accept = Callable[[socket.socket, "Server"], object]


def config(app: ASGIApp, settings: Settings, metrics: Metrics, lifecycle: Lifecycle) -> uvicorn.Config:
    # uvicorn pauses reading a connection when this much of a body waits for the application. It has no option for it.
    httptools_impl.HIGH_WATER_LIMIT = _UNREAD_BODY  # type: ignore[attr-defined]  # not exported
    max_connections = connection_limit(settings.max_connections)
    return uvicorn.Config(
        app,
        loop="none",
        http=cast(type[asyncio.Protocol], partial(Connection, metrics=metrics, max_connections=max_connections)),
        ws="none",
        lifespan="off",
        proxy_headers=False,  # not used, and the wrapper costs a call per request
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=2048,
        timeout_keep_alive=settings.keep_alive_timeout,
        timeout_graceful_shutdown=math.ceil(lifecycle.drain_s),
    )


class Server(uvicorn.Server):
    """uvicorn's server without its signal handlers: it drains when ``lifecycle`` does."""

    def __init__(
        self, app: ASGIApp, settings: Settings, metrics: Metrics, lifecycle: Lifecycle, accept: Accept | None = None
    ) -> None:
        """``accept`` is used for a listener that several processes share."""
        super().__init__(config(app, settings, metrics, lifecycle))
        self._accept = accept
        lifecycle.on_drain(self._drain)

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return len(self.server_state.connections)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        sockets = sockets or []
        if self._accept is None and all(listener.family != socket.AF_UNIX for listener in sockets):
            await super().startup(sockets)
            return
        await super().startup([])
        for listener in sockets:
            if self._accept is None:
                loop = asyncio.get_running_loop()
                server = await loop.create_unix_server(self.connect, sock=listener, backlog=self.config.backlog)
            else:  # uvicorn only closes it and waits for that
                server = cast(asyncio.Server, self._accept(listener, self))
            self.servers.append(server)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # ``Lifecycle.signals`` handles them

    def connect(self) -> Connection:
        """The protocol of a new connection."""
        make = cast(Callable[..., Connection], self.config.http_protocol_class)
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    def _drain(self) -> None:
        self.should_exit = True
