"""What both runtimes do around their device calls; knows numpy and nothing else."""

from __future__ import annotations

import queue
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from service.postprocess import BatchOutputs

T = TypeVar("T")


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


def check_images(images: NDArray[Any], size: int, max_batch: int) -> None:
    """Raise ValueError unless ``images`` is what ``Runtime.run`` takes: uint8 (B, size, size, 3), C-contiguous."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (size, size, 3):
        raise ValueError(f"images must be uint8 (B, {size}, {size}, 3), not {images.dtype} {images.shape}")
    if not 1 <= len(images) <= max_batch:
        raise ValueError(f"a batch of {len(images)} images, where 1 to {max_batch} can be run")
    if not images.flags.c_contiguous:
        raise ValueError("images must be C-contiguous")


def concatenate(parts: Sequence[BatchOutputs]) -> BatchOutputs:
    """The answers to consecutive pieces of a batch as the answer to all of it."""
    if len(parts) == 1:
        return parts[0]
    return BatchOutputs(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
