"""The implementations of ``EngineClient``, each opened over a runtime. A new one is added to ``IMPLEMENTATIONS``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

from service.engine.client import EngineClient
from tests.engine.remote import engine_server, worker
from tests.fakes import FakeRuntime, started
from tests.waiting import until_ready

OpenClient = Callable[[FakeRuntime], AbstractAsyncContextManager[EngineClient]]


@asynccontextmanager
async def local(runtime: FakeRuntime, *, decode_threads: int) -> AsyncIterator[EngineClient]:
    async with started(runtime, decode_threads=decode_threads) as engine:
        runtime.batches.clear()  # warm-up's
        yield engine


@asynccontextmanager
async def remote(runtime: FakeRuntime) -> AsyncIterator[EngineClient]:
    """Over the real wire: a server on a thread with a loop of its own, sockets and shared memory between the two."""
    async with engine_server(runtime) as address, worker(address, decode_threads=1) as engine:
        await until_ready(engine)
        runtime.batches.clear()  # warm-up's
        yield engine


IMPLEMENTATIONS: dict[str, OpenClient] = {
    "remote": remote,
    "local, runners decode": partial(local, decode_threads=0),
    "local, a pool decodes": partial(local, decode_threads=1),
}
