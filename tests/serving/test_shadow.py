"""A shadow is compared with the answers that were sent, and never costs anybody anything but a pause."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.config import Settings
from service.engine.client import InferResult
from service.image import Findings, inspect
from service.logs import request_id
from service.metrics import Metrics
from service.model.artifact import Artifact
from service.model.outputs import BatchOutputs
from service.serving.build import create_served
from service.serving.intake import Answer, Served
from service.serving.shadow import BYTES, IMAGES, ShadowQueue
from service.serving.split import in_canary
from tests.artifacts import make_artifact
from tests.fakes import FakeRuntime, Gate, image, image_is_probe, started
from tests.running import png
from tests.waiting import eventually, soon

pytestmark = pytest.mark.anyio

STABLE, SHADOW = "1", "2"


@dataclasses.dataclass
class Loaded:
    """Two versions of one model, and the queue."""

    stable: Served
    shadow: Served
    queue: ShadowQueue
    metrics: Metrics

    async def answer(self, data: bytes) -> Answer:
        """As stable answers ``data`` for its sender."""
        header, findings = inspect(data, self.stable.limits), Findings()
        source = self.stable.source(data, header, findings)
        return Answer(header, findings, await self.stable.engine.infer(self.stable.reference, source, soon()))

    def offer(self, data: bytes, answer: Answer, *, sample: float = 1.0, key: bytes = b"", **changes: Any) -> None:
        shadow = dataclasses.replace(self.shadow, **changes)
        self.queue.offer(shadow, sample, key, data, self.stable, answer)

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"mobilenet_shadow_{name}", {"model": "tiny", **labels}) or 0.0

    def images(self, outcome: str) -> float:
        return self.value("images_total", outcome=outcome)

    def agreement(self) -> tuple[float, float]:
        """Images on which the shadow agreed, and on which not."""
        yes, no = (self.value("top1_agreement_total", agree=word) for word in ("true", "false"))
        return yes, no

    def in_engine(self) -> float | None:
        """Images that wait for the shadow's runner."""
        self.metrics.sample()
        return self.metrics.registry.get_sample_value("mobilenet_queue_depth", {"model": "tiny", "version": SHADOW})

    async def compared(self, images: int) -> None:
        """Wait until so many are through, whatever became of them."""
        await eventually(lambda: sum(map(self.images, ("ok", "failed", "dropped"))) == images)


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    store = tmp_path_factory.mktemp("store")
    return {version: make_artifact(store, version=version, crop_size=32) for version in (STABLE, SHADOW)}


Load = Callable[..., AbstractAsyncContextManager[Loaded]]


@pytest.fixture
def load(artifacts: dict[str, Artifact]) -> Load:
    """Makes the two versions: stable on a runtime as usual, its shadow on ``runtime``, with these ``labels``."""

    @asynccontextmanager
    async def load(runtime: FakeRuntime | None = None, labels: tuple[str, ...] | None = None) -> AsyncIterator[Loaded]:
        metrics = Metrics()
        stable, shadow = artifacts[STABLE], artifacts[SHADOW]
        if labels is not None:
            shadow = dataclasses.replace(shadow, labels=labels)
        async with (
            started(FakeRuntime(), model=stable.reference, metrics=metrics) as its_engine,
            started(runtime or FakeRuntime(), model=shadow.reference, metrics=metrics) as engine,
        ):
            queue = ShadowQueue(metrics)
            yield Loaded(
                create_served(Settings(), stable, its_engine, 100_000, metrics),
                create_served(Settings(), shadow, engine, 100_000, metrics),
                queue,
                metrics,
            )
            queue.close()

    return load


def changed(**arrays: Callable[[BatchOutputs], NDArray[Any]]) -> FakeRuntime:
    """A runtime that answers otherwise than stable's, but not to the probe image."""

    def after(images: NDArray[np.uint8], outputs: BatchOutputs) -> BatchOutputs:
        return outputs._replace(**{name: change(outputs) for name, change in arrays.items()})

    return FakeRuntime(after=after)


# What is compared


async def test_a_copy_of_stable_agrees_on_every_image(load: Load) -> None:
    async with load() as loaded:
        for marker in range(1, 6):
            data = png(marker, 32)
            loaded.offer(data, await loaded.answer(data))
            await loaded.compared(marker)
        assert loaded.images("ok") == 5
        assert loaded.agreement() == (5, 0)
        assert loaded.value("embedding_cosine_count") == 5
        assert loaded.value("embedding_cosine_bucket", le="0.999") == 0
        assert loaded.value("infer_seconds_count") == 5


