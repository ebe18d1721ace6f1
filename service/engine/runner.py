"""One thread that takes batches from the batcher and runs them; no failing batch can end it.

All exceptions are handled inside its loop. An image that cannot be decoded leaves the batch before it runs. A batch
that fails is halved until the failing item is alone, and only that item gets an error. The loop ends only when the
batcher is closed or the device is lost.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from service.engine.batcher import Answers, Batch, Batcher, Item, deliver
from service.engine.client import Decode, InferResult
from service.engine.watchdog import Watchdog
from service.errors import DeadlineExceeded, DeviceLost, InferenceFailed, ServiceError, UnknownModel
from service.image import Pixels
from service.model.outputs import ItemOutput
from service.model.runtime import Runtime

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Runner:
    """Runs batches until the batcher is closed and empty, or the device is lost.

    ``runtimes``, by model, may change meanwhile. Every item is answered through its receiver. ``watchdog`` is told what
    the thread is doing and how each batch ended. ``lost`` is called at the end if the device is lost.
    """

    runtimes: Mapping[str, Runtime]
    batcher: Batcher
    watchdog: Watchdog
    observe_batch: Mapping[str, Callable[[float], None]]  # by model
    lost: Callable[[str], None]

    def run(self) -> None:
        """To be called on a thread of its own."""
        while (batch := self.batcher.take()) is not None and self.step(batch):
            pass

    def step(self, batch: Batch) -> bool:
        """Answer every item of ``batch``. False: the device is lost."""
        try:
            self._infer(batch)
        except DeviceLost as error:
            self.lost(str(error))
            return False
        except Exception:
            logger.exception("a batch failed unexpectedly")
            # Items that already have an answer keep it.
            deliver([(item, InferenceFailed("the service failed on this image")) for item in batch.items])
        finally:
            self.batcher.done(batch)
        self.watchdog.idle()
        return True

    def _infer(self, batch: Batch) -> None:
        answers: Answers = []
        decoded: list[tuple[Item, Pixels]] = []
        for item in batch.items:
            outcome = decode(item, self.watchdog)
            if isinstance(outcome, ServiceError):
                answers.append((item, outcome))
            else:
                decoded.append((item, outcome))
        if decoded:
            try:
                inferred = self._answer(decoded, batch.alone)
            except DeviceLost:
                deliver([*answers, *((item, InferenceFailed("the device was lost")) for item, _ in decoded)])
                raise
            self.watchdog.report(any(isinstance(answer, InferResult) for _, answer in inferred), batch.model)
            answers += inferred
        deliver(answers)

    def _answer(self, decoded: list[tuple[Item, Pixels]], alone: bool) -> Answers:
        items, pixels = zip(*decoded, strict=True)
        model = items[0].model
        if (runtime := self.runtimes.get(model)) is None:  # unloaded while its image was being decoded
            return [(item, UnknownModel(f"the model {model} is no longer served here")) for item in items]
        self.watchdog.inferring(len(items), model)
        started = time.monotonic()
        try:
            classes = [item.classes for item in items] if any(item.classes for item in items) else None
            outputs = runtime.run(pixels, classes=classes, alone=alone)
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
                return self._answer(decoded[:middle], alone) + self._answer(decoded[middle:], alone)
            logger.exception("inference failed on one image", extra={"fields": {"request_id": items[0].request_id}})
            return [(items[0], InferenceFailed("the model could not process this image"))]
        self.observe_batch[model](len(items))
        self.watchdog.inferred(len(items), infer_s, model)
        return answers


def decode(item: Item, watchdog: Watchdog) -> Pixels | ServiceError:
    """The pixels of ``item``, or the error if they cannot be made.

    The caller must report to ``watchdog`` afterwards that its thread is idle.
    """
    source = item.source
    if not isinstance(source, Decode):
        return source
    started = time.monotonic()
    if item.deadline <= started:  # decoding other items of the batch took too long
        return DeadlineExceeded("the deadline passed before the image was decoded")
    watchdog.decoding(source.pixel_count)
    try:
        pixels = source.call()
    except ServiceError as error:
        return error
    except Exception:
        fields = {"request_id": item.request_id}
        logger.exception("decoding an image failed unexpectedly", extra={"fields": fields})
        return ServiceError("the image could not be processed")
    item.decode_s = time.monotonic() - started
    return pixels


def _result(
    item: Item, output: ItemOutput, started: float, infer_s: float, batch_size: int
) -> InferResult | ServiceError:
    # Catches overflows (half precision, a user's weights): the sum is finite only if no logit is NaN or +∞.
    if not math.isfinite(output.log_sum_exp):
        return InferenceFailed("the model's output is not finite for this image")
    queue_s = started - item.created_at - item.decode_s
    return InferResult(output, item.decode_s, queue_s, infer_s, batch_size)
