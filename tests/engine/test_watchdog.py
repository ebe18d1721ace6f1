"""When is a thread late, when is the engine failing, and when is either final? Alone, then in the engine."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import NoReturn

import numpy as np
import pytest
from numpy.typing import NDArray

from service.engine import watchdog
from service.engine.protocols import Classes, Images
from service.engine.watchdog import DECODE_FLOOR_S, DECODE_PIXEL_S, FAILED_AFTER, HUNG_AFTER, INFER_FLOOR_S, Watchdog
from service.errors import InferenceFailed, NotReady, ServiceError
from service.postprocess import BatchOutputs
from service.preprocess import Prepared
from tests.engine.test_local import engine_of, soon
from tests.fakes import FakeRuntime, given, marker_of
from tests.test_batcher import Clock
from tests.waiting import eventually


class Scene:
    """A watchdog and its clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.watchdog = Watchdog(self.clock)

    def late_after(self) -> float:
        """Seconds until the calling thread's step is late."""
        began = self.clock.now
        while self.watchdog.health != "late":
            self.clock.now += 0.01
        self.watchdog.idle()
        return self.clock.now - began


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_forward_pass_is_late_after_twice_its_usual_time(scene: Scene) -> None:
    scene.watchdog.measured(3.0)
    scene.watchdog.inferring(4)
    assert scene.late_after() == pytest.approx(2 * 4 * 3.0, abs=0.02)
    assert scene.watchdog.health == "ready"


def test_what_is_usual_follows_what_is_observed(scene: Scene) -> None:
    scene.watchdog.measured(3.0)
    for _ in range(200):
        scene.watchdog.inferred(2, 10.0)
    scene.watchdog.inferring(1)
    assert scene.late_after() == pytest.approx(2 * 5.0, rel=0.01)


def test_milliseconds_have_a_floor(scene: Scene) -> None:
    scene.watchdog.measured(0.004)
    scene.watchdog.inferring(1)
    assert scene.late_after() == pytest.approx(INFER_FLOOR_S, abs=0.02)


def test_a_decode_may_take_long_for_a_large_image(scene: Scene) -> None:
    scene.watchdog.decoding(50_000_000)
    assert scene.late_after() == pytest.approx(DECODE_FLOOR_S + 50_000_000 * DECODE_PIXEL_S, abs=0.02)


def test_a_decode_of_unknown_size_is_not_watched(scene: Scene) -> None:
    scene.watchdog.decoding(None)
    scene.clock.now += 1e6
    assert scene.watchdog.health == "ready"


def test_a_step_that_stays_late_is_a_hang(scene: Scene) -> None:
    scene.watchdog.inferring(1)
    scene.clock.now += INFER_FLOOR_S + 0.1
    assert [scene.watchdog.tick() for _ in range(HUNG_AFTER)] == [None] * HUNG_AFTER
    verdict = scene.watchdog.tick()
    assert verdict is not None
    assert verdict.end == "hung"
    assert verdict.reason.startswith("MainThread does not come back from watchdog.py:")


def test_steps_that_are_each_a_little_late_are_none(scene: Scene) -> None:
    for _ in range(5 * HUNG_AFTER):
        scene.watchdog.inferring(1)
        scene.clock.now += INFER_FLOOR_S + 0.1
        assert scene.watchdog.health == "late"
        assert scene.watchdog.tick() is None


def test_a_process_that_was_stopped_is_not_blamed(scene: Scene) -> None:
    """SIGSTOP, a debugger, a suspended machine: time passed, but nobody could work in it."""
    scene.watchdog.inferring(1)
    scene.clock.now += 3600
    assert scene.watchdog.tick() is None
    scene.watchdog.idle()
    assert scene.watchdog.health == "ready"
    assert scene.watchdog.tick() is None


def test_a_thread_that_died_at_work_is_late(scene: Scene) -> None:
    thread = threading.Thread(target=scene.watchdog.inferring, args=(1,))
    thread.start()
    thread.join()
    scene.clock.now += INFER_FLOOR_S + 0.1
    assert scene.watchdog.health == "late"
    verdicts = [scene.watchdog.tick() for _ in range(HUNG_AFTER + 1)]
    assert verdicts[-1] is not None
    assert verdicts[-1].reason == "a thread that has ended does not come back from its end"


