"""Both sides of the wire: an ``EngineServer`` over a fake runtime, on a thread with a loop of its own, and workers."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from service.errors import ServiceError
from service.metrics import Metrics
from service.processes.wire.engine_server import EngineServer
from service.processes.wire.remote_engine import RemoteEngine
from service.processes.wire.slots import Layout
from tests.fakes import EMBEDDING_DIM, MODEL, NUM_CLASSES, SIZE, FakeRuntime, engine_of, given, marker_of
from tests.waiting import soon, until_ready

LAYOUT = Layout(SIZE, NUM_CLASSES, EMBEDDING_DIM, 1, slots=64)

_numbers = itertools.count()


def listen() -> tuple[socket.socket, str]:
    """A listener at an abstract address of its own."""
    address = f"\0mobilenet-test-{os.getpid()}-{next(_numbers)}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(address)
    listener.listen()
    return listener, address


@asynccontextmanager
async def engine_server(runtime: FakeRuntime) -> AsyncIterator[str]:
    """Its address. Closed at the end, which answers everything it has taken."""
    listener, address = listen()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def begin() -> EngineServer:
        server = EngineServer(engine_of(runtime), listener, LAYOUT)
        await server.start()
        return server

    server = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(begin(), loop))
    try:
        yield address
    finally:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(server.aclose(), loop))
        loop.call_soon_threadsafe(loop.stop)
        await asyncio.to_thread(thread.join)
        loop.close()
        listener.close()


def free(engine: RemoteEngine) -> int:
    """Slots that nobody uses."""
    return sum(len(connection._free) for connection in engine._connections)


@asynccontextmanager
async def worker(*addresses: str, layout: Layout = LAYOUT, **changes: Any) -> AsyncIterator[RemoteEngine]:
    """A worker's side, started, whether an engine listens or not. A fatal end fails the test.

    ``changes`` are to the other arguments of ``RemoteEngine``.
    """
    arguments: dict[str, Any] = {"decode_threads": 2, "metrics": Metrics(), "on_fatal": pytest.fail}
    engine = RemoteEngine(MODEL, addresses, layout, **(arguments | changes))
    assert engine.state == "starting"
    engine.start()
    try:
        yield engine
    finally:
        await engine.aclose()


@asynccontextmanager
async def connected(runtime: FakeRuntime, **changes: Any) -> AsyncIterator[RemoteEngine]:
    """Both sides, ready; ``changes`` are to the arguments of ``worker``."""
    async with engine_server(runtime) as address, worker(address, **changes) as engine:
        await until_ready(engine)
        yield engine


def descriptors() -> int:
    """Of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def ask(engine: RemoteEngine, marker: int, seconds: float = 5.0) -> str:
    """What became of it: right, or the error's reason. AssertionError for another image's answer."""
    try:
        result = await engine.infer(MODEL, given(marker), soon(seconds))
    except ServiceError as error:
        return error.reason
    assert marker_of(result.output.embedding) == marker
    return "right"
