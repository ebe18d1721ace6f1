"""A runtime without a model: everything above the runtimes is tested on it in milliseconds."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.engine.client import Decode
from service.engine.local import LocalEngine
from service.image import Pixels
from service.metrics import Metrics
from service.model.outputs import MAPS_PER_ITEM, BatchOutputs
from service.model.runtime import Classes, Images, map_rows

MODEL = "fake/1"
SIZE = 8
NUM_CLASSES = 10
EMBEDDING_DIM = 16


def image(marker: int, size: int = SIZE) -> NDArray[np.uint8]:
    """An image that ``FakeRuntime`` answers recognisably: its class is ``marker % NUM_CLASSES``."""
    picture = np.zeros((size, size, 3), np.uint8)
    picture[0, 0] = (marker % 256, marker // 256, 1)
    return picture


def given(marker: int) -> Decode:
    """That image as ``EngineClient.infer`` takes it."""
    return Decode(lambda: image(marker))


class Endless:
    """An image whose decoding does not end before ``release``."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.release = threading.Event()

    def __call__(self) -> Pixels:
        self.entered.set()
        self.release.wait(60)
        return image(7)


@pytest.fixture
def endless() -> Iterator[Endless]:
    """Import it: released at the end, whatever happens."""
    made = Endless()
    yield made
    made.release.set()


def image_is_probe(images: NDArray[np.uint8]) -> bool:
    """Test images carry a 1 in the blue of their first pixel; the probe image does not."""
    return bool((images[:, 0, 0, 2] != 1).any())


class Gate:
    """Holds the runtime until opened, so that a test can fill the queue behind a running batch."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self._open = threading.Event()

    def __call__(self, images: NDArray[np.uint8]) -> None:
        if not image_is_probe(images):
            self.wait()

    def wait(self) -> None:
        self.entered.set()
        assert self._open.wait(30)

    def open(self) -> None:
        self._open.set()

    async def reached(self) -> None:
        assert await asyncio.to_thread(self.entered.wait, 30)


def marker_of(embedding: NDArray[np.float32]) -> int:
    """The marker of the image that this embedding was computed from."""
    return int(embedding[0]) + 256 * int(embedding[1])


class FakeRuntime:
    """Answers from the first pixel; a class's map is its index.

    ``before`` runs at the start of every call, to wait, count or raise; ``after`` may change what is answered.
    """

    name = "fake"
    device = "cpu"
    precision = "fp32"

    def __init__(
        self,
        *,
        max_batch: int = 8,
        before: Callable[[NDArray[np.uint8]], None] = lambda images: None,
        after: Callable[[NDArray[np.uint8], BatchOutputs], BatchOutputs] = lambda images, outputs: outputs,
    ) -> None:
        self.max_batch = max_batch
        self.before = before
        self._after = after
        self.batches: list[int] = []
        self.alone: list[bool] = []
        self.closed = False
        self.metrics = Metrics()  # of the engine around it
        self._lock = threading.Lock()

    def run(self, images: Images, *, classes: Classes = None, alone: bool = False) -> BatchOutputs:
        images = np.stack(list(images))
        with self._lock:
            self.batches.append(len(images))
            self.alone.append(alone)
        self.before(images)
        first = images[:, 0, 0, :].astype(np.float32)
        logits = np.zeros((len(images), NUM_CLASSES), np.float32)
        logits[np.arange(len(images)), images[:, 0, 0, 0] % NUM_CLASSES] = 5.0
        embeddings = np.zeros((len(images), EMBEDDING_DIM), np.float32)
        embeddings[:, :3] = first
        top = np.argsort(-logits, axis=1, kind="stable")[:, :MAPS_PER_ITEM].astype(np.int64)
        rows = None if classes is None else map_rows(classes, len(images), MAPS_PER_ITEM, NUM_CLASSES)
        mapped = top if rows is None else np.where(rows < 0, top, rows)
        maps = mapped.astype(np.float32)[..., np.newaxis, np.newaxis]
        return self._after(images, BatchOutputs(logits, embeddings, top, maps))

    def close(self) -> None:
        self.closed = True


def queue_depth(metrics: Metrics) -> float | None:
    metrics.sample()
    return metrics.registry.get_sample_value("mobilenet_queue_depth", {"model": "fake", "version": "1"})


def engine_of(runtime: FakeRuntime, **changes: Any) -> LocalEngine:
    """One runner over ``runtime``, which holds its metrics; ``changes`` are to the engine's arguments."""
    arguments: dict[str, Any] = {
        "model": MODEL,
        "create_runtime": lambda: runtime,
        "image_size": SIZE,
        "runners": 1,
        "max_batch_size": runtime.max_batch,
        "max_queue_delay": 0.0,
        "decode_threads": 0,
        "metrics": runtime.metrics,
        "on_fatal": lambda reason: None,
    }
    return LocalEngine(**(arguments | changes))


@asynccontextmanager
async def started(runtime: FakeRuntime, **changes: Any) -> AsyncIterator[LocalEngine]:
    """That engine, ready; closed at the end, whatever happens."""
    engine = engine_of(runtime, **changes)
    try:
        await engine.start()
        yield engine
    finally:
        await engine.aclose()
