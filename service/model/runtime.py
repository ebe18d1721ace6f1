"""The model on a device, as the engine sees it: the ``Runtime`` protocol and its types.

    engine ── images ──► Runtime.run ──► BatchOutputs

Implemented in ``service.runtimes`` for OpenVINO and torch, and by a fake in the tests. The checks of input that all
implementations share are here, too.
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

#: For each image the classes to compute maps of, at most K; None if none are requested for any image.
Classes = Sequence[Sequence[int]] | None


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """Where and how a model is to run; no option is "auto"."""

    runtime: str = "openvino"  # openvino, torch
    device: str = "cpu"  # cpu, cuda, cuda:N
    precision: str = "fp32"  # fp32, bf16, fp16, int8
    runners: int = 1  # threads that call run() at the same time
    threads_per_runner: int = 1  # CPU threads per runner
    max_batch: int = 1  # the largest batch that run() must accept
    #: Whether a batch that is alone may use all cores. Without, answers do not depend on it, to the last bit.
    wide: bool = True


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
        """The largest B that ``run`` accepts."""

    def run(self, images: Images, *, classes: Classes = None, alone: bool = False) -> BatchOutputs:
        """One forward pass over B images, each (S, S, 3) uint8 RGB; they are not read after the return.

        ``classes``: for each image, the classes to compute maps of, instead of its strongest classes.
        ``alone``: nothing else is queued or running, so this batch may use all cores.
        Thread-safe; blocks; the outputs belong to the caller.
        Raises DeviceLost if no later call can succeed; any other error concerns only this batch.
        """

    def close(self) -> None: ...


def check_images(images: Images, size: int, max_batch: int) -> None:
    """Raise ValueError unless ``images`` are 1 to ``max_batch`` arrays (size, size, 3) of uint8."""
    for image in images:
        if image.dtype != np.uint8 or image.shape != (size, size, 3):
            raise ValueError(f"each image must be uint8 ({size}, {size}, 3), not {image.dtype} {image.shape}")
    if not 1 <= len(images) <= max_batch:
        raise ValueError(f"a batch of {len(images)} images; 1 to {max_batch} are possible")


def map_rows(classes: Sequence[Sequence[int]], batch: int, k: int, num_classes: int) -> NDArray[np.int32]:
    """``classes`` as the networks take it: (batch, k) class indices; -1 in column i means the i-th strongest class.

    ValueError for more than ``k`` classes per image, and for one that the network does not have.
    """
    rows = np.full((batch, k), -1, np.int32)
    for row, indices in zip(rows, classes, strict=True):
        if len(indices) > k or not all(0 <= index < num_classes for index in indices):
            raise ValueError(f"maps of {list(indices)}; up to {k} of {num_classes} classes are possible")
        row[: len(indices)] = indices
    return rows


def concatenate(parts: Sequence[BatchOutputs]) -> BatchOutputs:
    """The outputs of consecutive parts of a batch as one."""
    if len(parts) == 1:
        return parts[0]
    return BatchOutputs(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