async def test_another_answer_and_another_vector_are_counted_as_such(load: Load) -> None:
    """Half of the vector's square is elsewhere: the cosine is 0.71."""

    def turned(outputs: BatchOutputs) -> NDArray[np.float32]:
        elsewhere = np.roll(outputs.embeddings, 8, axis=1)
        return outputs.embeddings + elsewhere

    async with load(changed(top=lambda outputs: np.roll(outputs.top, 1, axis=1), embeddings=turned)) as loaded:
        data = png(3, 32)
        loaded.offer(data, await loaded.answer(data))
        await loaded.compared(1)
        assert loaded.agreement() == (0, 1)
        assert loaded.value("embedding_cosine_bucket", le="0.5") == 0
        assert loaded.value("embedding_cosine_bucket", le="0.8") == 1


async def test_labels_are_compared_and_not_their_numbers(load: Load) -> None:
    """The shadow has the classes in another order, and moves its answers accordingly."""
    labels = tuple(f"class {(index + 1) % 10}" for index in range(10))
    async with load(changed(top=lambda outputs: (outputs.top - 1) % 10), labels=labels) as loaded:
        data = png(3, 32)
        loaded.offer(data, await loaded.answer(data))
        await loaded.compared(1)
        assert loaded.agreement() == (1, 0)


async def test_vectors_of_other_lengths_have_no_cosine(load: Load) -> None:
    async with load(changed(embeddings=lambda outputs: outputs.embeddings[:, :5].copy())) as loaded:
        data = png(3, 32)
        loaded.offer(data, await loaded.answer(data))
        await loaded.compared(1)
        assert (loaded.images("ok"), loaded.agreement()) == (1, (1, 0))
        assert loaded.value("embedding_cosine_count") == 0


# What it costs


async def test_a_shadow_waits_while_visitors_do(load: Load) -> None:
    """All on one runner. The shadow's image is there first."""
    gate, order = Gate(), list[int]()

    def before(images: NDArray[np.uint8]) -> None:
        order.extend(images[:, 0, 0, 0].tolist())
        gate(images)

    async with load(FakeRuntime(before=before, max_batch=1)) as loaded:
        order.clear()
        engine, reference = loaded.shadow.engine, loaded.shadow.reference

        def visit(marker: int) -> asyncio.Future[InferResult]:
            return asyncio.ensure_future(engine.infer(reference, image(marker, 32), soon()))

        answer = await loaded.answer(png(1, 32))
        visitors = [visit(11)]
        await gate.reached()
        loaded.offer(png(1, 32), answer)
        await eventually(lambda: loaded.in_engine() == 1)
        visitors += [visit(12), visit(13)]
        await eventually(lambda: loaded.in_engine() == 3)
        gate.open()
        await asyncio.gather(*visitors)
        await loaded.compared(1)
        assert order == [11, 12, 13, 1]


async def test_only_one_image_is_in_the_engine_at_a_time(load: Load) -> None:
    gate = Gate()
    async with load(FakeRuntime(before=gate)) as loaded:
        answer = await loaded.answer(png(1, 32))
        for _ in range(5):
            loaded.offer(png(1, 32), answer)
        await gate.reached()
        await asyncio.sleep(0)
        assert loaded.in_engine() == 0, "the first is on the runner, and none behind it"
        gate.open()
        await loaded.compared(5)
        assert loaded.images("ok") == 5


async def test_the_newest_is_dropped_when_too_many_wait(load: Load) -> None:
    answered = set[int]()

    def before(images: NDArray[np.uint8]) -> None:
        if not image_is_probe(images):
            answered.update(images[:, 0, 0, 0].tolist())

    async with load(FakeRuntime(before=before)) as loaded:
        answer = await loaded.answer(png(1, 32))
        for marker in range(IMAGES + 5):
            loaded.offer(png(marker, 32), answer)
        assert loaded.images("dropped") == 5
        await loaded.compared(IMAGES + 5)
        assert loaded.images("ok") == IMAGES
        assert answered == set(range(IMAGES))
        loaded.offer(png(1, 32), answer)
        await loaded.compared(IMAGES + 6)
        assert loaded.images("ok") == IMAGES + 1


