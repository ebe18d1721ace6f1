"""Before the first request: does the model answer at all, and what do batches cost on this device?"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from service.engine.protocols import Runtime
from service.errors import OperatorError

#: A larger batch must be at least this much cheaper an image to be worth the wait for its slowest member.
_KNEE_TOLERANCE = 1.10

_REPEATS = 3


def canary(size: int) -> NDArray[np.uint8]:
    """A fixed (size, size, 3) uint8 picture with edges, gradients and texture, for warm-up and readiness."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float64) / size
    disc = np.hypot(x - 0.5, y - 0.45) < 0.3
    stripes = 0.5 + 0.5 * np.sin(40.0 * (x + 0.5 * y))
    red = np.where(disc, 0.9 - 0.4 * y, 0.3 + 0.5 * x)
    green = np.where(disc, 0.55 * stripes + 0.2, 0.6 - 0.4 * y)
    blue = np.where(disc, 0.2 + 0.2 * x, 0.8 - 0.5 * x * y)
    return (np.stack([red, green, blue], axis=-1) * 255).astype(np.uint8)


def check(runtime: Runtime, image: NDArray[np.uint8]) -> None:
    """One forward pass whose logits are finite and differ between classes; else OperatorError."""
    logits = runtime.run(image[None]).logits[0]
    if not np.isfinite(logits).all():
        raise OperatorError("the model's answer to the warm-up image is not finite; check weights and precision")
    if logits.size > 1 and float(np.ptp(logits)) == 0.0:
        raise OperatorError("the model gives every class the same score on the warm-up image; check its weights")


def batch_cost(runtime: Runtime, image: NDArray[np.uint8]) -> dict[int, float]:
    """Seconds of one forward pass at 1, 2, 4 … ``runtime.max_batch`` images; the best of a few tries each.

    Stops early when doubling has made an image dearer: past that, the curve only rises.
    """
    cost: dict[int, float] = {}
    size = 1
    while size <= runtime.max_batch:
        batch = np.repeat(image[None], size, axis=0)
        runtime.run(batch)
        times = []
        for _ in range(_REPEATS):
            started = time.perf_counter()
            runtime.run(batch)
            times.append(time.perf_counter() - started)
        cost[size] = min(times)
        if size > 1 and cost[size] / size > _KNEE_TOLERANCE * cost[size // 2] / (size // 2):
            break
        size *= 2
    return cost


def knee(cost: dict[int, float]) -> int:
    """The smallest batch size whose cost an image is within ``_KNEE_TOLERANCE`` of the best."""
    best = min(seconds / size for size, seconds in cost.items())
    return min(size for size, seconds in cost.items() if seconds / size <= _KNEE_TOLERANCE * best)
