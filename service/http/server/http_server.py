"""The HTTP server: uvicorn with our connection class; it drains when the lifecycle does.

drain ─► listener closes ─► requests in flight finish or the time to drain is over ─► ``serve`` returns
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import resource
import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http import httptools_impl

from service.config import Settings
from service.http.server.connection import Connection
from service.metrics import Metrics
from service.serving.lifecycle import Lifecycle

#: uvicorn's buffer for a body, sized for an ordinary photo as in ``listener``.
_UNREAD_BODY = 2**18

#: Open files that are not connections: 14 on a CPU, more with a GPU driver, and those of /docs.
_OTHER_FILES = 128

#: Accepts connections from a listener for a server, until closed.
Accept = Callable[[socket.socket, "Server"], object]


def config(app: ASGIApp, settings: Settings, metrics: Metrics, lifecycle: Lifecycle) -> uvicorn.Config:
    # uvicorn pauses reading a connection when this much of a body waits for the application. It has no option for it.
    httptools_impl.HIGH_WATER_LIMIT = _UNREAD_BODY  # type: ignore[attr-defined]  # not exported
    max_connections = min(settings.max_connections, _file_limit() - _OTHER_FILES)
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
        # Longer than the idle time-outs of common balancers, so that no request meets a connection we have just closed.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=math.ceil(lifecycle.drain_s),
    )


def _file_limit() -> int:
    """Raise the limit to its maximum and return it. The default is often 1024 for select(), which is not used here."""
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    return limit


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
        if self._accept is None:
            await super().startup(sockets)
            return
        await super().startup([])
        for listener in sockets or ():
            # uvicorn only closes it and waits for that
            self.servers.append(cast(asyncio.Server, self._accept(listener, self)))

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # ``Lifecycle.signals`` handles them

    def connect(self) -> Connection:
        """The protocol of a new connection."""
        make = cast(Callable[..., Connection], self.config.http_protocol_class)
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    def _drain(self) -> None:
        self.should_exit = True