def test_failures_without_a_success_are_final(scene: Scene) -> None:
    for _ in range(FAILED_AFTER):
        scene.watchdog.report(False)
        assert scene.watchdog.health == "failing"
        assert scene.watchdog.tick() is None
    scene.watchdog.report(False)
    verdict = scene.watchdog.tick()
    assert verdict is not None
    assert verdict.end == "failed"


def test_a_success_starts_the_count_again(scene: Scene) -> None:
    for _ in range(3):
        for _ in range(FAILED_AFTER):
            scene.watchdog.report(False)
            assert scene.watchdog.tick() is None
        scene.watchdog.report(True)
        assert scene.watchdog.health == "ready"


def test_one_failure_and_silence_are_no_evidence(scene: Scene) -> None:
    scene.watchdog.report(False)
    assert [scene.watchdog.tick() for _ in range(3 * FAILED_AFTER)] == [None] * 3 * FAILED_AFTER


# In the engine

QUICK_FLOOR_S = 0.1


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "TICK_S", 0.01)
    monkeypatch.setattr(watchdog, "INFER_FLOOR_S", QUICK_FLOOR_S)
    monkeypatch.setattr(watchdog, "DECODE_FLOOR_S", QUICK_FLOOR_S)


class Stuck:
    """Holds the image with this marker until released."""

    def __init__(self, marker: int) -> None:
        self._marker = marker
        self.entered = threading.Event()
        self.release = threading.Event()

    def __call__(self, images: NDArray[np.uint8]) -> None:
        if images[0, 0, 0, 2] == 1 and images[0, 0, 0, 0] == self._marker:
            self.entered.set()
            self.release.wait(60)


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    made = Stuck(7)
    yield made
    made.release.set()


@pytest.mark.anyio
async def test_readiness_goes_while_a_runner_is_late_and_comes_back_with_it(quick: None, stuck: Stuck) -> None:
    runtime = FakeRuntime(max_batch=1, before=stuck)
    engine = engine_of(runtime, max_batch_size=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watchdog, "HUNG_AFTER", 10_000)
        await engine.start()
        call = asyncio.ensure_future(engine.infer(given(7), soon()))
        assert await asyncio.to_thread(stuck.entered.wait, 30)
        await eventually(lambda: engine.state == "late")
        state = await engine.ready()
        assert (state.ok, state.reason) == (False, "late")
        stuck.release.set()
        assert marker_of((await call).output.embedding) == 7
        await eventually(lambda: engine.state == "ready")
    await engine.aclose()


@pytest.mark.anyio
@pytest.mark.parametrize("decode_threads", [0, 1])
async def test_a_hang_answers_everyone_and_ends_the_engine(quick: None, stuck: Stuck, decode_threads: int) -> None:
    reasons: list[str] = []
    engine = engine_of(
        FakeRuntime(max_batch=1, before=stuck),
        max_batch_size=1,
        decode_threads=decode_threads,
        on_lost=reasons.append,
    )
    await engine.start()
    calls = [asyncio.ensure_future(engine.infer(given(marker), soon())) for marker in (7, 1, 2)]
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(end) for end in ends] == [NotReady] * 3
    assert engine.state == "hung"
    assert len(reasons) == 1
    assert reasons[0].startswith("runner-0 does not come back from threading.py:")
    with pytest.raises(NotReady):
        await engine.infer(given(1), soon())
    async with asyncio.timeout(10):
        await engine.aclose()


@pytest.mark.anyio
async def test_while_one_runner_hangs_another_goes_on(quick: None, stuck: Stuck) -> None:
    engine = engine_of(FakeRuntime(max_batch=1, before=stuck), max_batch_size=1, runners=2)
    await engine.start()
    call = asyncio.ensure_future(engine.infer(given(7), soon()))
    assert await asyncio.to_thread(stuck.entered.wait, 30)
    async with asyncio.timeout(30):
        while engine.state != "hung":
            try:
                assert marker_of((await engine.infer(given(1), soon())).output.embedding) == 1
            except NotReady:
                break
    assert engine.state == "hung"
    with pytest.raises(NotReady):
        await call
    await engine.aclose()


