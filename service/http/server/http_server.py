"""The HTTP server: uvicorn with our connection class; it drains when the lifecycle does.

drain ─► listener closes ─► requests in flight finish, for as long as the drain may take ─► ``serve`` returns
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import resource
import socket
from collections.abc import Callable, Iterator
from typing import cast

import uvicorn
from uvicorn.protocols.http import httptools_impl

from service.config import Settings
from service.http.app import Service
from service.http.server.connection import Connection, protocol
from service.metrics import Metrics
from service.serving.lifecycle import Lifecycle

#: The parser's part of the room for an ordinary photo, see ``listener``.
_UNREAD_BODY = 2**18

#: Kept for what is no connection: 14 files on a CPU, more with a driver, and those of /docs.
_OTHER_FILES = 128


#: Given a listener, a maker of connections' protocols and a count of the open ones: takes connections until closed.
Accept = Callable[[socket.socket, Callable[[], Connection], Callable[[], int]], asyncio.Server]


def config(app: Service, settings: Settings, metrics: Metrics, lifecycle: Lifecycle) -> uvicorn.Config:
    # uvicorn stops reading a connection whose request holds this much that the application has not asked for yet. There
    # is no option for it.
    httptools_impl.HIGH_WATER_LIMIT = _UNREAD_BODY  # type: ignore[attr-defined]  # imported there, not exported
    return uvicorn.Config(
        app,
        loop="none",
        http=protocol(metrics, max_connections=min(settings.max_connections, _file_limit() - _OTHER_FILES)),
        ws="none",
        lifespan="off",
        proxy_headers=False,  # nobody reads them; the wrapper is one more call a request
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=2048,
        # Longer than the idle time-outs of the usual balancers, so that they close first and never race a request.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=math.ceil(lifecycle.drain_s),
    )


def _file_limit() -> int:
    """Raise it as far as it may be: it is often 1024, for the sake of select(), which nothing here uses."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


class Server(uvicorn.Server):
    """uvicorn's server without its signals: ``lifecycle`` says when it drains."""

    def __init__(
        self,
        app: Service,
        settings: Settings,
        metrics: Metrics,
        lifecycle: Lifecycle,
        accept: Accept | None = None,
    ) -> None:
        """``accept`` takes the connections of a listener that several processes share."""
        super().__init__(config(app, settings, metrics, lifecycle))
        self._accept = accept
        lifecycle.on_drain(self._drain)

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self.server_state.connections)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._accept is None:
            await super().startup(sockets)
            return
        await super().startup([])
        for listener in sockets or ():
            self.servers.append(self._accept(listener, self._connect, lambda: self.connections))

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # they are the lifecycle's

    def _connect(self) -> Connection:
        make = cast(Callable[..., Connection], self.config.http_protocol_class)
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    def _drain(self) -> None:
        self.should_exit = True