async def test_large_photos_are_dropped_by_their_bytes(load: Load) -> None:
    async with load() as loaded:
        data = png(1, 32)
        answer = await loaded.answer(data)
        padded = data + bytes(BYTES // 4 - len(data))  # decoders do not mind
        for _ in range(6):
            loaded.offer(padded, answer)
        assert loaded.images("dropped") == 2
        await loaded.compared(6)
        for _ in range(4):
            loaded.offer(padded, answer)
        await loaded.compared(10)
        assert (loaded.images("ok"), loaded.images("dropped")) == (8, 2)


@pytest.mark.parametrize(("percent", "expected"), [(100, 1000), (10, 100)])
async def test_a_sample_is_by_key_and_of_the_canarys_keys_as_of_all(load: Load, percent: int, expected: int) -> None:
    async with load() as loaded:
        answer = await loaded.answer(png(1, 32))
        for key in (b"client %d" % number for number in range(10_000)):
            if in_canary("tiny", key, percent):
                loaded.offer(b"", answer, sample=0.1, key=key)
        loaded.queue.close()
        assert loaded.images("dropped") == pytest.approx(expected, abs=3 * expected**0.5)


# What goes wrong


async def test_a_shadow_s_failure_is_its_own(load: Load) -> None:
    def before(images: NDArray[np.uint8]) -> None:
        if images[0, 0, 0, 0] == 7:
            raise RuntimeError("this shadow cannot count to seven")

    async with load(FakeRuntime(before=before)) as loaded:
        for marker in (6, 7, 8):
            data = png(marker, 32)
            loaded.offer(data, await loaded.answer(data))
        await loaded.compared(3)
        assert (loaded.images("ok"), loaded.images("failed")) == (2, 1)
        assert loaded.agreement() == (2, 0)
        assert (await loaded.stable.engine.ready()).ok


async def test_a_bug_in_the_comparison_is_a_failure_and_logged(load: Load, caplog: pytest.LogCaptureFixture) -> None:
    async with load(labels=()) as loaded:
        data = png(3, 32)
        for _ in range(2):
            loaded.offer(data, await loaded.answer(data))
        await loaded.compared(2)
        assert loaded.images("failed") == 2
    assert [record.getMessage() for record in caplog.records] == ["a shadow could not be compared"] * 2


async def test_no_record_of_a_shadow_is_said_to_be_of_the_request(load: Load, caplog: pytest.LogCaptureFixture) -> None:
    def before(images: NDArray[np.uint8]) -> None:
        if not image_is_probe(images):
            raise RuntimeError("never")

    async with load(FakeRuntime(before=before)) as loaded:
        data = png(3, 32)
        answer = await loaded.answer(data)
        token = request_id.set("of the request")
        loaded.offer(data, answer)
        request_id.reset(token)
        await loaded.compared(1)
    (record,) = caplog.records
    assert (record.getMessage(), vars(record)["fields"]) == ("inference failed on one image", {"request_id": ""})


async def test_a_version_that_is_gone_is_no_failure(load: Load) -> None:
    async with load() as loaded:
        data = png(3, 32)
        answer = await loaded.answer(data)
        loaded.offer(data, answer, reference="tiny/9")
        await loaded.compared(1)
        await loaded.shadow.engine.aclose()
        loaded.offer(data, answer)
        await loaded.compared(2)
        assert loaded.images("dropped") == 2


# Changes and the end


async def test_what_waits_for_another_version_is_dropped_at_a_change(load: Load) -> None:
    gate = Gate()
    async with load(FakeRuntime(before=gate)) as loaded:
        data = png(3, 32)
        answer = await loaded.answer(data)
        for _ in range(3):
            loaded.offer(data, answer)
        await gate.reached()
        loaded.queue.offer(loaded.stable, 1.0, b"", data, loaded.stable, answer)  # it is the shadow now
        gate.open()
        await loaded.compared(4)
        assert (loaded.images("ok"), loaded.images("dropped")) == (2, 2)


async def test_a_drain_drops_what_waits_and_what_runs(load: Load) -> None:
    gate = Gate()
    async with load(FakeRuntime(before=gate)) as loaded:
        data = png(3, 32)
        answer = await loaded.answer(data)
        for _ in range(5):
            loaded.offer(data, answer)
        await gate.reached()
        loaded.queue.close()
        async with asyncio.timeout(5):  # not by the watchdog, after ten seconds
            await loaded.compared(5)
        assert loaded.images("dropped") == 5
        loaded.offer(data, answer)
        loaded.queue.close()
        await asyncio.sleep(0)
        gate.open()
    assert sum(map(loaded.images, ("ok", "failed", "dropped"))) == 5
