"""What an engine's watchdog sees of it, and what becomes of the calls: lateness, hangs, failures for good."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import NoReturn

import numpy as np
import pytest
from numpy.typing import NDArray

from service.engine.client import Decode, Source
from service.errors import InferenceFailed, NotReady
from service.image import Pixels
from tests.fakes import MODEL, Endless, FakeRuntime, Gate, endless, given, image, image_is_probe, marker_of, started
from tests.waiting import QUICK_FLOOR_S, eventually, quick, soon

pytestmark = pytest.mark.anyio

__all__ = ["endless", "quick"]


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.open()


@pytest.mark.parametrize("decode_threads", [0, 1])
async def test_a_hang_answers_everyone_and_ends_the_engine(quick: None, gate: Gate, decode_threads: int) -> None:
    reasons: list[str] = []
    runtime = FakeRuntime(max_batch=1, before=gate)
    async with started(runtime, decode_threads=decode_threads, on_fatal=reasons.append) as engine:
        calls = [asyncio.ensure_future(engine.infer(MODEL, given(marker), soon())) for marker in (7, 1, 2)]
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(end) for end in ends] == [NotReady] * 3
        assert engine.state == "hung"
        assert len(reasons) == 1
        assert reasons[0].startswith("runner-0 does not come back from threading.py:")
        with pytest.raises(NotReady):
            await engine.infer(MODEL, given(1), soon())
        async with asyncio.timeout(10):
            await engine.aclose()


async def test_while_one_runner_hangs_another_goes_on(quick: None, gate: Gate) -> None:
    def hold_seven(images: NDArray[np.uint8]) -> None:
        if images[0, 0, 0, 0] == 7:
            gate(images)

    async with started(FakeRuntime(max_batch=1, before=hold_seven), runners=2) as engine:
        call = asyncio.ensure_future(engine.infer(MODEL, given(7), soon()))
        await gate.reached()
        async with asyncio.timeout(30):
            while engine.state != "hung":
                try:
                    assert marker_of((await engine.infer(MODEL, given(1), soon())).output.embedding) == 1
                except NotReady:
                    break
        assert engine.state == "hung"
        with pytest.raises(NotReady):
            await call


@pytest.mark.parametrize("decode_threads", [0, 1])
async def test_a_decode_that_does_not_end_is_a_hang(quick: None, endless: Endless, decode_threads: int) -> None:
    reasons: list[str] = []
    async with started(FakeRuntime(), decode_threads=decode_threads, on_fatal=reasons.append) as engine:
        with pytest.raises(NotReady):
            await engine.infer(MODEL, Decode(endless, 10_000), soon())
        assert reasons[0].startswith(("runner-0 does", "decode_0 does"))


def slow_decode() -> Pixels:
    time.sleep(3 * QUICK_FLOOR_S)
    return image(1)


@pytest.mark.parametrize(
    ("source", "batch_s"),
    [(Decode(slow_decode, 50_000_000), 0.0), (given(1), 2 * QUICK_FLOOR_S)],
    ids=["a large image may take its time to decode", "a device that has been slow ever since warm-up"],
)
async def test_what_may_take_long_is_not_late(quick: None, source: Source, batch_s: float) -> None:
    async with started(FakeRuntime(max_batch=1, before=lambda images: time.sleep(batch_s))) as engine:
        call = asyncio.ensure_future(engine.infer(MODEL, source, soon()))
        while not call.done():
            assert engine.state == "ready"
            await asyncio.sleep(0.005)
        await call


async def test_what_is_usual_is_learnt_from_every_batch() -> None:
    runtime = FakeRuntime()
    async with started(runtime) as engine:
        assert engine._watchdog._image_s[MODEL] < 0.001
        runtime.before = lambda images: time.sleep(0.002)
        for _ in range(20):
            await engine.infer(MODEL, given(1), soon())
        assert engine._watchdog._image_s[MODEL] > 0.001


@pytest.mark.parametrize("decode_threads", [0, 1])
async def test_an_idle_thread_is_never_late(quick: None, decode_threads: int) -> None:
    async with started(FakeRuntime(), decode_threads=decode_threads) as engine:
        await engine.infer(MODEL, Decode(lambda: image(1), 0), soon())
        long_after = time.monotonic() + 2 * QUICK_FLOOR_S
        await eventually(lambda: time.monotonic() > long_after)
        assert engine.state == "ready"


async def test_a_model_that_fails_for_good_ends_the_engine_without_any_probe(quick: None) -> None:
    def broken(images: NDArray[np.uint8]) -> NoReturn:
        raise RuntimeError("broken")

    reasons: list[str] = []
    runtime = FakeRuntime()
    async with started(runtime, on_fatal=reasons.append) as engine:
        runtime.before = broken
        with pytest.raises(InferenceFailed):
            await engine.infer(MODEL, given(1), soon())
        assert engine.state == "failing"
        await eventually(lambda: engine.state == "failed")
        assert reasons == ["the model fails on every image, the probe image included; see the log"]
        with pytest.raises(NotReady):
            await engine.infer(MODEL, given(1), soon())
    assert runtime.closed


async def test_a_passing_failure_heals_without_traffic_and_probes(quick: None) -> None:
    def raises(images: NDArray[np.uint8]) -> None:
        if not image_is_probe(images):
            raise RuntimeError("this image, not the probe image")

    async with started(FakeRuntime(before=raises)) as engine:
        with pytest.raises(InferenceFailed):
            await engine.infer(MODEL, given(1), soon())
        await eventually(lambda: engine.state == "ready")
