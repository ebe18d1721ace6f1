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
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from service.engine.batcher import Answers, Item
from service.engine.client import Decode, InferResult, Priority, Readiness, RuntimeInfo, Source
from service.engine.decode_pool import DecodePool, abandon
from service.engine.states import expired, refusal
from service.engine.watchdog import Verdict, Watchdog
from service.errors import NotReady, ServiceError
from service.image import Pixels
from service.logs import request_id
from service.metrics import Metrics
from service.processes.wire.engine_connection import EngineConnection, Slot
from service.processes.wire.slots import Layout, SlotRequest

#: How long an engine may take over the probe image before it counts as not ready.
_PROBE_TIMEOUT_S = 3.0


@dataclass(eq=False, slots=True, kw_only=True)
class _SlotItem(Item):
    """An item that is decoded into ``slot``; ``decoded`` is done when that has ended."""

    slot: Slot
    decoded: asyncio.Future[None]


class RemoteEngine:
    """Implements ``EngineClient`` over engines in other processes, at ``addresses``: Unix sockets, abstract or paths.

    Each image goes to the engine with the fewest outstanding ones. Engines may come and go: a connection that breaks
    is made again. ``on_ready`` is called each time an engine says that it is ready, ``on_fatal`` once, if decoding
    hangs.
    """

    def __init__(
        self,
        model: str,
        addresses: Sequence[str],
        layout: Layout,
        *,
        decode_threads: int,
        metrics: Metrics,
        on_ready: Callable[[RuntimeInfo], object] = lambda info: None,
        on_fatal: Callable[[str], object],
    ) -> None:
        self._connections = [EngineConnection(address, layout, on_ready) for address in addresses]
        self._watchdog = Watchdog()
        self._pool = DecodePool(decode_threads, self._watchdog)
        self._on_fatal = on_fatal
        self._phase: Literal["serving", "closed", "hung"] = "serving"
        self._watch: asyncio.Task[None] | None = None
        self._under_way: set[asyncio.Future[None]] = set()
        self._decoding: set[_SlotItem] = set()  # queued or running
        metrics.watch(metrics.model(model).queue_depth, self._waiting)

    @property
    def state(self) -> str:
        """``ready``, or why an image sent now would not be inferred, as far as is known without asking an engine."""
        return self._own_state() or self._best([connection.state for connection in self._connections]).reason

    def start(self) -> None:
        """Begin to connect; ``ready`` tells when that has succeeded."""
        for connection in self._connections:
            connection.start()
        self._watch = asyncio.ensure_future(
            self._watchdog.keep(serving=lambda: self._phase == "serving", end=self._end)
        )

    async def infer(
        self,
        model: str,
        source: Source,
        deadline: float,
        classes: Sequence[int] = (),
        priority: Priority = "normal",
    ) -> InferResult:
        if self._phase != "serving":
            raise refusal(self._phase)
        started = time.monotonic()
        if deadline <= started:
            raise expired()
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._under_way.add(over)
        try:
            async with asyncio.timeout(deadline - started):
                request = SlotRequest(model, classes, priority, request_id.get())
                return await self._infer(request, source, deadline, started)
        except TimeoutError:
            raise expired() from None
        finally:
            self._under_way.discard(over)
            over.set_result(None)

    async def _infer(self, request: SlotRequest, source: Source, deadline: float, started: float) -> InferResult:
        slot = await self._choose().acquire()
        item = _SlotItem(
            request.model,
            _decode_into(slot.image, source),
            deadline,
            _NOBODY,
            request_id=request.request_id,
            slot=slot,
            decoded=asyncio.get_running_loop().create_future(),
        )
        try:
            await self._decode(item)
        finally:
            abandon(item)  # a cancelled job keeps the item in the pool's queue
        done, output = await slot.infer(request, deadline)
        queue_s = time.monotonic() - started - item.decode_s - done.infer_s
        return InferResult(output, item.decode_s, queue_s, done.infer_s, done.batch_size)

    async def ready(self) -> Readiness:
        if own := self._own_state():
            return Readiness(False, own, self._best([connection.state for connection in self._connections]).info)
        asked = [asyncio.ensure_future(connection.probe(_PROBE_TIMEOUT_S)) for connection in self._connections]
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
        if self._watch is not None:
            self._watch.cancel()
        if self._under_way:
            await asyncio.wait(set(self._under_way))
        for connection in self._connections:
            connection.close()
        # Nobody waits for a thread that does not come back.
        await asyncio.to_thread(self._pool.close, wait=self._phase != "hung")

    def _own_state(self) -> str:
        """Why it is this process that cannot infer; empty if it can."""
        if self._phase != "serving":
            return self._phase
        return "" if self._watchdog.health == "ready" else self._watchdog.health

    def _best(self, states: Sequence[Readiness]) -> Readiness:
        return next((state for state in states if state.ok), states[0])

    def _waiting(self) -> int:
        """Images without a slot or a thread yet; those whose slot is lent are in the engine's queue."""
        return sum(connection.waiting for connection in self._connections) + max(
            0, len(self._decoding) - self._pool.threads
        )

    def _end(self, verdict: Verdict) -> None:
        self._phase = "hung"
        for item in self._decoding:
            if not item.decoded.done():
                item.decoded.set_exception(refusal("hung"))
        self._on_fatal(verdict.reason)

    def _choose(self) -> EngineConnection:
        ready = [connection for connection in self._connections if connection.ready]
        if not ready:
            raise NotReady("no engine is ready")
        return min(ready, key=lambda connection: connection.outstanding)

    async def _decode(self, item: _SlotItem) -> None:
        """On a thread of the pool. If that fails, the slot is free again once the thread is done with it."""
        loop = asyncio.get_running_loop()
        try:
            if self._phase == "hung":
                raise refusal("hung")
            job = self._pool.submit(item, partial(_on_loop, loop, self._decoded))
        except BaseException:
            item.slot.give_back()
            raise
        self._decoding.add(item)
        try:
            await item.decoded
        except asyncio.CancelledError:
            if not item.decoded.cancelled() and item.decoded.exception() is None:  # decoded in the same moment
                item.slot.give_back()
            elif job.cancel():
                self._decoded(item, None)
            raise

    def _decoded(self, item: Item, error: ServiceError | None) -> None:
        assert isinstance(item, _SlotItem)
        self._decoding.discard(item)
        if error is not None or item.decoded.done():
            item.slot.give_back()
        if item.decoded.done():
            return
        if error is None:
            item.decoded.set_result(None)
        else:
            item.decoded.set_exception(error)


class _Nobody:
    """The receiver of items that no runner of this process sees."""

    def deliver(self, answers: Answers) -> None:
        raise AssertionError("answers come through the slot")


_NOBODY = _Nobody()


def _decode_into(image: Pixels, source: Source) -> Decode:
    def decode() -> Pixels:
        np.copyto(image, source.call() if isinstance(source, Decode) else source)
        return image

    return Decode(decode, source.pixel_count if isinstance(source, Decode) else None)


def _on_loop(
    loop: asyncio.AbstractEventLoop,
    callback: Callable[[Item, ServiceError | None], None],
    item: Item,
    error: ServiceError | None,
) -> None:
    """From a thread of the pool."""
    with contextlib.suppress(RuntimeError):  # the loop has ended, and with it everyone who waited
        loop.call_soon_threadsafe(callback, item, error)
