"""One thread that takes work from the batcher and does it; a loop that cannot die.

Everything that can go wrong with a batch goes wrong inside the loop: a batch that fails is halved until the failing
item is alone, and only that item gets an error. The one way out besides closing is a lost device.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from service.batcher import Batch, Batcher, Item
from service.engine.protocols import InferResult, Runtime
from service.errors import DeviceLost, InferenceFailed, ServiceError
from service.postprocess import ItemOutput

logger = logging.getLogger(__name__)

#: The answers of one batch, or of the part of it that was run together.
Answers = list[tuple[Item, InferResult | ServiceError]]


class Outcome(NamedTuple):
    """How a batch went, for readiness: it did if at least one of its images was inferred."""

    ok: bool


class Runner(threading.Thread):
    """Runs batches until the batcher is closed and empty, or the device is lost.

    ``deliver`` gets every item exactly once; ``report`` learns each batch's outcome; ``lost`` is called once, last.
    """

    def __init__(
        self,
        index: int,
        runtime: Runtime,
        batcher: Batcher,
        *,
        deliver: Callable[[Answers], None],
        report: Callable[[Outcome], None],
        observe_batch: Callable[[float], None],
        lost: Callable[[str], None],
    ) -> None:
        super().__init__(name=f"runner-{index}", daemon=True)
        self._runtime = runtime
        self._batcher = batcher
        self._deliver = deliver
        self._report = report
        self._observe_batch = observe_batch
        self._lost = lost

    def run(self) -> None:
        while (work := self._batcher.take()) is not None:
            try:
                if isinstance(work, Batch):
                    self._infer(work)
                else:
                    work()
            except DeviceLost as error:
                self._lost(str(error))
                return
            finally:
                self._batcher.done()

    def _infer(self, batch: Batch) -> None:
        try:
            answers = self._answer(batch.items, batch.alone)
        except DeviceLost:
            self._deliver([(item, InferenceFailed("the device was lost")) for item in batch.items])
            raise
        self._report(Outcome(any(isinstance(answer, InferResult) for _, answer in answers)))
        self._deliver(answers)

    def _answer(self, items: list[Item], alone: bool) -> Answers:
        started = time.monotonic()
        images = items[0].image[np.newaxis] if len(items) == 1 else np.stack([item.image for item in items])
        try:
            outputs = self._runtime.run(images, alone=alone)
        except DeviceLost:
            raise
        except Exception:
            if len(items) > 1:
                middle = len(items) // 2
                return self._answer(items[:middle], alone) + self._answer(items[middle:], alone)
            logger.exception("inference failed on one image")
            return [(items[0], InferenceFailed("the model could not process this image"))]
        self._observe_batch(len(items))
        infer_s = time.monotonic() - started
        return [
            (item, _result(output, started - item.enqueued_at, infer_s, len(items)))
            for item, output in zip(items, outputs.items(), strict=True)
        ]


def _result(output: ItemOutput, queue_s: float, infer_s: float, batch_size: int) -> InferResult | ServiceError:
    # A network that overflows (half precision, foreign weights) must not be served as an answer. One logit that is
    # not a number makes the sum of them all none.
    if not math.isfinite(output.log_sum_exp):
        return InferenceFailed("the model's output is not finite for this image")
    return InferResult(output, queue_s, infer_s, batch_size)
