"""Tests a loaded model on the probe image and measures what batches cost on this device, before the first request."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from service.errors import OperatorError
from service.model.runtime import Runtime

#: Doubling a batch pays if it reduces the time per image to this fraction or less; smaller gains are not worth the
#: longer wait for the whole batch.
_DOUBLING_PAYS = 0.9

_REPEATS = 4


def probe_image(size: int) -> NDArray[np.uint8]:
    """A fixed (size, size, 3) uint8 image with edges, gradients and texture, for warm-up and readiness."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float64) / size
    disc = np.hypot(x - 0.5, y - 0.45) < 0.3
    stripes = 0.5 + 0.5 * np.sin(40.0 * (x + 0.5 * y))
    red = np.where(disc, 0.9 - 0.4 * y, 0.3 + 0.5 * x)
    green = np.where(disc, 0.55 * stripes + 0.2, 0.6 - 0.4 * y)
    blue = np.where(disc, 0.2 + 0.2 * x, 0.8 - 0.5 * x * y)
    return (np.stack([red, green, blue], axis=-1) * 255).astype(np.uint8)


def check(runtime: Runtime, image: NDArray[np.uint8]) -> None:
    """Raise OperatorError unless the logits of ``image`` are finite and differ between classes."""
    logits = runtime.run([image]).logits[0]
    if not np.isfinite(logits).all():
        raise OperatorError("the model's answer to the warm-up image is not finite; check weights and precision")
    if logits.size > 1 and float(np.ptp(logits)) == 0.0:
        raise OperatorError("the model gives every class the same score on the warm-up image; check its weights")


def batch_cost(runtime: Runtime, image: NDArray[np.uint8]) -> dict[int, float]:
    """Seconds of one forward pass at 1, 2, 4 … images, up to ``runtime.max_batch``; the best of a few runs each.

    Runs of each size alternate with runs of its double, so that a drift of the machine's speed affects both. The curve
    ends where doubling no longer pays: measuring on would only delay the start.
    """
    cost: dict[int, float] = {1: min(_seconds(runtime, image, 1) for _ in range(_REPEATS))}
    size = 1
    while 2 * size <= runtime.max_batch:
        double = 2 * size
        _seconds(runtime, image, double)  # the first call at a size may still allocate
        cost[double] = _seconds(runtime, image, double)
        for _ in range(_REPEATS - 1):
            cost[size] = min(cost[size], _seconds(runtime, image, size))
            cost[double] = min(cost[double], _seconds(runtime, image, double))
        if not _pays(cost, double):
            break
        size = double
    return cost


def knee(cost: dict[int, float]) -> int:
    """The largest batch size up to which every doubling pays."""
    size = 1
    while 2 * size in cost and _pays(cost, 2 * size):
        size *= 2
    return size


def _pays(cost: dict[int, float], double: int) -> bool:
    return cost[double] / double <= _DOUBLING_PAYS * cost[double // 2] / (double // 2)


def _seconds(runtime: Runtime, image: NDArray[np.uint8], size: int) -> float:
    batch = [image] * size
    started = time.perf_counter()
    runtime.run(batch)
    return time.perf_counter() - started