@pytest.mark.anyio
@pytest.mark.parametrize("decode_threads", [0, 1])
async def test_a_decode_that_does_not_end_is_a_hang(quick: None, decode_threads: int) -> None:
    release = threading.Event()
    reasons: list[str] = []

    def endless() -> Prepared:
        release.wait(60)
        return given(1)()

    engine = engine_of(FakeRuntime(), decode_threads=decode_threads, on_lost=reasons.append)
    await engine.start()
    try:
        with pytest.raises(NotReady):
            await engine.infer(endless, soon(), 10_000)
    finally:
        release.set()
    assert reasons[0].startswith(("runner-0 does", "decode_0 does"))
    await engine.aclose()


@pytest.mark.anyio
async def test_a_large_image_may_take_its_time_to_decode(quick: None) -> None:
    def slow() -> Prepared:
        time.sleep(3 * QUICK_FLOOR_S)
        return given(1)()

    engine = engine_of(FakeRuntime())
    await engine.start()
    call = asyncio.ensure_future(engine.infer(slow, soon(), 50_000_000))
    while not call.done():
        assert engine.state == "ready"
        await asyncio.sleep(0.005)
    await call
    await engine.aclose()


@pytest.mark.anyio
async def test_a_slow_device_is_not_late(quick: None) -> None:
    """Twice the floor a batch, ever since warm-up."""

    def slow(images: NDArray[np.uint8]) -> None:
        time.sleep(2 * QUICK_FLOOR_S)

    engine = engine_of(FakeRuntime(max_batch=1, before=slow), max_batch_size=1)
    await engine.start()
    call = asyncio.ensure_future(engine.infer(given(1), soon()))
    while not call.done():
        assert engine.state == "ready"
        await asyncio.sleep(0.005)
    await call
    await engine.aclose()


@pytest.mark.anyio
async def test_what_is_usual_is_learnt_from_every_batch() -> None:
    runtime = FakeRuntime()
    engine = engine_of(runtime)
    await engine.start()
    assert engine._watchdog._image_s < 0.001
    runtime.before = lambda images: time.sleep(0.002)
    for _ in range(20):
        await engine.infer(given(1), soon())
    assert engine._watchdog._image_s > 0.001
    await engine.aclose()


@pytest.mark.anyio
@pytest.mark.parametrize("decode_threads", [0, 1])
async def test_an_idle_thread_is_never_late(quick: None, decode_threads: int) -> None:
    engine = engine_of(FakeRuntime(), decode_threads=decode_threads)
    await engine.start()
    await engine.infer(given(1), soon(), 0)
    long_after = time.monotonic() + 2 * QUICK_FLOOR_S
    await eventually(lambda: time.monotonic() > long_after)
    assert engine.state == "ready"
    await engine.aclose()


@pytest.mark.anyio
async def test_a_model_that_fails_for_good_ends_the_engine_without_any_probe(quick: None) -> None:
    def broken(images: NDArray[np.uint8]) -> NoReturn:
        raise RuntimeError("broken")

    reasons: list[str] = []
    runtime = FakeRuntime()
    engine = engine_of(runtime, on_lost=reasons.append)
    await engine.start()
    runtime.before = broken
    with pytest.raises(InferenceFailed):
        await engine.infer(given(1), soon())
    assert engine.state == "failing"
    await eventually(lambda: engine.state == "failed")
    assert reasons == ["the model fails on every image, the canary included; see the log"]
    with pytest.raises(NotReady):
        await engine.infer(given(1), soon())
    await engine.aclose()
    assert runtime.closed


