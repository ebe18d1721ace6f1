"""Shadows: a version answers a sample of the images again, after their answers were sent, and is compared with them.

    answer sent ─► offer ─► at most ``IMAGES`` wait ─► one at a time, at low priority ─► top-1, cosine, time

Nobody waits for a shadow, and nothing of it reaches a client. An image is decoded again: its pixels do not leave the
engine, and another version may want another crop.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections import deque
from typing import NamedTuple

from service.errors import DeadlineExceeded, Draining, NotReady, ServiceError, UnknownModel
from service.image import Findings, Header
from service.metrics import Metrics
from service.model.outputs import Float32, normalize
from service.serving.intake import Answer, Served
from service.serving.split import in_canary

logger = logging.getLogger(__name__)

#: The most that wait; newer ones are dropped.
IMAGES = 64
BYTES = 64 * 2**20
#: How long one may wait for a pause in the traffic.
_PATIENCE_S = 30.0

#: The engine did not try: no pause, or the version is gone.
_NOT_TRIED = (DeadlineExceeded, Draining, NotReady, UnknownModel)


class _Image(NamedTuple):
    shadow: Served
    data: bytes
    header: Header
    label: str  # top-1 of the answer that was sent
    embedding: Float32


class ShadowQueue:
    """The shadows of all models of a process. For one event loop."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._waiting: deque[_Image] = deque()
        self._bytes = 0
        self._shadows: dict[str, str] = {}  # the version that each model's images were offered to last
        self._worker: asyncio.Task[None] | None = None
        self._closed = False

    def offer(self, shadow: Served, sample: float, key: bytes, data: bytes, answered: Served, answer: Answer) -> None:
        """Let ``shadow`` answer ``data`` as well, if ``key`` is in the ``sample`` (0 to 1). To be called once
        ``answer``, which ``answered`` gave, is sent; returns at once.

        The sample is another one than the canary's: it is by the version, too.
        """
        if self._closed or not in_canary(shadow.reference, key, sample * 100):
            return
        self._shadows[_name(shadow)] = shadow.reference
        if len(self._waiting) == IMAGES or self._bytes + len(data) > BYTES:
            self._count(shadow, "dropped")
            return
        output = answer.result.output
        # A copy: a row of a batch would keep all of it.
        image = _Image(shadow, data, answer.header, answered.labels[int(output.top[0])], output.embedding.copy())
        self._waiting.append(image)
        self._bytes += len(data)
        if self._worker is None or self._worker.done():
            # In a context of its own, so that no record of the log is said to be of this request.
            self._worker = asyncio.create_task(self._work(), context=contextvars.Context())

    def close(self) -> None:
        """Drop what waits or runs, and everything offered from now on."""
        self._closed = True
        if self._worker is not None:
            self._worker.cancel()
        while self._waiting:
            self._count(self._next().shadow, "dropped")

    async def _work(self) -> None:
        while self._waiting:
            image = self._next()
            outcome = "dropped"
            try:
                if self._shadows[_name(image.shadow)] == image.shadow.reference:
                    await self._compare(image)
                    outcome = "ok"
            except _NOT_TRIED:
                pass
            except ServiceError:
                outcome = "failed"  # the engine has logged what there is to know
            except Exception:
                logger.exception("a shadow could not be compared")
                outcome = "failed"
            finally:
                self._count(image.shadow, outcome)

    async def _compare(self, image: _Image) -> None:
        shadow, metrics, name = image.shadow, self._metrics, _name(image.shadow)
        source = shadow.source(image.data, image.header, Findings())
        deadline = time.monotonic() + _PATIENCE_S
        result = await shadow.engine.infer(shadow.reference, source, deadline, priority="low")
        label, embedding = shadow.labels[int(result.output.top[0])], result.output.embedding
        metrics.shadow_agreement.labels(name, str(label == image.label).lower()).inc()
        if embedding.shape == image.embedding.shape:
            cosine = float(normalize(embedding) @ normalize(image.embedding))
            metrics.shadow_cosine.labels(name).observe(cosine)
        metrics.shadow_infer.labels(name).observe(result.infer_s)

    def _next(self) -> _Image:
        image = self._waiting.popleft()
        self._bytes -= len(image.data)
        return image

    def _count(self, shadow: Served, outcome: str) -> None:
        self._metrics.shadow_images.labels(_name(shadow), outcome).inc()


def _name(served: Served) -> str:
    return served.artifact.manifest.name
