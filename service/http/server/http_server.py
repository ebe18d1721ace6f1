"""The HTTP server: uvicorn with our connection class and our drain.

SIGTERM or SIGINT ─► readiness off ─► listener closes ─► requests in flight finish ─► ``serve`` returns
a second signal   ─► exit at once
``fail``          ─► the same drain, with a reason and an exit status
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import resource
import socket
import time
from collections.abc import Callable
from types import FrameType
from typing import cast

import uvicorn
from uvicorn.protocols.http import httptools_impl

from service.config import Settings
from service.http.app import Service
from service.http.server.connection import protocol
from service.metrics import Metrics
from service.processes.shared_listener import Drainable, SharedListener

logger = logging.getLogger(__name__)

#: The parser's part of the room for an ordinary photo, see ``http/listener.py``.
_UNREAD_BODY = 2**18

#: Kept for what is no connection: 14 files on a CPU, more with a driver, and those of /docs.
_OTHER_FILES = 128


def config(app: Service, settings: Settings, metrics: Metrics) -> uvicorn.Config:
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
        timeout_graceful_shutdown=math.ceil(settings.drain_timeout_ms / 1e3),
    )


def _file_limit() -> int:
    """Raise it as far as it may be: it is often 1024, for the sake of select(), which nothing here uses."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


class Server(uvicorn.Server):
    """uvicorn's server with our drain: readiness goes first, and a drained process exits with status 0."""

    def __init__(
        self,
        configuration: uvicorn.Config,
        *,
        on_drain: Callable[[], object],
        fewest: Callable[[int], int] | None = None,
    ) -> None:
        """Made on the event loop that will serve. ``fewest``: the listener is shared, see ``SharedListener``."""
        super().__init__(configuration)
        self._loop = asyncio.get_running_loop()
        self._told = False  # by a signal
        self._on_drain = on_drain
        self._fewest = fewest
        self.failure: str | None = None
        self.exit_status = 0
        self.drain_ends = math.inf  # time.monotonic()

    @property
    def drain_time_left(self) -> float:
        """Seconds, one at least: the drain's time is spent once, what requests have used of it the engine has not."""
        return max(1.0, self.drain_ends - time.monotonic())

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self.server_state.connections)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._fewest is None:
            await super().startup(sockets)
            return
        await super().startup([])
        for listener in sockets or ():
            shared = SharedListener(listener, connect=self._connect, mine=lambda: self.connections, fewest=self._fewest)
            self.servers.append(cast(asyncio.Server, shared))  # uvicorn closes it and waits for that, no more

    def _connect(self) -> Drainable:
        make = cast(Callable[..., Drainable], self.config.http_protocol_class)
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Not super(): it would raise the signal again after the drain, and end a clean stop with a signal's status.
        # This runs amid anything, a line of the log being written too, where another line would raise.
        if self._told or self.should_exit:
            try:
                logger.warning("a second signal: ended at once")
            finally:
                os._exit(128 + sig)
        self._told = True
        self._loop.call_soon_threadsafe(self._drain_for, sig)

    def _drain_for(self, sig: int) -> None:
        logger.info("draining", extra={"fields": {"signal": int(sig)}})
        self._drain()

    def fail(self, reason: str, exit_status: int) -> None:
        self.failure = reason
        self.exit_status = exit_status
        self._drain()

    def _drain(self) -> None:
        if self.should_exit:
            return  # a drain has one end, whatever happens meanwhile
        self._on_drain()
        self.drain_ends = time.monotonic() + (self.config.timeout_graceful_shutdown or 0)
        self.should_exit = True
