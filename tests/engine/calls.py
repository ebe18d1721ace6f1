"""Calls of an engine that know how they may end, and a runtime that fails as they say."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import pytest
from hypothesis import strategies as st

from service.engine.batcher import Answers, Item
from service.engine.client import Decode, InferResult
from service.engine.local import LocalEngine
from service.engine.replies import Replies
from service.errors import BadImage, DeviceLost, InferenceFailed, ServiceError
from service.image import Pixels
from service.model.outputs import BatchOutputs
from service.model.runtime import Classes, Images
from tests import fakes
from tests.fakes import FakeRuntime, image, marker_of

Kind = Literal["good", "undecodable", "no memory to decode", "raises", "no memory to infer", "not finite"]
KINDS: st.SearchStrategy[Kind] = st.sampled_from(["good", "good", *get_args(Kind)])

#: What a call may end with on its image's account alone.
OWN_END: dict[Kind, type[object]] = {
    "good": InferResult,
    "undecodable": BadImage,
    "no memory to decode": ServiceError,
    "raises": InferenceFailed,
    "no memory to infer": InferenceFailed,
    "not finite": InferenceFailed,
}


@pytest.fixture(autouse=True, scope="module")
def unlogged() -> Iterator[None]:
    """Import it: pytest would keep the traceback of every fault."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@dataclass(eq=False)
class Call:
    """One ``infer``: the image, and what else than its own end may become of it."""

    marker: int
    kind: Kind
    pause: Callable[[], None] = lambda: None
    begun: bool = False
    ends: set[type[object]] = field(default_factory=set)
    decoded: int = 0
    inferred: int = 0  # successful forward passes
    delivered: int = 0
    task: asyncio.Task[InferResult] | None = None

    def __call__(self) -> Pixels:
        """``Decode.call``."""
        self.decoded += 1
        self.pause()
        if self.kind == "undecodable":
            raise BadImage("undecodable")
        if self.kind == "no memory to decode":
            raise MemoryError
        return image(self.marker)

    def check(self) -> None:
        assert self.task is not None
        assert self.task.done(), f"call {self.marker} ({self.kind}) was lost"
        assert self.decoded <= 1
        assert self.inferred <= 1
        assert self.delivered <= 1
        if self.task.cancelled():
            assert asyncio.CancelledError in self.ends
            return
        end = self.task.exception() or self.task.result()
        assert type(end) in {OWN_END[self.kind], *self.ends}, f"call {self.marker} ({self.kind}): {end!r}"
        if isinstance(end, InferResult):
            assert marker_of(end.output.embedding) == self.marker, "another's answer"
            assert self.kind == "good"


class Recorder(FakeRuntime):
    """Fails as its images' calls say, or altogether, and counts what succeeds."""

    def __init__(self, calls: list[Call], *, max_batch: int, pause: Callable[[], None] = lambda: None) -> None:
        super().__init__(max_batch=max_batch)
        self._calls = calls
        self._pause = pause
        self.broken = False
        self.gone = False
        self.lost_at: int | None = None  # marker of an image with which the device goes, -1: any

    def run(self, images: Images, *, classes: Classes = None, alone: bool = False) -> BatchOutputs:
        batch = [self._calls[marker] for marker in _markers(images)]
        self._pause()
        if self.lost_at is not None and (self.lost_at == -1 or self.lost_at in _markers(images)):
            self.lost_at = -1
            self.gone = True
            raise DeviceLost("gone")
        if self.broken and batch:
            if len(batch) == 1:
                batch[0].ends.add(InferenceFailed)
            raise RuntimeError("broken")
        kinds = {call.kind for call in batch}
        if "raises" in kinds:
            raise RuntimeError("this batch")
        if "no memory to infer" in kinds:
            raise MemoryError
        outputs = super().run(images, classes=classes, alone=alone)
        for position, call in enumerate(batch):
            call.inferred += 1
            if call.kind == "not finite":
                outputs.logits[position] = np.nan
        return outputs


def _markers(images: Images) -> list[int]:
    """Of all but the probe image, whose first pixel is not blue 1."""
    return [int(first[0]) + 256 * int(first[1]) for first in (image[0, 0] for image in images) if first[2] == 1]


def call_of(item: Item) -> Call | None:
    """The call that made ``item``; None once nobody waits for it any more."""
    source = item.source
    return source.call if isinstance(source, Decode) and isinstance(source.call, Call) else None


class CountingReplies(Replies):
    """Counts deliveries by call."""

    def deliver(self, answers: Answers) -> None:
        for item, _ in answers:
            if (call := call_of(item)) is not None:
                call.delivered += 1
        super().deliver(answers)


def engine_of(runtime: Recorder, **changes: Any) -> LocalEngine:
    """``fakes.engine_of``, counting what is delivered to each call."""
    engine = fakes.engine_of(runtime, **changes)
    engine._replies = CountingReplies()
    return engine
