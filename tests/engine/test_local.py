"""What is particular to the in-process engine: start-up, warm-up, its metrics, and what its runners survive."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import NoReturn

import numpy as np
import pytest
from numpy.typing import NDArray

from service.engine import warmup
from service.engine.client import Decode
from service.engine.watchdog import Watchdog
from service.errors import DeadlineExceeded, DeviceLost, InferenceFailed, NotReady, OperatorError, ServiceError
from service.image import Pixels
from service.metrics import Metrics
from service.model.outputs import BatchOutputs
from service.model.runtime import Runtime
from tests.fakes import MODEL, FakeRuntime, engine_of, given, image, image_is_probe, marker_of, started
from tests.waiting import soon

pytestmark = pytest.mark.anyio


async def test_it_is_not_ready_before_the_model_is_loaded() -> None:
    loading = threading.Event()

    def wait(images: NDArray[np.uint8]) -> None:
        loading.wait(30)

    engine = engine_of(FakeRuntime(before=wait))
    start = asyncio.ensure_future(engine.start())
    await asyncio.sleep(0)
    assert (await engine.ready()).reason == "starting"
    with pytest.raises(NotReady):
        await engine.infer(MODEL, given(0), soon())
    loading.set()
    await start
    assert (await engine.ready()).ok
    await engine.aclose()


@pytest.mark.parametrize("failure", [OperatorError("no weights"), RuntimeError("driver says no")])
async def test_a_model_that_cannot_be_loaded_is_an_operators_error(failure: Exception) -> None:
    def create() -> Runtime:
        raise failure

    engine = engine_of(FakeRuntime(), create_runtime=create)
    with pytest.raises(OperatorError, match=r"no weights|could not be loaded"):
        await engine.start()
    assert not (await engine.ready()).ok
    await engine.aclose()


@pytest.mark.parametrize("value", [np.nan, 0.0])
async def test_a_model_that_answers_nonsense_to_the_probe_image_is_refused(value: float) -> None:
    def degenerate(images: NDArray[np.uint8], outputs: BatchOutputs) -> BatchOutputs:
        outputs.logits[:] = value
        return outputs

    engine = engine_of(FakeRuntime(after=degenerate))
    with pytest.raises(OperatorError, match=r"finite|same score"):
        await engine.start()
    await engine.aclose()


async def test_metrics_show_batches_and_an_empty_queue() -> None:
    metrics = Metrics()
    async with started(FakeRuntime(), metrics=metrics) as engine:
        await asyncio.gather(*(engine.infer(MODEL, given(marker), soon()) for marker in range(10)))
        text = metrics.render().decode()
        model = 'model="fake",version="1"'
        assert f"mobilenet_queue_depth{{{model}}} 0.0" in text
        assert f"mobilenet_batch_size_sum{{{model}}} 10.0" in text
        assert f'mobilenet_batch_cost_seconds{{batch_size="1",{model}}}' in text


@pytest.mark.parametrize(
    ("cost", "chosen"),
    [
        ({1: 4.2, 2: 8.3, 4: 16.0}, 1),  # a CPU: batches bring nothing
        ({1: 0.43, 2: 0.46, 4: 0.52, 8: 0.64, 16: 0.88, 32: 1.36, 64: 2.32}, 64),  # a GPU: still falling
        ({1: 1.0, 2: 1.2, 4: 2.0, 8: 4.0}, 4),
        ({1: 1.0}, 1),
    ],
)
def test_the_knee_of_a_cost_curve(cost: dict[int, float], chosen: int) -> None:
    assert warmup.knee(cost) == chosen


@pytest.mark.parametrize(
    ("call_s", "image_s", "max_batch", "cost", "knee"),
    [
        (0.0, 4.0, 8, {1: 4.0, 2: 8.0}, 1),  # ends where doubling no longer pays
        (0.4, 0.03, 50, {1: 0.43, 2: 0.46, 4: 0.52, 8: 0.64, 16: 0.88, 32: 1.36}, 32),  # a GPU: to the largest batch
    ],
)
def test_the_curve_goes_on_while_doubling_pays(
    monkeypatch: pytest.MonkeyPatch, call_s: float, image_s: float, max_batch: int, cost: dict[int, float], knee: int
) -> None:
    now = 0.0

    def spend(images: NDArray[np.uint8]) -> None:
        nonlocal now
        now += call_s + image_s * len(images)

    monkeypatch.setattr("time.perf_counter", lambda: now)
    measured = warmup.batch_cost(FakeRuntime(max_batch=max_batch, before=spend), image(0))
    assert measured == pytest.approx(cost)
    assert warmup.knee(measured) == knee


def test_the_probe_image_is_an_image() -> None:
    picture = warmup.probe_image(224)
    assert picture.shape == (224, 224, 3)
    assert picture.dtype == np.uint8
    assert picture.std() > 40
    np.testing.assert_array_equal(picture, warmup.probe_image(224))


async def test_a_lone_image_may_use_every_core() -> None:
    runtime = FakeRuntime()
    async with started(runtime, max_batch_size=1) as engine:
        runtime.alone.clear()
        await engine.infer(MODEL, given(0), soon())
        await asyncio.gather(*(engine.infer(MODEL, given(marker), soon()) for marker in range(8)))
    assert runtime.alone[0]
    assert not all(runtime.alone[1:])


@pytest.mark.parametrize(("decode_threads", "thread"), [(0, "runner-0"), (2, "decode_0")])
async def test_images_are_decoded_on_the_pool_or_on_the_runner(decode_threads: int, thread: str) -> None:
    names: list[str] = []

    def decode() -> Pixels:
        names.append(threading.current_thread().name)
        return image(0)

    async with started(FakeRuntime(), decode_threads=decode_threads) as engine:
        await engine.infer(MODEL, Decode(decode), soon())
    assert names == [thread]


async def test_an_image_that_expires_while_its_neighbour_is_decoded_is_not_decoded() -> None:
    deadline = time.monotonic() + 0.05
    decoded: list[str] = []

    def slow() -> Pixels:
        while time.monotonic() < deadline:
            pass
        decoded.append("slow")
        return image(1)

    def late() -> Pixels:
        decoded.append("late")
        return image(2)

    async with started(FakeRuntime(), max_queue_delay=1.0, max_batch_size=2) as engine:
        first, second = await asyncio.gather(
            engine.infer(MODEL, Decode(slow), soon()),
            engine.infer(MODEL, Decode(late), deadline),
            return_exceptions=True,
        )
    assert not isinstance(first, BaseException)
    assert isinstance(second, DeadlineExceeded)
    assert decoded == ["slow"]


# What a runner survives


async def test_no_memory_for_a_batch_is_answered_and_survived() -> None:
    def room_for_one(images: NDArray[np.uint8]) -> None:
        if len(images) > 1:
            raise MemoryError

    runtime = FakeRuntime(max_batch=4)
    async with started(runtime, max_queue_delay=1.0) as engine:
        runtime.before = room_for_one
        results = await asyncio.gather(*(engine.infer(MODEL, given(marker), soon()) for marker in range(4)))
        assert [marker_of(result.output.embedding) for result in results] == [0, 1, 2, 3]
        assert [result.batch_size for result in results] == [1, 1, 1, 1]


async def test_a_runtime_that_answers_too_few_images_fails_them_and_goes_on() -> None:
    def shorten(images: NDArray[np.uint8], outputs: BatchOutputs) -> BatchOutputs:
        if not image_is_probe(images) and (images[:, 0, 0, 0] == 9).any():
            return BatchOutputs(*(array[:-1] for array in outputs))  # type: ignore[arg-type]  # one row less each
        return outputs

    async with started(FakeRuntime(after=shorten)) as engine:
        with pytest.raises(InferenceFailed):
            await engine.infer(MODEL, given(9), soon())
        assert marker_of((await engine.infer(MODEL, given(1), soon())).output.embedding) == 1


async def test_a_fault_of_our_own_is_answered_and_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(self: Watchdog, inferred: bool) -> NoReturn:
        raise ZeroDivisionError

    async with started(FakeRuntime()) as engine:
        with monkeypatch.context() as patch:
            patch.setattr(Watchdog, "report", wrong)
            with pytest.raises(ServiceError, match="the service failed"):
                await engine.infer(MODEL, given(1), soon())
        assert marker_of((await engine.infer(MODEL, given(1), soon())).output.embedding) == 1


async def test_two_runners_run_at_the_same_time_and_report_the_loss_of_the_device_once() -> None:
    together = threading.Barrier(2)

    def lose(images: NDArray[np.uint8]) -> None:
        if not image_is_probe(images):
            together.wait(30)
            raise DeviceLost("gone")

    reasons: list[str] = []
    async with started(FakeRuntime(max_batch=1, before=lose), runners=2, on_fatal=reasons.append) as engine:
        ends = await asyncio.gather(*(engine.infer(MODEL, given(m), soon()) for m in (1, 2)), return_exceptions=True)
        assert {type(end) for end in ends} <= {InferenceFailed, NotReady}
    assert reasons == ["gone"]
    assert engine.state == "lost"
