"""Accepts connections from a listener that several processes share, one at a time, so that they spread evenly.

Without coordination the first process to wake accepts every pending connection and keeps it: a balancer's connections
live for hours.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable

from service.http.server.connection import Connection

logger = logging.getLogger(__name__)

#: How long to hold back for a process with fewer connections. After that, accept anyway.
_DEFER_S = 0.005
#: While no more files may be opened.
_EXHAUSTED_S = 0.1


class SharedListener:
    """Takes from ``listener`` until ``close``. Belongs to one event loop.

    ``connect`` makes a connection's protocol, ``mine`` counts this process's connections, ``fewest`` is told that
    number and says how many the process with the fewest has.
    """

    def __init__(
        self,
        listener: socket.socket,
        *,
        connect: Callable[[], Connection],
        mine: Callable[[], int],
        fewest: Callable[[int], int],
    ) -> None:
        self._listener = listener
        self._connect = connect
        self._mine = mine
        self._fewest = fewest
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._later: asyncio.TimerHandle | None = None
        self._taking: set[asyncio.Task[object]] = set()
        listener.setblocking(False)
        self._loop.add_reader(listener, self._readable)

    def close(self) -> None:
        self._closed = True
        if self._later is not None:
            self._later.cancel()
        self._loop.remove_reader(self._listener)

    async def wait_closed(self) -> None:
        """As asyncio's servers have it."""

    def _readable(self) -> None:
        if self._count() > self._fewest(self._count()):
            self._pause(_DEFER_S, self._take)
        else:
            self._take()

    def _count(self) -> int:
        return self._mine() + len(self._taking)

    def _take(self) -> None:
        """One, if nobody else has taken it."""
        try:
            accepted, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionError):
            return
        except OSError:
            logger.exception("no connection can be accepted")
            self._pause(_EXHAUSTED_S, lambda: None)
            return
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        accepted.setblocking(False)
        task = asyncio.ensure_future(self._hand_over(accepted))
        self._taking.add(task)
        task.add_done_callback(self._taking.discard)
        self._fewest(self._count())  # the others should know at once

    async def _hand_over(self, accepted: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it has gone already
            _, made = await self._loop.connect_accepted_socket(self._connect, accepted)
            if self._closed:  # whoever drains does not know of it; a request may have come with it already
                made.shutdown()

    def _pause(self, seconds: float, then: Callable[[], None]) -> None:
        self._loop.remove_reader(self._listener)

        def resume() -> None:
            self._later = None
            self._loop.add_reader(self._listener, self._readable)
            then()

        self._later = self._loop.call_later(seconds, resume)
