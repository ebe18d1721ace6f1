"""The engine inside this process: batcher, runner threads, readiness.

    infer() ─► Item ─► [decode pool] ─► Batcher ─► runner threads: [decode,] Runtime
       ▲                                               │
       └─────────── call_soon_threadsafe ◄─────────────┘   one hop per batch

Decoding happens on a pool if batches must be gathered from decoded images (a GPU), and on the runners' own threads if
every core has a runner (a CPU), where a pool would only compete with them.

It begins with one model; others are loaded beside it and unloaded while it serves, and share its threads.

States: see ``client``. ``failing`` means that the whole last batch of every model failed; a probe image once per
second, and one for each ``ready()``, notices without traffic when the fault has gone. ``late`` means that a thread
exceeds its time limit (``watchdog``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, get_args

from service.engine import loading
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
from service.engine.loading import Loaded
from service.engine.replies import AwaitedItem, Replies
from service.engine.runner import Runner
from service.engine.watchdog import Watchdog
from service.errors import ServiceError, UnknownModel
from service.logs import request_id
from service.metrics import Metrics
from service.model.runtime import Runtime

logger = logging.getLogger(__name__)

_FATAL = get_args(Fatal)

#: How long the probe image may take after a failed batch.
_PROBE_TIMEOUT_S = 2.0

#: Seconds between two looks at whether a model that is to be unloaded still computes.
_UNLOAD_POLL_S = 0.01


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
        self._first = create_runtime, image_size
        self._runner_count = runners
        self._max_batch_size = max_batch_size
        self._metrics = metrics
        self._on_fatal = on_fatal
        self._phase: Phase = "starting"
        self._phase_lock = threading.Lock()
        self._models: dict[str, Loaded] = {}
        #: For the runners, by model. What observes batches stays, because a runner may still be about to use it.
        self._runtimes: dict[str, Runtime] = {}
        self._observe_batch: dict[str, Callable[[float], None]] = {}
        self._runners: list[threading.Thread] = []
        self._watchdog = Watchdog()
        self._watch: asyncio.Task[None] | None = None
        self._replies = Replies()
        self._batcher = Batcher(1, on_dropped=_drop, max_queue_delay=max_queue_delay)
        self._pool = DecodePool(decode_threads, self._watchdog) if decode_threads else None

    @property
    def state(self) -> State:
        phase = self._phase
        return self._watchdog.health if phase == "serving" else phase

    def state_of(self, model: str) -> State:
        phase = self._phase
        if phase != "serving":
            return phase
        return self._watchdog.health_of(model) if model in self._models else "starting"

    @property
    def info(self) -> RuntimeInfo | None:
        """Of the model that it began with; None while that is being loaded."""
        return self.info_of(self._model)

    def info_of(self, model: str) -> RuntimeInfo | None:
        return loaded.info if (loaded := self._models.get(model)) else None

    async def start(self) -> None:
        """Load the model, test it on the probe image, start to serve. Raises OperatorError if that fails.

        The server may already listen meanwhile: until this returns, ``infer`` raises NotReady.
        """
        self._replies.bind(asyncio.get_running_loop())
        await self.load(self._model, *self._first)
        self._watch = asyncio.ensure_future(
            self._watchdog.keep(
                serving=lambda: self._phase == "serving",
                end=lambda verdict: self._end(verdict.end, verdict.reason),
                probe=self._run_probes,
            )
        )

    async def load(self, model: str, create_runtime: Callable[[], Runtime], image_size: int) -> None:
        """Load ``model`` beside the others, and test it on the probe image. Raises OperatorError if that fails."""

        def load() -> None:
            self._take_in(model, loading.load(create_runtime, image_size, self._max_batch_size))

        await loading.on_thread(load)

    async def unload(self, model: str) -> None:
        """Refuse new images of ``model``, finish those accepted, release its memory."""
        if (loaded := self._models.pop(model, None)) is None:
            return
        while self._batcher.holds(model) and self._phase == "serving":  # noqa: ASYNC110  # runners know no loop
            await asyncio.sleep(_UNLOAD_POLL_S)
        self._watchdog.forget(model)
        if self._runtimes.pop(model, None) is not None:  # else ``aclose`` has closed it
            self._metrics.forget(model)
            await asyncio.to_thread(loaded.runtime.close)

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
        if (phase := self._phase) != "serving":
            raise refusal(phase)
        if item.model not in self._models:
            raise UnknownModel(f"the model {item.model} is not served here")
        try:
            if self._pool is None or not isinstance(item.source, Decode):
                self._batcher.put(item)
            else:
                self._pool.submit(item, self._decoded)
        except Closed:
            raise refusal(self._phase) from None

    async def ready(self) -> Readiness:
        if self.state == "failing":
            await self._run_probes()
        state = self.state
        return Readiness(state == "ready", state, self.info)

    async def ready_with(self, model: str) -> Readiness:
        """``ready``, of one model."""
        if self.state_of(model) == "failing":
            await self._run_probe(model)
        state = self.state_of(model)
        return Readiness(state == "ready", state, self.info_of(model))

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

    async def _run_probes(self) -> None:
        failing = [model for model in self._models if self._watchdog.health_of(model) == "failing"]
        await asyncio.gather(*map(self._run_probe, failing))

    async def _run_probe(self, model: str) -> None:
        """Infer the probe image; its success or failure reaches the watchdog like that of any batch."""
        if (loaded := self._models.get(model)) is not None:
            with contextlib.suppress(ServiceError):
                await self.infer(model, loaded.probe_image, time.monotonic() + _PROBE_TIMEOUT_S)

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
        while self._runtimes:
            self._runtimes.popitem()[1].close()

    def _take_in(self, model: str, loaded: Loaded) -> None:
        """On the loader thread: serve ``model`` from now on."""
        runtime, info = loaded.runtime, loaded.info
        metrics = self._metrics.model(model)
        for batch_size, seconds in info.batch_cost_seconds.items():
            metrics.batch_cost(str(batch_size)).set(seconds)
        self._metrics.watch(metrics.queue_depth, partial(self._batcher.waiting, model))
        self._watchdog.expect(info.batch_cost_seconds[1], model)
        self._batcher.max_batch_sizes[model] = info.max_batch_size
        self._observe_batch[model] = metrics.batch_size.observe
        self._runtimes[model] = runtime
        self._models[model] = loaded
        if not self._runners:
            self._runners = [
                threading.Thread(target=self._runner().run, name=f"runner-{index}", daemon=True)
                for index in range(self._runner_count)
            ]
            for thread in self._runners:
                thread.start()
        self._move("serving")
        fields = {
            "seconds": round(loaded.seconds, 3),
            "model": model,
            "runtime": runtime.name,
            "device": runtime.device,
            "precision": runtime.precision,
            "runners": self._runner_count,
            "max_batch_size": info.max_batch_size,
        }
        logger.info("model ready", extra={"fields": fields})

    def _runner(self) -> Runner:
        lost = partial(self._end, "lost")
        return Runner(self._runtimes, self._batcher, self._watchdog, self._observe_batch, lost)


def _drop(item: Item) -> None:
    deliver([(item, expired())])
