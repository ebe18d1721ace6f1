"""One thread that takes batches from the batcher and runs them; a loop that cannot die.

Everything that can go wrong with a batch goes wrong inside the loop. An image that cannot be decoded leaves the batch
before it runs. A batch that fails is halved until the failing item is alone, and only that item gets an error. The
one way out besides closing is a lost device.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from service.engine.batcher import Batch, Batcher, Item
from service.engine.client import InferResult
from service.engine.watchdog import Watchdog
from service.errors import DeadlineExceeded, DeviceLost, InferenceFailed, ServiceError
from service.model.outputs import ItemOutput
from service.model.runtime import Runtime

logger = logging.getLogger(__name__)

#: The answers of one batch, or of the part of it that was run together.
Answers = list[tuple[Item, InferResult | ServiceError]]


class Runner(threading.Thread):
    """Runs batches until the batcher is closed and empty, or the device is lost.

    ``deliver`` gets every item; ``watchdog`` learns what is being done and how each batch ended; ``lost`` is called
    once, last.
    """

    def __init__(
        self,
        index: int,
        runtime: Runtime,
        batcher: Batcher,
        watchdog: Watchdog,
        *,
        deliver: Callable[[Answers], None],
        observe_batch: Callable[[float], None],
        lost: Callable[[str], None],
    ) -> None:
        super().__init__(name=f"runner-{index}", daemon=True)
        self._runtime = runtime
        self._batcher = batcher
        self._watchdog = watchdog
        self._deliver = deliver
        self._observe_batch = observe_batch
        self._lost = lost

    def run(self) -> None:
        while (batch := self._batcher.take()) is not None and self.step(batch):
            pass

    def step(self, batch: Batch) -> bool:
        """Answer every item of ``batch``. False: the device is lost."""
        try:
            self._infer(batch)
        except DeviceLost as error:
            self._lost(str(error))
            return False
        except Exception:
            logger.exception("a batch failed unexpectedly")
            # Who has an answer already keeps it.
            self._deliver([(item, InferenceFailed("the service failed on this image")) for item in batch.items])
        finally:
            self._batcher.done()
        self._watchdog.idle()
        return True

    def _infer(self, batch: Batch) -> None:
        answers: Answers = []
        decoded: list[Item] = []
        for item in batch.items:
            if (error := prepare(item, self._watchdog)) is not None:
                answers.append((item, error))
            else:
                decoded.append(item)
        if decoded:
            try:
                inferred = self._answer(decoded, batch.alone)
            except DeviceLost:
                self._deliver([*answers, *((item, InferenceFailed("the device was lost")) for item in decoded)])
                raise
            self._watchdog.report(any(isinstance(answer, InferResult) for _, answer in inferred))
            answers += inferred
        self._deliver(answers)

    def _answer(self, items: list[Item], alone: bool) -> Answers:
        self._watchdog.inferring(len(items))
        started = time.monotonic()
        try:
            classes = [item.classes for item in items] if any(item.classes for item in items) else None
            outputs = self._runtime.run([_pixels(item) for item in items], classes=classes, alone=alone)
            infer_s = time.monotonic() - started
            answers: Answers = [
                (item, _result(item, output, started, infer_s, len(items)))
                for item, output in zip(items, outputs.items(), strict=True)
            ]
        except DeviceLost:
            raise
        except Exception:
            if len(items) > 1:
                middle = len(items) // 2
                return self._answer(items[:middle], alone) + self._answer(items[middle:], alone)
            logger.exception("inference failed on one image", extra={"fields": {"request_id": items[0].request_id}})
            return [(items[0], InferenceFailed("the model could not process this image"))]
        self._observe_batch(len(items))
        self._watchdog.inferred(len(items), infer_s)
        return answers


def prepare(item: Item, watchdog: Watchdog) -> ServiceError | None:
    """Decode ``item`` unless that has been done; what went wrong, if anything did. The caller is ``idle`` after it."""
    if item.prepared is not None:
        return None
    started = time.monotonic()
    if item.deadline <= started:  # its neighbours' decoding took too long
        return DeadlineExceeded("the deadline passed before the image was decoded")
    watchdog.decoding(item.pixels)
    try:
        item.prepared = item.prepare()
    except ServiceError as error:
        return error
    except Exception:
        fields = {"request_id": item.request_id}
        logger.exception("an image could not be decoded, through no fault of its sender's", extra={"fields": fields})
        return ServiceError("the image could not be processed")
    item.prepare_s = time.monotonic() - started
    return None


def _pixels(item: Item) -> NDArray[np.uint8]:
    assert item.prepared is not None
    return item.prepared.image


def _result(
    item: Item, output: ItemOutput, started: float, infer_s: float, batch_size: int
) -> InferResult | ServiceError:
    # A network that overflows (half precision, foreign weights) must not be served as an answer. One logit that is
    # not a number makes the sum of them all none.
    if not math.isfinite(output.log_sum_exp):
        return InferenceFailed("the model's output is not finite for this image")
    assert item.prepared is not None
    queue_s = started - item.created_at - item.prepare_s
    return InferResult(output, item.prepared, item.prepare_s, queue_s, infer_s, batch_size)
