"""The model on a device, as the engine sees it: the ``Runtime`` protocol and the types that cross it.

    engine ── images ──► Runtime.run ──► BatchOutputs

Implemented in ``service.runtimes`` for OpenVINO and torch, and by a fake in the tests. What every implementation checks
about its input stands here too; it needs numpy and no device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from service.model.outputs import BatchOutputs

#: B images, each (S, S, 3) uint8 RGB, as separate arrays or as one array (B, S, S, 3).
Images = Sequence[NDArray[np.uint8]] | NDArray[np.uint8]

#: For each image, the classes whose maps the caller asks for, at most K; None: no image asks for any.
Classes = Sequence[Sequence[int]] | None


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """Where and how a model is to run; nothing is left to be found out."""

    runtime: str = "openvino"  # openvino, torch
    device: str = "cpu"  # cpu, cuda, cuda:N
    precision: str = "fp32"  # fp32, bf16, fp16, int8
    runners: int = 1  # threads that call run() at once
    threads_per_runner: int = 1  # CPU threads behind each of them
    max_batch: int = 1  # the largest batch that run() must take


class Runtime(Protocol):
    """The model on a device."""

    @property
    def name(self) -> str:
        """``openvino`` or ``torch``."""

    @property
    def device(self) -> str:
        """``cpu``, ``cuda:0`` …"""

    @property
    def precision(self) -> str:
        """``fp32``, ``bf16``, ``fp16`` or ``int8``."""

    @property
    def max_batch(self) -> int:
        """The largest B that ``run`` takes."""

    def run(self, images: Images, *, classes: Classes = None, alone: bool = False) -> BatchOutputs:
        """One forward pass over B images, each (S, S, 3) uint8 RGB, read where they lie and not after the return.

        ``classes``: of each image, whose maps are wanted, in place of those of its strongest classes.
        Thread-safe; blocks; the outputs belong to the caller.
        ``alone``: nothing else is queued or running, so that every core may work on this batch.
        Raises DeviceLost when no later call can succeed; anything else concerns this batch alone.
        """

    def close(self) -> None: ...


def check_images(images: Images, size: int, max_batch: int) -> None:
    """Raise ValueError unless ``images`` is what ``Runtime.run`` takes: 1 to ``max_batch`` uint8 (size, size, 3)."""
    for image in images:
        if image.dtype != np.uint8 or image.shape != (size, size, 3):
            raise ValueError(f"each image must be uint8 ({size}, {size}, 3), not {image.dtype} {image.shape}")
    if not 1 <= len(images) <= max_batch:
        raise ValueError(f"a batch of {len(images)} images, where 1 to {max_batch} can be run")


def map_rows(classes: Classes, batch: int, k: int, num_classes: int) -> NDArray[np.int32] | None:
    """``classes`` as the networks take it: (batch, k) class indices, -1 for the class of that rank; None for None.

    ValueError for more than ``k`` classes an image, and for one that the network does not have.
    """
    if classes is None:
        return None
    rows = np.full((batch, k), -1, np.int32)
    for row, wanted in zip(rows, classes, strict=True):
        if len(wanted) > k or not all(0 <= index < num_classes for index in wanted):
            raise ValueError(f"maps of {list(wanted)}, where up to {k} of {num_classes} classes can be asked for")
        row[: len(wanted)] = wanted
    return rows


def concatenate(parts: Sequence[BatchOutputs]) -> BatchOutputs:
    """The answers to consecutive pieces of a batch as the answer to all of it."""
    if len(parts) == 1:
        return parts[0]
    return BatchOutputs(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
