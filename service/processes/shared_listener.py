"""Accepts connections from a listener that several processes share, one at a time, so that they spread evenly.

Without coordination the first process to wake accepts every pending connection and keeps it: a balancer's connections
live for hours. Each worker publishes its number of connections in shared memory, and the one with the fewest should
accept the next one.

There are two sets of workers, for a moment at once while one replaces the other. Only the set whose turn it is accepts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import mmap
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # the supervisor imports this module and does not need HTTP
    from service.http.server.http_server import Server

logger = logging.getLogger(__name__)

#: How long to hold back for a process with fewer connections. After that, accept anyway, unless only others can infer.
_DEFER_S = 0.005
#: Pause when no connection can be accepted, as at the limit of open files.
_EXHAUSTED_S = 0.1

#: The count of a worker that is not running or does not listen yet.
_NOT_LISTENING = 2**32 - 1
#: Added to the count of a worker that cannot infer yet: it would refuse what a ready one can answer.
_NOT_READY = 2**31


class ConnectionCounts:
    """One number per worker, written by it alone, and whose turn it is. A read during a write gives the old number or
    the new one.

    The workers of the first set are 0 to ``workers`` - 1, those of the second set follow.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        numbers = np.frombuffer(mmap.mmap(descriptor, 0), np.uint32)
        self._turn, self._counts = numbers[:1], numbers[1:].reshape(2, -1)

    @classmethod
    def create(cls, workers: int) -> ConnectionCounts:
        """For two sets of so many ``workers``; the first one's turn."""
        descriptor = os.memfd_create("mobilenet-connections", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, 4 * (1 + 2 * workers))
        counts = cls(descriptor)
        counts._counts[:] = _NOT_LISTENING
        return counts

    def switch(self, turn: int) -> None:
        """For the supervisor: from now on the workers of set ``turn`` accept."""
        self._turn[0] = turn

    def accepts(self, worker: int) -> bool:
        """Whether it is the turn of the set of ``worker``."""
        return worker // self._counts.shape[1] == int(self._turn[0])

    def set(self, worker: int, connections: int, *, ready: bool = True) -> int:
        """Publish ``connections`` of ``worker``; returns the number by which workers are compared."""
        count = connections + (0 if ready else _NOT_READY)
        self._counts.flat[worker] = count
        return count

    def clear(self, worker: int) -> None:
        """For the supervisor, after the worker has ended."""
        self._counts.flat[worker] = _NOT_LISTENING

    def fewest(self) -> int:
        """Of those that accept."""
        return int(self._counts[self._turn[0]].min())

    def some_ready(self) -> bool:
        return self.fewest() < _NOT_READY


class SharedListener:
    """Accepts connections from ``listener`` until ``close``. Belongs to one event loop.

    The number of connections of ``server`` is published as that of ``worker`` in ``counts``; while ``ready`` returns
    False, connections are left to workers that are ready.
    """

    def __init__(
        self,
        listener: socket.socket,
        server: Server,
        *,
        counts: ConnectionCounts,
        worker: int,
        ready: Callable[[], bool],
    ) -> None:
        self._ready = ready
        self._listener = listener
        self._server = server
        self._counts = counts
        self._worker = worker
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._pausing: asyncio.TimerHandle | None = None
        self._accepting: set[asyncio.Task[object]] = set()
        listener.setblocking(False)
        self._loop.add_reader(listener, self._readable)

    def close(self) -> None:
        self._closed = True
        if self._pausing is not None:
            self._pausing.cancel()
        self._loop.remove_reader(self._listener)

    async def wait_closed(self) -> None:
        """Part of asyncio's interface of a server."""

    def _readable(self) -> None:
        if self._publish() > self._counts.fewest() or not self._counts.accepts(self._worker):
            self._pause(_DEFER_S)
        else:
            self._take()

    def _publish(self) -> int:
        connections = self._server.connections + len(self._accepting)
        return self._counts.set(self._worker, connections, ready=self._ready())

    def _take(self) -> None:
        """Accept one connection, unless another process was faster."""
        try:
            accepted, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionError):
            return
        except OSError:
            logger.exception("no connection can be accepted")
            self._pause(_EXHAUSTED_S)
            return
        if accepted.family != socket.AF_UNIX:
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        accepted.setblocking(False)
        task = asyncio.ensure_future(self._hand_over(accepted))
        self._accepting.add(task)
        task.add_done_callback(self._accepting.discard)
        self._publish()

    async def _hand_over(self, accepted: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the client has already gone
            _, connection = await self._loop.connect_accepted_socket(self._server.connect, accepted)
            if self._closed:  # the drain did not see this connection, and its first request may be here already
                connection.shutdown()

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener)
        self._pausing = self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        self._loop.add_reader(self._listener, self._readable)
        if self._counts.accepts(self._worker) and (self._ready() or not self._counts.some_ready()):
            self._take()
