"""The engine inside this process: batcher, runner threads, readiness.

    infer() ─► Item ─► [decode pool] ─► Batcher ─► runner threads: [decode,] Runtime
       ▲                                               │
       └─────────── call_soon_threadsafe ◄─────────────┘   one hop per batch

Decoding happens on a pool if batches must be gathered from decoded images (a GPU), and on the runners' own threads if
every core has a runner (a CPU), where a pool would only compete with them.

States: see ``client``. ``failing`` means that the whole last batch failed; a probe image once per second, and one for
each ``ready()``, notices without traffic when the fault has gone. ``late`` means that a thread exceeds its time limit
(``watchdog``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Literal, get_args

from service.engine import warmup
from service.engine.batcher import Batcher, Closed, Item, deliver
from service.engine.client import (
    Decode,
    Fatal,
    InferResult,
    Phase,
    Priority,
    Readiness,
    RuntimeInfo,
    Source,
    State,
    expired,
    refusal,
)
from service.engine.decode_pool import DecodePool
from service.engine.replies import AwaitedItem, Replies
from service.engine.runner import Runner
from service.engine.watchdog import Watchdog
from service.errors import OperatorError, ServiceError, UnknownModel
from service.logs import request_id
from service.metrics import Metrics
from service.model.runtime import Runtime

logger = logging.getLogger(__name__)

_FATAL = get_args(Fatal)

#: How long the probe image may take after a failed batch.
_PROBE_TIMEOUT_S = 2.0


class LocalEngine:
    """Implements ``EngineClient`` with threads of this process.

    ``start`` calls ``create_runtime`` on a separate thread, so that the process can answer health checks while a
    model loads. ``on_fatal`` is called from any thread, once, when ``state`` is lost, failed or hung.
    ``decode_threads=0`` decodes on the runners' threads.
    """

    def __init__(
        self,
        model: str,
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
        self._model = model
        self._create_runtime = create_runtime
        self._probe_image = warmup.probe_image(image_size)
        self._runner_count = runners
        self._max_batch_size = max_batch_size
        self._metrics = metrics.model(model)
        self._on_fatal = on_fatal
        self._phase: Phase = "starting"
        self._phase_lock = threading.Lock()
        #: The loaded runtime; None while it is being loaded.
        self.info: RuntimeInfo | None = None
        self._runtime: Runtime | None = None
        self._runners: list[threading.Thread] = []
        self._watchdog = Watchdog()
        self._watch: asyncio.Task[None] | None = None
        self._replies = Replies()
        self._batcher = Batcher(1, on_dropped=_drop, max_queue_delay=max_queue_delay)
        self._pool = DecodePool(decode_threads, self._watchdog) if decode_threads else None
        metrics.watch(self._metrics.queue_depth, lambda: len(self._batcher))

    @property
    def state(self) -> State:
        phase = self._phase
        return self._watchdog.health if phase == "serving" else phase

    async def start(self) -> None:
        """Load the model, test it on the probe image, start to serve. Raises OperatorError if that fails.

        The server may already listen meanwhile: until this returns, ``infer`` raises NotReady.
        """
        self._replies.bind(asyncio.get_running_loop())
        loaded: Future[None] = Future()
        loaded.set_running_or_notify_cancel()  # the thread finishes even if nobody waits for it any more

        def load() -> None:
            try:
                self._load()
                loaded.set_result(None)
            except OperatorError as error:
                loaded.set_exception(error)
            except Exception as error:
                logger.exception("the model could not be loaded")
                loaded.set_exception(OperatorError(f"the model could not be loaded ({type(error).__name__})"))

        # A daemon thread, not an executor's: when told to stop, the process must not wait for a slow driver.
        threading.Thread(target=load, name="engine-load", daemon=True).start()
        await asyncio.wrap_future(loaded)
        self._watch = asyncio.ensure_future(
            self._watchdog.keep(
                serving=lambda: self._phase == "serving",
                end=lambda verdict: self._end(verdict.end, verdict.reason),
                probe=self._run_probe,
            )
        )

    async def infer(
        self, model: str, source: Source, deadline: float, classes: Sequence[int] = (), priority: Priority = "normal"
    ) -> InferResult:
        item = AwaitedItem(
            model,
            source,
            deadline,
            self._replies,
            classes,
            priority,
            request_id.get(),
            time.monotonic(),
            reply=asyncio.get_running_loop().create_future(),
        )
        self.submit(item)
        return await self._replies.wait(item)

    def submit(self, item: Item) -> None:
        """Queue ``item``, whose receiver will get the answer. Raises UnknownModel, NotReady or Draining."""
        if item.model != self._model:
            raise UnknownModel(f"the model {item.model} is not served here")
        if (phase := self._phase) != "serving":
            raise refusal(phase)
        try:
            if self._pool is None or not isinstance(item.source, Decode):
                self._batcher.put(item)
            else:
                self._pool.submit(item, self._decoded)
        except Closed:
            raise refusal(self._phase) from None

    async def ready(self) -> Readiness:
        if self.state == "failing":
            await self._run_probe()
        state = self.state
        return Readiness(state == "ready", state, self.info)

    async def aclose(self) -> None:
        self._move("closed")
        if self._watch is not None:
            self._watch.cancel()
        await asyncio.to_thread(self._close)

    def _decoded(self, item: Item, error: ServiceError | None) -> None:
        """Called on a thread of the pool."""
        if error is None:
            try:
                self._batcher.put(item)
            except Closed:
                error = refusal(self._phase)
        if error is not None:
            deliver([(item, error)])

    async def _run_probe(self) -> None:
        """Infer the probe image; its success or failure reaches the watchdog like that of any batch."""
        with contextlib.suppress(ServiceError):
            await self.infer(self._model, self._probe_image, time.monotonic() + _PROBE_TIMEOUT_S)

    def _move(self, phase: Phase) -> bool:
        """Move to ``phase``; False if that is not allowed.

        Lost, failed and hung are final: the first one stays. Closed can still become one of them.
        """
        with self._phase_lock:
            if self._phase in _FATAL or (self._phase == "closed" and phase not in _FATAL):
                return False
            self._phase = phase
            return True

    def _end(self, phase: Fatal, reason: str) -> None:
        """Called on any thread."""
        if self._move(phase):
            self._answer_everyone()
            self._on_fatal(reason)

    def _answer_everyone(self) -> None:
        deliver([(item, refusal(self._phase)) for item in self._batcher.abandon()])
        self._replies.refuse_all(lambda: refusal(self._phase))

    def _close(self) -> None:
        if self._phase == "hung":
            return  # a thread that hangs would block forever
        if self._pool is not None:
            self._pool.close()  # its items still reach the batcher
        self._batcher.close()
        for thread in self._runners:
            thread.join()
        self._answer_everyone()  # items are left only if the device was lost
        if self._runtime is not None:
            runtime, self._runtime = self._runtime, None
            runtime.close()

    def _load(self) -> None:
        """On the loader thread: create and test the runtime, choose the batch size, start the runners."""
        started = time.monotonic()
        runtime = self._create_runtime()
        warmup.check(runtime, self._probe_image)
        cost = warmup.batch_cost(runtime, self._probe_image)
        for batch_size, seconds in cost.items():
            self._metrics.batch_cost(str(batch_size)).set(seconds)
        self._watchdog.expect(cost[1])
        size = warmup.knee(cost) if self._max_batch_size == "auto" else self._max_batch_size
        self._batcher.max_batch_size = min(size, runtime.max_batch)
        self.info = RuntimeInfo(runtime.name, runtime.device, runtime.precision, self._batcher.max_batch_size, cost)
        self._runtime = runtime
        self._runners = [
            threading.Thread(target=self._runner(runtime).run, name=f"runner-{index}", daemon=True)
            for index in range(self._runner_count)
        ]
        for thread in self._runners:
            thread.start()
        self._move("serving")
        fields = {
            "seconds": round(time.monotonic() - started, 3),
            "model": self._model,
            "runtime": runtime.name,
            "device": runtime.device,
            "precision": runtime.precision,
            "runners": self._runner_count,
            "max_batch_size": self._batcher.max_batch_size,
        }
        logger.info("model ready", extra={"fields": fields})

    def _runner(self, runtime: Runtime) -> Runner:
        lost = partial(self._end, "lost")
        return Runner(runtime, self._batcher, self._watchdog, self._metrics.batch_size.observe, lost)


def _drop(item: Item) -> None:
    deliver([(item, expired())])
