"""A listener shared by processes: who has more connections leaves the next one to others, for a moment.

The numbers of connections are in memory that they share.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from service.http.server.http_server import Server
from service.processes import shared_listener
from service.processes.shared_listener import ConnectionCounts, SharedListener
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


class Made(asyncio.Protocol):
    """Says so when it is told to drain."""

    transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's has another base

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None

    def shutdown(self) -> None:
        assert self.transport is not None
        self.transport.write(b"drained")
        self.transport.close()


class Side:
    """One of two processes with the listener."""

    def __init__(self, *, elsewhere: int = 0, worker: int = 0) -> None:
        """``elsewhere``: the number of connections that the other process says it has."""
        self.taken: list[Made] = []
        self.ready = True
        self.worker = worker
        self.counts = ConnectionCounts.create(2)
        self.counts.set(1, elsewhere)

    def listen(self, listener: socket.socket) -> SharedListener:
        return SharedListener(
            listener, cast(Server, self), counts=self.counts, worker=self.worker, ready=lambda: self.ready
        )

    @property
    def connections(self) -> int:
        return len(self.taken)

    def connect(self) -> Made:
        self.taken.append(Made())
        return self.taken[-1]


@asynccontextmanager
async def listening(*sides: Side) -> AsyncIterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        copies = [listener.dup() for _ in sides]
        shared = [side.listen(copy) for copy, side in zip(copies, sides, strict=True)]
        try:
            yield listener.getsockname()
        finally:
            for one, copy in zip(shared, copies, strict=True):
                one.close()
                copy.close()
            for made in (made for side in sides for made in side.taken):
                if made.transport is not None:
                    made.transport.abort()
                await eventually(lambda made=made: made.transport is None)  # type: ignore[misc]


async def test_it_takes_what_comes_and_no_more_after_close() -> None:
    side = Side(elsewhere=100)
    async with listening(side) as address:
        with socket.create_connection(address), socket.create_connection(address):
            await eventually(lambda: len(side.taken) == 2)
    assert len(side.taken) == 2


async def test_a_connection_that_crosses_the_close_is_drained_and_not_just_closed() -> None:
    """A request may have come with it."""
    side = Side(elsewhere=100)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        shared = side.listen(listener)
        with socket.create_connection(listener.getsockname()) as connection:
            shared._take()
            shared.close()
            await eventually(lambda: len(side.taken) == 1)
            connection.settimeout(10)
            assert await asyncio.to_thread(connection.recv, 100) == b"drained"
            assert await asyncio.to_thread(connection.recv, 1) == b""
        await eventually(lambda: side.taken[0].transport is None)


async def test_who_has_more_leaves_it_to_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_listener, "_DEFER_S", 60)
    many, few = Side(), Side(elsewhere=100)
    many.taken = [Made()]
    async with listening(many, few) as address:
        with socket.create_connection(address), socket.create_connection(address):
            await eventually(lambda: len(few.taken) == 2)
    assert len(many.taken) == 1


async def test_who_cannot_infer_yet_leaves_it_to_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be refused, although the other could answer it."""
    monkeypatch.setattr(shared_listener, "_DEFER_S", 60)
    starting, serving = Side(elsewhere=5), Side(elsewhere=100)
    starting.ready = False
    serving.taken = [Made() for _ in range(5)]
    async with listening(starting, serving) as address:
        with socket.create_connection(address):
            await eventually(lambda: len(serving.taken) == 6)
    assert not starting.taken


async def test_who_cannot_infer_yet_waits_until_it_can_or_nobody_can() -> None:
    for changed in ("ready here", "nobody is ready"):
        starting = Side(elsewhere=100)
        starting.ready = False
        async with listening(starting) as address:
            with socket.create_connection(address):
                await asyncio.sleep(20 * shared_listener._DEFER_S)
                assert not starting.taken, "the other is busy, but it can answer"
                if changed == "ready here":
                    starting.ready = True
                else:
                    starting.counts.clear(1)
                await eventually(lambda: len(starting.taken) == 1)  # noqa: B023


async def test_what_the_other_does_not_take_is_taken_all_the_same() -> None:
    busy = Side()
    busy.taken = [Made()]
    async with listening(busy) as address:
        with socket.create_connection(address):
            await eventually(lambda: len(busy.taken) == 2)


async def test_the_fewest_are_those_of_a_worker_that_is_there() -> None:
    counts = ConnectionCounts.create(3)
    other = ConnectionCounts(os.dup(counts.descriptor))  # as another process maps it
    counts.set(0, 5)
    assert other.fewest() == 5, "nobody is in the other places"
    other.set(2, 3)
    assert counts.fewest() == 3
    counts.clear(2)
    assert other.fewest() == 5


async def test_only_the_set_whose_turn_it_is_takes_connections() -> None:
    old, new = Side(elsewhere=100), Side(worker=2)
    new.counts = old.counts
    async with listening(old, new) as address:
        with socket.create_connection(address), socket.create_connection(address):
            await eventually(lambda: len(old.taken) == 2)
            old.counts.switch(1)
            assert (old.counts.accepts(0), old.counts.accepts(2)) == (False, True)
            with socket.create_connection(address), socket.create_connection(address):
                await eventually(lambda: len(new.taken) == 2)
    assert len(old.taken) == 2


async def test_who_is_not_to_take_connections_leaves_them_even_if_nobody_else_is_there() -> None:
    coming = Side(worker=3)
    coming.counts.clear(1)
    async with listening(coming) as address:
        with socket.create_connection(address):
            await asyncio.sleep(20 * shared_listener._DEFER_S)
            assert not coming.taken
            coming.counts.switch(1)
            await eventually(lambda: len(coming.taken) == 1)


async def test_the_fewest_are_those_of_the_set_whose_turn_it_is() -> None:
    counts = ConnectionCounts.create(2)
    counts.set(0, 5)
    counts.set(3, 1)
    assert counts.fewest() == 5
    counts.switch(1)
    assert counts.fewest() == 1
