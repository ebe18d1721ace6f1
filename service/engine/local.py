"""The engine inside this process: batcher, runner threads, readiness.

    infer() ─► Item ─► [decode pool] ─► Batcher ─► runner threads: [decode,] Runtime
       ▲                                               │
       └─────────── call_soon_threadsafe ◄─────────────┘   one hop a batch

Decoding happens on a pool where batches are to be gathered from decoded images (a GPU), and on the runners' own
threads where every core has a runner (a CPU): there a pool would only take turns with them.

States: starting → ready ⇄ failing → closed, or lost for good. ``failing`` means that the last batch failed as a
whole; ``ready()`` then tries the canary, so that a passing fault heals without traffic.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from service.batcher import Batcher, Closed, Item
from service.engine import runner, warmup
from service.engine.protocols import InferResult, Prepare, Readiness, Runtime, RuntimeInfo
from service.engine.runner import Answers, Runner
from service.errors import DeadlineExceeded, Draining, NotReady, OperatorError, ServiceError
from service.metrics import Metrics
from service.preprocess import Prepared

logger = logging.getLogger(__name__)

State = Literal["starting", "ready", "failing", "closed", "lost"]

#: How long a readiness probe waits for the canary after a failed batch.
_CANARY_TIMEOUT_S = 2.0


class LocalEngine:
    """Implements ``EngineClient`` with threads of this process.

    ``create_runtime`` is called on a thread of its own by ``start``, so that the process can answer health checks
    while a model loads. ``on_lost`` is called from a runner's thread, once, when the device is gone for good.
    ``decode_threads=0`` decodes on the runners' threads.
    """

    def __init__(
        self,
        create_runtime: Callable[[], Runtime],
        *,
        image_size: int,
        runners: int,
        max_batch_size: int | Literal["auto"],
        max_queue_delay: float,
        decode_threads: int,
        metrics: Metrics,
        on_lost: Callable[[str], object],
    ) -> None:
        self._create_runtime = create_runtime
        self._canary = warmup.canary(image_size)
        self._runner_count = runners
        self._max_batch_size = max_batch_size
        self._metrics = metrics
        self._on_lost = on_lost
        self._state: State = "starting"
        self._info: RuntimeInfo | None = None
        self._runtime: Runtime | None = None
        self._runners: list[Runner] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._batcher = Batcher(1, on_expired=self._expire, max_queue_delay=max_queue_delay)
        self._pool = ThreadPoolExecutor(decode_threads, thread_name_prefix="decode") if decode_threads else None
        metrics.watch(metrics.queue_depth, lambda: len(self._batcher))
        metrics.watch(metrics.ready, lambda: float(self._state == "ready"))

    async def start(self) -> None:
        """Load the model, prove it on the canary, begin to serve. Raises OperatorError if that fails.

        Meant to run beside a server that already listens: until it returns, ``infer`` raises NotReady.
        """
        self._loop = asyncio.get_running_loop()
        loaded: asyncio.Future[None] = self._loop.create_future()

        def load() -> None:
            error: OperatorError | None = None
            try:
                self._load()
            except OperatorError as reason:
                error = reason
            except Exception as unexpected:
                logger.exception("the model could not be loaded")
                error = OperatorError(f"the model could not be loaded ({type(unexpected).__name__})")
            with contextlib.suppress(RuntimeError):  # the loop may have ended first
                loop.call_soon_threadsafe(_settle, loaded, error)

        loop = self._loop
        # A daemon thread rather than an executor's: a process told to stop does not wait for a slow driver.
        threading.Thread(target=load, name="engine-load", daemon=True).start()
        await loaded

    async def infer(self, prepare: Prepare, deadline: float) -> InferResult:
        if self._state == "starting":
            raise NotReady("the model is still loading")
        if self._state in ("closed", "lost"):
            raise self._refusal()
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[InferResult] = loop.create_future()
        item = Item(prepare, deadline, reply, created_at=time.monotonic())
        try:
            if self._pool is None:
                self._batcher.put(item)
            else:
                self._pool.submit(self._decode, item)
        except Closed:
            raise self._refusal() from None
        # The batcher drops expired items at dequeue; this timer also answers when no runner comes by in time.
        timer = loop.call_later(max(0.0, deadline - item.created_at), _resolve, reply, _expired())
        try:
            return await reply
        finally:
            timer.cancel()
            item.cancelled = True  # no effect on an item that was answered

    def _decode(self, item: Item) -> None:
        """On a thread of the pool."""
        if item.cancelled:
            return
        error = _expired() if item.deadline <= time.monotonic() else runner.prepare(item)
        if error is None:
            try:
                self._batcher.put(item)
            except Closed:
                error = self._refusal()
        if error is not None:
            self._deliver([(item, error)])

    async def ready(self) -> Readiness:
        if self._state == "failing":
            # Success and failure both reach ``_report``, which sets the state that is read below.
            with contextlib.suppress(ServiceError):
                await self.infer(lambda: Prepared(self._canary, "png", ()), time.monotonic() + _CANARY_TIMEOUT_S)
        return Readiness(self._state == "ready", self._state, self._info)

    async def aclose(self) -> None:
        if self._state != "lost":
            self._state = "closed"
        await asyncio.to_thread(self._close)

    def _refusal(self) -> ServiceError:
        if self._state == "lost":
            return NotReady("the device was lost")
        return Draining("the service is shutting down")

    def _close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()  # what it was given still reaches the batcher
        self._batcher.close()
        for thread in self._runners:
            thread.join()
        self._abandon()  # only a lost device leaves anything
        if self._runtime is not None:
            runtime, self._runtime = self._runtime, None
            runtime.close()

    def _load(self) -> None:
        """On the loader thread: build the runtime, prove it on the canary, size batches, start the runners."""
        started = time.monotonic()
        runtime = self._create_runtime()
        warmup.check(runtime, self._canary)
        cost = warmup.batch_cost(runtime, self._canary)
        for size, seconds in cost.items():
            self._metrics.batch_cost.labels(str(size)).set(seconds)
        chosen = warmup.knee(cost) if self._max_batch_size == "auto" else self._max_batch_size
        self._batcher.max_batch_size = min(chosen, runtime.max_batch)
        self._info = RuntimeInfo(runtime.name, runtime.device, runtime.precision, self._batcher.max_batch_size, cost)
        self._runtime = runtime
        self._runners = [self._runner(index, runtime) for index in range(self._runner_count)]
        for thread in self._runners:
            thread.start()
        if self._state == "starting":
            self._state = "ready"
        fields = {
            "seconds": round(time.monotonic() - started, 3),
            "runtime": runtime.name,
            "device": runtime.device,
            "precision": runtime.precision,
            "runners": self._runner_count,
            "max_batch_size": self._batcher.max_batch_size,
        }
        logger.info("model ready", extra={"fields": fields})

    def _runner(self, index: int, runtime: Runtime) -> Runner:
        return Runner(
            index,
            runtime,
            self._batcher,
            deliver=self._deliver,
            report=self._report,
            observe_batch=self._metrics.batch_size.observe,
            lost=self._lose,
        )

    def _deliver(self, answers: Answers) -> None:
        """From any thread: resolve the replies on the event loop, all of a batch in one hop."""
        assert self._loop is not None
        # RuntimeError: the loop has ended, and with it everyone who waited.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(_resolve_all, answers)

    def _expire(self, item: Item) -> None:
        self._deliver([(item, _expired())])

    def _report(self, inferred: bool) -> None:
        if self._state in ("ready", "failing"):
            self._state = "ready" if inferred else "failing"

    def _lose(self, reason: str) -> None:
        if self._state == "lost":
            return
        self._state = "lost"
        self._abandon()
        self._on_lost(reason)

    def _abandon(self) -> None:
        if items := self._batcher.abandon():
            self._deliver([(item, self._refusal()) for item in items])


def _expired() -> DeadlineExceeded:
    return DeadlineExceeded("the deadline passed before the image was inferred")


def _resolve(reply: asyncio.Future[InferResult], answer: InferResult | ServiceError) -> None:
    if reply.done():
        return
    if isinstance(answer, ServiceError):
        reply.set_exception(answer)
    else:
        reply.set_result(answer)


def _resolve_all(answers: Answers) -> None:
    for item, answer in answers:
        _resolve(item.reply, answer)


def _settle(loaded: asyncio.Future[None], error: OperatorError | None) -> None:
    if loaded.done():
        return
    if error is None:
        loaded.set_result(None)
    else:
        loaded.set_exception(error)
