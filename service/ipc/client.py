"""A worker's side of the wire: decodes into slots, lends them to engines, gives callers their answers.

    infer ─► free slot ─► decode thread writes into it ─► lent to the engine ─► outputs copied out ─► free again

A slot that is lent comes back by the engine's word alone, or never: when a connection breaks, its memory is given up
whole. No free slot is back-pressure: the image waits, undecoded.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from service.engine.protocols import InferResult, Prepare, Readiness
from service.errors import DeadlineExceeded, Draining, NotReady
from service.ipc.arena import Layout
from service.ipc.link import Lease, Link
from service.metrics import Metrics
from service.preprocess import Prepared

#: How long an engine may take over a canary before it counts as not ready.
_PROBE_TIMEOUT_S = 3.0


class RemoteEngine:
    """Implements ``EngineClient`` over engines in other processes, at ``addresses``: Unix sockets, abstract or paths.

    Each image goes to the engine with the fewest outstanding ones. Engines may come and go: a link that breaks is
    made again.
    """

    def __init__(self, addresses: Sequence[str], layout: Layout, *, decode_threads: int, metrics: Metrics) -> None:
        self._links = [Link(address, layout) for address in addresses]
        self._pool = ThreadPoolExecutor(decode_threads, thread_name_prefix="decode")
        self._closed = False
        self._under_way: set[asyncio.Future[None]] = set()
        metrics.watch(metrics.ready, lambda: float(any(link.ready for link in self._links)))
        metrics.watch(metrics.queue_depth, lambda: sum(link.outstanding for link in self._links))

    def start(self) -> None:
        """Begin to connect; ``ready`` tells when that has succeeded."""
        for link in self._links:
            link.start()

    async def infer(self, prepare: Prepare, deadline: float, pixels: int | None = None) -> InferResult:
        if self._closed:
            raise Draining("the service is shutting down")
        started = time.monotonic()
        if deadline <= started:
            raise _expired()
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._under_way.add(over)
        try:
            async with asyncio.timeout(deadline - started):
                return await self._infer(prepare, deadline, started)
        except TimeoutError:
            raise _expired() from None
        finally:
            self._under_way.discard(over)
            over.set_result(None)

    async def _infer(self, prepare: Prepare, deadline: float, started: float) -> InferResult:
        lease = await self._choose().acquire()
        prepared, decode_s = await self._decode(prepare, lease, deadline)
        done, output = await lease.infer(deadline)
        queue_s = time.monotonic() - started - decode_s - done.infer_s
        return InferResult(output, prepared, decode_s, queue_s, done.infer_s, done.batch_size)

    async def ready(self) -> Readiness:
        if self._closed:
            return Readiness(False, "closed")
        states = await asyncio.gather(*(link.probe(_PROBE_TIMEOUT_S) for link in self._links))
        return next((state for state in states if state.ok), states[0])

    async def aclose(self) -> None:
        self._closed = True
        if self._under_way:
            await asyncio.wait(set(self._under_way))
        for link in self._links:
            link.close()
        await asyncio.to_thread(self._pool.shutdown)

    def _choose(self) -> Link:
        ready = [link for link in self._links if link.ready]
        if not ready:
            raise NotReady("no engine is ready")
        return min(ready, key=lambda link: link.outstanding)

    async def _decode(self, prepare: Prepare, lease: Lease, deadline: float) -> tuple[Prepared, float]:
        """Decode into the lease's slot, on a thread. The slot is free again if that fails, once the thread is done."""
        job = self._pool.submit(_decode_into, prepare, lease.image, deadline)
        try:
            return await asyncio.wrap_future(job)
        except asyncio.CancelledError:
            loop = asyncio.get_running_loop()

            def give_back(_: Future[tuple[Prepared, float]]) -> None:
                loop.call_soon_threadsafe(lease.give_back)

            job.cancel()
            job.add_done_callback(give_back)
            raise
        except BaseException:
            lease.give_back()
            raise


def _decode_into(prepare: Prepare, image: NDArray[np.uint8], deadline: float) -> tuple[Prepared, float]:
    started = time.monotonic()
    if deadline <= started:
        raise _expired()
    prepared = prepare()
    np.copyto(image, prepared.image)
    return prepared, time.monotonic() - started


def _expired() -> DeadlineExceeded:
    return DeadlineExceeded("the deadline passed before the image was inferred")
