"""What both runtimes do around their device calls; knows numpy and nothing else."""

from __future__ import annotations

import queue
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from service.postprocess import BatchOutputs

T = TypeVar("T")

#: B images, each (S, S, 3) uint8 RGB, wherever they lie; an array (B, S, S, 3) is one, too.
Images = Sequence[NDArray[np.uint8]] | NDArray[np.uint8]

#: For each image, the classes to compute maps of, at most K; None: no image asks for any.
Classes = Sequence[Sequence[int]] | None


class Pool(Generic[T]):
    """Hands each calling thread a member of its own for the length of one call; waits where all are out.

    Last in, first out: a lightly loaded service keeps using the same member, whose memory is in the cache.
    """

    def __init__(self, members: Iterable[T]) -> None:
        self._members: queue.LifoQueue[T] = queue.LifoQueue()
        for member in members:
            self._members.put(member)

    @contextmanager
    def lease(self) -> Iterator[T]:
        member = self._members.get()
        try:
            yield member
        finally:
            self._members.put(member)


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
    for row, indices in zip(rows, classes, strict=True):
        if len(indices) > k or not all(0 <= index < num_classes for index in indices):
            raise ValueError(f"maps of {list(indices)}, where up to {k} of {num_classes} classes can be asked for")
        row[: len(indices)] = indices
    return rows


def gather(images: Images, rows: NDArray[np.uint8]) -> None:
    """Copy B images into the first of ``rows`` (at least B, S, S, 3; C-contiguous).

    Through memoryviews, which keep the GIL for these few microseconds an image. numpy lets go of it for each, and must
    then wait behind an event loop that is busy: 64 times a batch.
    """
    target, size = rows.data.cast("B"), rows[0].nbytes
    for index, image in enumerate(images):
        target[index * size : (index + 1) * size] = image.reshape(-1).data


def concatenate(parts: Sequence[BatchOutputs]) -> BatchOutputs:
    """The answers to consecutive pieces of a batch as the answer to all of it."""
    if len(parts) == 1:
        return parts[0]
    return BatchOutputs(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