@pytest.mark.anyio
async def test_a_passing_failure_heals_without_traffic_and_probes(quick: None) -> None:
    def raises(images: NDArray[np.uint8]) -> None:
        if images[0, 0, 0, 2] == 1:
            raise RuntimeError("this image, not the canary")

    engine = engine_of(FakeRuntime(before=raises))
    await engine.start()
    with pytest.raises(InferenceFailed):
        await engine.infer(given(1), soon())
    await eventually(lambda: engine.state == "ready")
    await engine.aclose()


# What a runner survives


@pytest.mark.anyio
async def test_no_memory_for_a_batch_is_answered_and_survived() -> None:
    def room_for_one(images: NDArray[np.uint8]) -> None:
        if len(images) > 1:
            raise MemoryError

    runtime = FakeRuntime(max_batch=4)
    engine = engine_of(runtime, max_queue_delay=1.0)
    await engine.start()
    runtime.before = room_for_one
    results = await asyncio.gather(*(engine.infer(given(marker), soon()) for marker in range(4)))
    assert [marker_of(result.output.embedding) for result in results] == [0, 1, 2, 3]
    assert [result.batch_size for result in results] == [1, 1, 1, 1]
    await engine.aclose()


@pytest.mark.anyio
async def test_no_memory_to_decode_or_to_infer_fails_that_image_alone() -> None:
    def before(images: NDArray[np.uint8]) -> None:
        if (images[:, 0, 0, 0] == 9).any():
            raise MemoryError

    def no_memory() -> Prepared:
        raise MemoryError

    engine = engine_of(FakeRuntime(max_batch=4, before=before), max_queue_delay=1.0)
    await engine.start()
    ends = await asyncio.gather(
        *(engine.infer(prepare, soon()) for prepare in (given(1), no_memory, given(9), given(2))),
        return_exceptions=True,
    )
    assert [type(end).__name__ for end in ends] == ["InferResult", "ServiceError", "InferenceFailed", "InferResult"]
    assert engine.state == "ready"
    await engine.aclose()


@pytest.mark.anyio
async def test_a_runtime_that_answers_too_few_images_fails_them_and_goes_on() -> None:
    class Short(FakeRuntime):
        def run(self, images: Images, *, classes: Classes = None, alone: bool = False) -> BatchOutputs:
            outputs = super().run(images, classes=classes)
            first = [image[0, 0] for image in images]
            if all(pixel[2] == 1 for pixel in first) and any(pixel[0] == 9 for pixel in first):
                return BatchOutputs(*(array[:-1] for array in outputs))  # type: ignore[arg-type]  # one row less each
            return outputs

    engine = engine_of(Short())
    await engine.start()
    with pytest.raises(InferenceFailed):
        await engine.infer(given(9), soon())
    assert marker_of((await engine.infer(given(1), soon())).output.embedding) == 1
    await engine.aclose()


@pytest.mark.anyio
async def test_a_fault_of_our_own_is_answered_and_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(self: Watchdog, inferred: bool) -> NoReturn:
        raise ZeroDivisionError

    engine = engine_of(FakeRuntime())
    await engine.start()
    with monkeypatch.context() as patch:
        patch.setattr(Watchdog, "report", wrong)
        with pytest.raises(ServiceError, match="the service failed"):
            await engine.infer(given(1), soon())
    assert marker_of((await engine.infer(given(1), soon())).output.embedding) == 1
    await engine.aclose()


@pytest.mark.anyio
async def test_two_runners_that_lose_the_device_together_report_it_once() -> None:
    from service.errors import DeviceLost

    together = threading.Barrier(2)

    def lose(images: NDArray[np.uint8]) -> None:
        if images[0, 0, 0, 2] == 1:
            together.wait(30)
            raise DeviceLost("gone")

    reasons: list[str] = []
    engine = engine_of(FakeRuntime(max_batch=1, before=lose), max_batch_size=1, runners=2, on_lost=reasons.append)
    await engine.start()
    ends = await asyncio.gather(*(engine.infer(given(m), soon()) for m in (1, 2)), return_exceptions=True)
    assert {type(end) for end in ends} <= {InferenceFailed, NotReady}
    await engine.aclose()
    assert reasons == ["gone"]
    assert engine.state == "lost"
