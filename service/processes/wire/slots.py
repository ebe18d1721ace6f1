"""Shared memory of one connection: slots that each hold one image, the request for it and, later, its outputs.

The worker creates the memory for each connection, sends its file descriptor with the first message, and alone decides
which slot is used when. The memory has no name, so nothing is left behind when both processes end. It is not reused
after its connection has broken: an engine that was only slow could still write into a slot.
"""

from __future__ import annotations

import itertools
import mmap
import os
from collections.abc import Sequence
from typing import Any, NamedTuple, Self, get_args

import numpy as np
from numpy.typing import NDArray

from service.engine.client import Priority
from service.model.artifact import Artifact
from service.model.outputs import MAPS_PER_ITEM, ItemOutput

#: The longest request id that the HTTP layer lets in.
REQUEST_ID_BYTES = 128

#: name/version, each of at most 64 characters.
_MODEL_BYTES = 129

_PRIORITIES: tuple[Priority, ...] = get_args(Priority)

#: Images of one worker in one engine. A worker decodes only a few during one batch; more slots would only hold queued
#: images as pixels rather than as encoded files.
_SLOTS = 32

#: Bytes of a cache line: two slots never share one.
_ALIGNMENT = 64


class Layout(NamedTuple):
    """Sizes of a slot's fields. Both sides derive them from the artifact; the engine compares them on connection."""

    image_size: int
    num_classes: int
    embedding_dim: int
    map_size: int
    slots: int

    @classmethod
    def of(cls, artifact: Artifact) -> Layout:
        """The layout of one image of ``artifact`` and its outputs."""
        size, network = artifact.manifest.preprocessing.crop_size, artifact.network
        return cls(size, network.num_classes, network.embedding_dim, network.feature_size(size), _SLOTS)

    @property
    def record(self) -> np.dtype[np.void]:
        """The dtype of one slot."""
        maps = min(MAPS_PER_ITEM, self.num_classes)
        fields: dict[str, np.dtype[Any]] = {
            "image": np.dtype(("u1", (self.image_size, self.image_size, 3))),
            "log_sum_exp": np.dtype("f8"),
            "top": np.dtype(("i8", (maps,))),
            "logits": np.dtype(("f4", (self.num_classes,))),
            "embedding": np.dtype(("f4", (self.embedding_dim,))),
            "maps": np.dtype(("f4", (maps, self.map_size, self.map_size))),
            "classes": np.dtype(("i4", (maps,))),
            "request_id": np.dtype(f"S{REQUEST_ID_BYTES}"),
            "model": np.dtype(f"S{_MODEL_BYTES}"),
            "priority": np.dtype("u1"),
        }
        sizes = (-(-field.itemsize // _ALIGNMENT) * _ALIGNMENT for field in fields.values())
        *offsets, end = itertools.accumulate(sizes, initial=0)
        return np.dtype({"names": list(fields), "formats": list(fields.values()), "offsets": offsets, "itemsize": end})


class SlotRequest(NamedTuple):
    """How the image in a slot is to be inferred."""

    model: str
    classes: Sequence[int]  # to compute maps of
    priority: Priority
    request_id: str


class SlotMemory:
    """``layout.slots`` slots in memory that two processes share."""

    def __init__(self, layout: Layout, fd: int) -> None:
        """Map ``fd``, which may be closed afterwards. ValueError if it is too small for ``layout``."""
        record = layout.record
        size = record.itemsize * layout.slots
        if os.fstat(fd).st_size < size:
            raise ValueError("the shared memory is smaller than its layout")
        records = np.frombuffer(mmap.mmap(fd, size), record)
        # Fields are looked up here once: looking one up by name costs more than reading or writing it.
        self.images: list[NDArray[np.uint8]] = list(records["image"])
        self._outputs = [records[name] for name in ItemOutput._fields]
        self._request_ids = records["request_id"]
        self._models = records["model"]
        self._priorities = records["priority"]
        self._classes = list(records["classes"])

    @classmethod
    def create(cls, layout: Layout) -> tuple[Self, int]:
        """New memory and a file descriptor of it, to send and close. Pages are allocated when they are written."""
        fd = os.memfd_create("mobilenet-slots", os.MFD_CLOEXEC)
        os.ftruncate(fd, layout.record.itemsize * layout.slots)
        return cls(layout, fd), fd

    def write_request(self, slot: int, request: SlotRequest) -> None:
        self._models[slot] = request.model.encode()
        self._priorities[slot] = _PRIORITIES.index(request.priority)
        self._request_ids[slot] = request.request_id.encode()
        row, classes = self._classes[slot], request.classes
        row[: len(classes)] = classes
        row[len(classes) :] = -1

    def read_request(self, slot: int) -> SlotRequest:
        """The request in ``slot``. Another process wrote it, so text and numbers are validated."""
        return SlotRequest(
            model=_text(self._models[slot]),
            classes=[index for index in self._classes[slot].tolist() if index >= 0],
            priority=_PRIORITIES[self._priorities[slot] % len(_PRIORITIES)],
            request_id=_text(self._request_ids[slot]),
        )

    def write_outputs(self, slot: int, output: ItemOutput) -> None:
        for field, value in zip(self._outputs, output, strict=True):
            field[slot] = value

    def read_outputs(self, slot: int) -> ItemOutput:
        """A copy, because the slot is reused."""
        return ItemOutput(*(field[slot].copy() for field in self._outputs))


def _text(value: bytes) -> str:
    return bytes(value).decode("ascii", "backslashreplace")
