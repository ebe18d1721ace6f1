"""The engine inside this process: batcher, runner threads, readiness.

    infer() ─► Item ─► [decode pool] ─► Batcher ─► runner threads: [decode,] Runtime
       ▲                                               │
       └─────────── call_soon_threadsafe ◄─────────────┘   one hop a batch

Decoding happens on a pool where batches are to be gathered from decoded images (a GPU), and on the runners' own
threads where every core has a runner (a CPU): there a pool would only take turns with them.

States: starting → ready ⇄ failing, late → closed, or one of three ends that the process does not survive: lost, failed,
hung. ``failing`` means that the last batch failed as a whole; a canary a second, and one for each ``ready()``, lets a
passing fault heal without traffic. ``late`` means that a thread has not come back in time (``watchdog``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, get_args

from service.batcher import Batcher, Closed, Item
from service.engine import replies, runner, warmup, watchdog
from service.engine.protocols import InferResult, Prepare, Readiness, Runtime, RuntimeInfo
from service.engine.replies import Fatal, Phase, State
from service.engine.runner import Answers, Runner
from service.engine.watchdog import Watchdog
from service.errors import OperatorError, ServiceError
from service.image import Prepared
from service.logs import request_id
from service.metrics import Metrics

logger = logging.getLogger(__name__)

_FATAL = get_args(Fatal)

#: How long the canary may take after a failed batch.
_CANARY_TIMEOUT_S = 2.0


class LocalEngine:
    """Implements ``EngineClient`` with threads of this process.

    ``create_runtime`` is called on a thread of its own by ``start``, so that the process can answer health checks
    while a model loads. ``on_fatal`` is called from any thread, once, when ``state`` is lost, failed or hung.
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
        on_fatal: Callable[[str], object],
    ) -> None:
        self._create_runtime = create_runtime
        self._canary = warmup.canary(image_size)
        self._runner_count = runners
        self._max_batch_size = max_batch_size
        self._metrics = metrics
        self._on_fatal = on_fatal
        self._phase: Phase = "starting"
        self._moving = threading.Lock()
        self._info: RuntimeInfo | None = None
        self._runtime: Runtime | None = None
        self._runners: list[Runner] = []
        self._watchdog = Watchdog()
        self._probe: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        #: Everyone who waits, wherever the item is.
        self._replies: set[asyncio.Future[InferResult]] = set()
        self._batcher = Batcher(1, on_dropped=self._drop, max_queue_delay=max_queue_delay)
        self._pool = ThreadPoolExecutor(decode_threads, thread_name_prefix="decode") if decode_threads else None
        metrics.watch(metrics.queue_depth, lambda: len(self._batcher))

    @property
    def info(self) -> RuntimeInfo | None:
        """What serves, once it is loaded."""
        return self._info

    @property
    def state(self) -> State:
        phase = self._phase
        return self._watchdog.health if phase == "serving" else phase

    async def start(self) -> None:
        """Load the model, prove it on the canary, begin to serve. Raises OperatorError if that fails.

        Meant to run beside a server that already listens: until it returns, ``infer`` raises NotReady.
        """
        self._loop = loop = asyncio.get_running_loop()
        loaded: asyncio.Future[None] = loop.create_future()

        def load() -> None:
            error: OperatorError | None = None
            try:
                self._load()
            except OperatorError as reason:
                error = reason
            except Exception as unexpected:
                logger.exception("the model could not be loaded")
                error = OperatorError(f"the model could not be loaded ({type(unexpected).__name__})")
            self._on_loop(replies.resolve, loaded, error)

        # A daemon thread rather than an executor's: a process told to stop does not wait for a slow driver.
        threading.Thread(target=load, name="engine-load", daemon=True).start()
        await loaded
        self._tick()

    async def infer(
        self, prepare: Prepare, deadline: float, pixels: int | None = None, classes: Sequence[int] = ()
    ) -> InferResult:
        if (phase := self._phase) != "serving":
            raise replies.refusal(phase)
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[InferResult] = loop.create_future()
        now = time.monotonic()
        item = Item(prepare, deadline, reply, pixels, now, request_id.get(), classes)
        try:
            if self._pool is None:
                self._batcher.put(item)
            else:
                self._pool.submit(self._decode, item)
        except Closed:
            raise replies.refusal(self._phase) from None
        # The batcher drops expired items at dequeue; this timer also answers when no runner comes by in time.
        timer = loop.call_later(max(0.0, deadline - item.created_at), replies.resolve, reply, replies.expired())
        self._replies.add(reply)
        try:
            return await reply
        finally:
            self._replies.discard(reply)
            timer.cancel()
            item.cancelled = True  # no effect on an item that was answered
            item.prepare = replies.given_up  # the queue keeps the item for a while: not its bytes

    def submit(self, item: Item) -> None:
        """Take an image that is decoded, and whose ``reply`` is a ``Sink``. Raises NotReady or Draining."""
        try:
            if (phase := self._phase) != "serving":
                raise replies.refusal(phase)
            self._batcher.put(item)
        except Closed:
            raise replies.refusal(self._phase) from None

    def _decode(self, item: Item) -> None:
        """On a thread of the pool."""
        if item.cancelled:
            return
        error = replies.expired() if item.deadline <= time.monotonic() else runner.prepare(item, self._watchdog)
        self._watchdog.idle()
        if error is None:
            try:
                self._batcher.put(item)
            except Closed:
                error = replies.refusal(self._phase)
        if error is not None:
            self._deliver([(item, error)])

    async def ready(self) -> Readiness:
        if self.state == "failing":
            await self._try_canary()
        state = self.state
        return Readiness(state == "ready", state, self._info)

    async def aclose(self) -> None:
        self._move("closed")
        await asyncio.to_thread(self._close)

    async def _try_canary(self) -> None:
        """What becomes of it reaches the watchdog as that of any batch does."""
        with contextlib.suppress(ServiceError):
            height, width, _ = self._canary.shape
            prepared = Prepared(self._canary, "png", (), (width, height))
            await self.infer(lambda: prepared, time.monotonic() + _CANARY_TIMEOUT_S)

    def _tick(self) -> None:
        if self._phase != "serving":
            return
        if verdict := self._watchdog.tick():
            self._end(verdict.end, verdict.reason)
            return
        if self._watchdog.health == "failing" and (self._probe is None or self._probe.done()):
            self._probe = asyncio.ensure_future(self._try_canary())
        asyncio.get_running_loop().call_later(watchdog.TICK_S, self._tick)

    def _move(self, phase: Phase) -> bool:
        """Enter ``phase`` if it lies ahead. The first end counts; closing is none, a device can be lost meanwhile."""
        with self._moving:
            if self._phase in _FATAL or (self._phase == "closed" and phase not in _FATAL):
                return False
            self._phase = phase
            return True

    def _end(self, phase: Fatal, reason: str) -> None:
        """From any thread."""
        if self._move(phase):
            self._answer_everyone()
            self._on_fatal(reason)

    def _answer_everyone(self) -> None:
        queued = self._batcher.abandon()
        self._deliver([(item, replies.refusal(self._phase)) for item in queued])
        self._on_loop(self._refuse_everyone)

    def _refuse_everyone(self) -> None:
        for reply in list(self._replies):
            replies.resolve(reply, replies.refusal(self._phase))

    def _close(self) -> None:
        if self._phase == "hung":
            return  # nobody waits for a thread that does not come back
        if self._pool is not None:
            self._pool.shutdown()  # what it was given still reaches the batcher
        self._batcher.close()
        for thread in self._runners:
            thread.join()
        self._answer_everyone()  # only a lost device leaves anybody
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
        self._watchdog.measured(cost[1])
        chosen = warmup.knee(cost) if self._max_batch_size == "auto" else self._max_batch_size
        self._batcher.max_batch_size = min(chosen, runtime.max_batch)
        self._info = RuntimeInfo(runtime.name, runtime.device, runtime.precision, self._batcher.max_batch_size, cost)
        self._runtime = runtime
        self._runners = [self._runner(index, runtime) for index in range(self._runner_count)]
        for thread in self._runners:
            thread.start()
        self._move("serving")
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
            self._watchdog,
            deliver=self._deliver,
            observe_batch=self._metrics.batch_size.observe,
            lost=lambda reason: self._end("lost", reason),
        )

    def _deliver(self, answers: Answers) -> None:
        """From any thread. All of a batch in one hop, or in one call for each sink."""
        waiting, sinks = replies.by_receiver(answers)
        if waiting:
            self._on_loop(replies.resolve_all, waiting)
        for sink, group in sinks.items():
            sink.deliver(group)

    def _on_loop(self, callback: Callable[..., object], *arguments: object) -> None:
        """From any thread."""
        if self._loop is not None:
            # RuntimeError: the loop has ended, and with it everyone who waited.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(callback, *arguments)

    def _drop(self, item: Item) -> None:
        self._deliver([(item, replies.expired())])
