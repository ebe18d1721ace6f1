"""A worker's side of the wire: decodes into slots, lends them to engines, gives callers their answers.

    infer ─► free slot ─► decode thread writes into it ─► lent to the engine ─► outputs copied out ─► free again

A slot that is lent comes back by the engine's word alone, or never: when a connection breaks, its memory is given up
whole. No free slot is back-pressure: the image waits, undecoded. A decode thread that does not come back ends the
worker: its pool is one thread short, and its slot is never free again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from service.batcher import Item
from service.engine import replies, runner, watchdog
from service.engine.protocols import InferResult, Prepare, Readiness
from service.engine.watchdog import Watchdog
from service.errors import NotReady, ServiceError
from service.image import Prepared
from service.ipc.arena import Layout
from service.ipc.link import Lease, Link
from service.logs import request_id
from service.metrics import Metrics

#: How long an engine may take over a canary before it counts as not ready.
_PROBE_TIMEOUT_S = 3.0


class RemoteEngine:
    """Implements ``EngineClient`` over engines in other processes, at ``addresses``: Unix sockets, abstract or paths.

    Each image goes to the engine with the fewest outstanding ones. Engines may come and go: a link that breaks is
    made again. ``on_fatal`` is called once, if decoding hangs.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        layout: Layout,
        *,
        decode_threads: int,
        metrics: Metrics,
        on_fatal: Callable[[str], object],
    ) -> None:
        self._links = [Link(address, layout) for address in addresses]
        self._pool = ThreadPoolExecutor(decode_threads, thread_name_prefix="decode")
        self._threads = decode_threads
        self._on_fatal = on_fatal
        self._phase: Literal["serving", "closed", "hung"] = "serving"
        self._watchdog = Watchdog()
        self._under_way: set[asyncio.Future[None]] = set()
        self._decodes: dict[asyncio.Future[None], Lease] = {}  # queued or running
        metrics.watch(metrics.queue_depth, self._waiting)

    @property
    def state(self) -> str:
        """``ready``, or why an image sent now would not be inferred, as far as is known without asking an engine."""
        return self._own_state() or self._best([link.state for link in self._links]).reason

    def start(self) -> None:
        """Begin to connect; ``ready`` tells when that has succeeded."""
        for link in self._links:
            link.start()
        self._tick()

    async def infer(
        self, prepare: Prepare, deadline: float, pixels: int | None = None, classes: Sequence[int] = ()
    ) -> InferResult:
        if self._phase != "serving":
            raise replies.refusal(self._phase)
        started = time.monotonic()
        if deadline <= started:
            raise replies.expired()
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._under_way.add(over)
        try:
            async with asyncio.timeout(deadline - started):
                return await self._infer(prepare, deadline, pixels, classes, started)
        except TimeoutError:
            raise replies.expired() from None
        finally:
            self._under_way.discard(over)
            over.set_result(None)

    async def _infer(
        self, prepare: Prepare, deadline: float, pixels: int | None, classes: Sequence[int], started: float
    ) -> InferResult:
        lease = await self._choose().acquire()
        decode = partial(_decode_into, lease.image, prepare)
        item = Item(decode, deadline, None, pixels, started, request_id.get(), classes)
        try:
            await self._decode(item, lease)
        finally:
            item.prepare = replies.given_up  # a cancelled job keeps the item in the pool's queue: not its bytes
        assert item.prepared is not None
        done, output = await lease.infer(deadline, item.request_id, item.classes)
        queue_s = time.monotonic() - started - item.prepare_s - done.infer_s
        return InferResult(output, item.prepared, item.prepare_s, queue_s, done.infer_s, done.batch_size)

    async def ready(self) -> Readiness:
        if own := self._own_state():
            return Readiness(False, own, self._best([link.state for link in self._links]).info)
        asked = [asyncio.ensure_future(link.probe(_PROBE_TIMEOUT_S)) for link in self._links]
        try:
            states = []
            for answer in asyncio.as_completed(asked):
                states.append(await answer)
                if states[-1].ok:
                    break  # one that can infer is enough: nobody waits for one that is silent
            return self._best(states)
        finally:
            for probe in asked:
                probe.cancel()

    async def aclose(self) -> None:
        if self._phase == "serving":
            self._phase = "closed"
        if self._under_way:
            await asyncio.wait(set(self._under_way))
        for link in self._links:
            link.close()
        # Nobody waits for a thread that does not come back.
        await asyncio.to_thread(self._pool.shutdown, wait=self._phase != "hung")

    def _own_state(self) -> str:
        """Why it is this process that cannot infer; empty if it can."""
        if self._phase != "serving":
            return self._phase
        return "" if self._watchdog.health == "ready" else self._watchdog.health

    def _best(self, states: Sequence[Readiness]) -> Readiness:
        return next((state for state in states if state.ok), states[0])

    def _waiting(self) -> int:
        """Images without a slot or a thread yet. Those that were lent are in the engine's queue."""
        return sum(link.waiting for link in self._links) + max(0, len(self._decodes) - self._threads)

    def _tick(self) -> None:
        if self._phase != "serving":
            return
        if verdict := self._watchdog.tick():
            self._phase = "hung"
            for reply in self._decodes:
                replies.resolve(reply, replies.refusal("hung"))
            self._on_fatal(verdict.reason)
            return
        asyncio.get_running_loop().call_later(watchdog.TICK_S, self._tick)

    def _choose(self) -> Link:
        ready = [link for link in self._links if link.ready]
        if not ready:
            raise NotReady("no engine is ready")
        return min(ready, key=lambda link: link.outstanding)

    async def _decode(self, item: Item, lease: Lease) -> None:
        """On a thread. The slot is free again if that fails, once the thread is done with it."""
        item.reply = reply = asyncio.get_running_loop().create_future()
        try:
            if self._phase == "hung":
                raise replies.refusal("hung")
            job = self._pool.submit(self._prepare, item, reply.get_loop())
        except BaseException:
            lease.give_back()
            raise
        self._decodes[reply] = lease
        try:
            await reply
        except asyncio.CancelledError:
            if not reply.cancelled() and reply.exception() is None:  # it was decoded in the same moment
                lease.give_back()
            elif job.cancel():
                self._prepared(item, None)
            raise

    def _prepare(self, item: Item, loop: asyncio.AbstractEventLoop) -> None:
        """On a thread of the pool."""
        error = runner.prepare(item, self._watchdog)
        self._watchdog.idle()
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it everyone who waited
            loop.call_soon_threadsafe(self._prepared, item, error)

    def _prepared(self, item: Item, error: ServiceError | None) -> None:
        lease = self._decodes.pop(item.reply)
        if error is not None or item.reply.done():
            lease.give_back()
        replies.resolve(item.reply, error)


def _decode_into(image: NDArray[np.uint8], prepare: Prepare) -> Prepared:
    prepared = prepare()
    np.copyto(image, prepared.image)
    return prepared
