"""A worker's side of the wire: decodes images into slots, sends them to engines, returns the answers.

    infer ─► free slot ─► decode thread writes into it ─► the engine infers ─► outputs copied out ─► free again

While the engine uses a slot, only the engine's answer frees it. When a connection breaks, all its memory is dropped.
Without a free slot an image waits undecoded, which is the back-pressure. A decode thread that hangs ends the worker:
otherwise its pool would stay one thread short and its slot would never be free again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from service.engine.batcher import Answers, Item
from service.engine.client import Decode, InferResult, Priority, Readiness, RuntimeInfo, Source, expired, refusal
from service.engine.decode_pool import DecodePool
from service.engine.watchdog import Verdict, Watchdog
from service.errors import NotReady, ServiceError
from service.image import Pixels
from service.logs import request_id
from service.metrics import Metrics
from service.processes.wire.engine_connection import EngineConnection, Slot
from service.processes.wire.slots import Layout, SlotRequest

#: How long an engine may take for the probe image before it counts as not ready.
_PROBE_TIMEOUT_S = 3.0


@dataclass(eq=False, slots=True, kw_only=True)
class _SlotItem(Item):
    """An item that is decoded into ``slot``; ``decoded`` is done when decoding has ended."""

    slot: Slot
    decoded: asyncio.Future[None]


class RemoteEngine:
    """Implements ``EngineClient`` over engines in other processes, at ``addresses``: Unix sockets, abstract or paths.

    Each image goes to the engine with the fewest outstanding images. Broken connections are re-established.
    ``on_ready`` is called each time an engine becomes ready, ``on_fatal`` once, if decoding hangs.
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
        self._calls: set[asyncio.Future[None]] = set()
        self._decoding: set[_SlotItem] = set()  # queued or running
        metrics.watch(metrics.model(model).queue_depth, self._waiting)

    @property
    def state(self) -> str:
        """``ready``, or why an image sent now would not be inferred; from the engines' last known states."""
        return self._own_state() or self._best([connection.state for connection in self._connections]).reason

    @property
    def info(self) -> RuntimeInfo | None:
        return self._best([connection.state for connection in self._connections]).info

    def start(self) -> None:
        """Begin to connect; poll ``ready`` for the result."""
        for connection in self._connections:
            connection.start()
        watch = self._watchdog.keep(serving=lambda: self._phase == "serving", end=self._end)
        self._watch = asyncio.ensure_future(watch)

    async def infer(
        self, model: str, source: Source, deadline: float, classes: Sequence[int] = (), priority: Priority = "normal"
    ) -> InferResult:
        if self._phase != "serving":
            raise refusal(self._phase)
        started = time.monotonic()
        if deadline <= started:
            raise expired()
        call: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._calls.add(call)
        try:
            async with asyncio.timeout(deadline - started):
                request = SlotRequest(model, classes, priority, request_id.get())
                return await self._infer(request, source, deadline, started)
        except TimeoutError:
            raise expired() from None
        finally:
            self._calls.discard(call)
            call.set_result(None)

    async def _infer(self, request: SlotRequest, source: Source, deadline: float, started: float) -> InferResult:
        connection = self._least_loaded()
        slot = await connection.acquire()
        item = _SlotItem(
            request.model,
            _decode_into(slot.memory.images[slot.number], source),
            deadline,
            _NO_RECEIVER,
            request_id=request.request_id,
            slot=slot,
            decoded=asyncio.get_running_loop().create_future(),
        )
        try:
            await self._decode(item)
        finally:
            item.abandon()  # a cancelled job keeps the item in the pool's queue
        done, output = await connection.infer(slot, request, deadline)
        queue_s = time.monotonic() - started - item.decode_s - done.infer_s
        return InferResult(output, item.decode_s, queue_s, done.infer_s, done.batch_size)

    async def ready(self) -> Readiness:
        if own := self._own_state():
            return Readiness(False, own, self.info)
        probes = [asyncio.ensure_future(connection.probe(_PROBE_TIMEOUT_S)) for connection in self._connections]
        try:
            states = []
            for answer in asyncio.as_completed(probes):
                states.append(await answer)
                if states[-1].ok:
                    break  # one ready engine is enough; do not wait for silent ones
            return self._best(states)
        finally:
            for probe in probes:
                probe.cancel()

    async def aclose(self) -> None:
        if self._phase == "serving":
            self._phase = "closed"
        if self._watch is not None:
            self._watch.cancel()
        if self._calls:
            await asyncio.wait(set(self._calls))
        for connection in self._connections:
            connection.close()
        # A thread that hangs would block forever.
        await asyncio.to_thread(self._pool.close, wait=self._phase != "hung")

    def _own_state(self) -> str:
        """Why this process cannot infer; empty if it can."""
        if self._phase != "serving":
            return self._phase
        return "" if self._watchdog.health == "ready" else self._watchdog.health

    def _best(self, states: Sequence[Readiness]) -> Readiness:
        return next((state for state in states if state.ok), states[0])

    def _waiting(self) -> int:
        """Number of images without a slot or a decode thread. Those sent to an engine count in its own queue."""
        return sum(connection.waiting for connection in self._connections) + max(
            0, len(self._decoding) - self._pool.threads
        )

    def _end(self, verdict: Verdict) -> None:
        self._phase = "hung"
        for item in self._decoding:
            if not item.decoded.done():
                item.decoded.set_exception(refusal("hung"))
        self._on_fatal(verdict.reason)

    def _least_loaded(self) -> EngineConnection:
        ready = [connection for connection in self._connections if connection.ready]
        if not ready:
            raise NotReady("no engine is ready")
        return min(ready, key=lambda connection: connection.outstanding)

    async def _decode(self, item: _SlotItem) -> None:
        """Decode on a thread of the pool. If that fails, the slot is freed once the thread has finished."""
        loop = asyncio.get_running_loop()

        def on_thread(item: Item, error: ServiceError | None) -> None:
            # If the loop has ended, so have all calls: the pool ignores the RuntimeError.
            loop.call_soon_threadsafe(self._decoded, item, error)

        try:
            if self._phase == "hung":
                raise refusal("hung")
            job = self._pool.submit(item, on_thread)
        except BaseException:
            item.slot.connection.release(item.slot)
            raise
        self._decoding.add(item)
        try:
            await item.decoded
        except asyncio.CancelledError:
            if not item.decoded.cancelled() and item.decoded.exception() is None:  # decoded at the same moment
                item.slot.connection.release(item.slot)
            elif job.cancel():
                self._decoded(item, None)
            raise

    def _decoded(self, item: Item, error: ServiceError | None) -> None:
        assert isinstance(item, _SlotItem)
        self._decoding.discard(item)
        if error is not None or item.decoded.done():
            item.slot.connection.release(item.slot)
        if item.decoded.done():
            return
        if error is None:
            item.decoded.set_result(None)
        else:
            item.decoded.set_exception(error)


class _NoReceiver:
    """Receiver of items that are decoded but not inferred in this process."""

    def deliver(self, answers: Answers) -> None:
        raise AssertionError("answers arrive through the slot")


_NO_RECEIVER = _NoReceiver()


def _decode_into(image: Pixels, source: Source) -> Decode:
    def decode() -> Pixels:
        np.copyto(image, source.call() if isinstance(source, Decode) else source)
        return image

    return Decode(decode, source.pixel_count if isinstance(source, Decode) else None)
