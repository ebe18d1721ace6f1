"""Calls on the runners' own threads."""

from __future__ import annotations

import asyncio
import threading
import time

import numpy as np
import pytest
from numpy.typing import NDArray

from service.engine.decoders import RunnerExecutor
from service.errors import DeviceLost, Draining, InferenceFailed, NotReady
from tests.engine.test_local import engine_of
from tests.fakes import FakeRuntime, image

pytestmark = pytest.mark.anyio


def soon() -> float:
    return time.monotonic() + 30


async def test_a_call_runs_on_a_runner_and_returns_its_value() -> None:
    engine = engine_of(FakeRuntime())
    await engine.start()
    name = await asyncio.wrap_future(engine.decoders.submit(lambda: threading.current_thread().name))
    assert name == "runner-0"
    await engine.aclose()


async def test_an_exception_is_the_calls_own_and_the_runner_lives() -> None:
    engine = engine_of(FakeRuntime())
    await engine.start()

    def broken() -> None:
        raise ValueError("bad pixels")

    with pytest.raises(ValueError, match="bad pixels"):
        await asyncio.wrap_future(engine.decoders.submit(broken))
    assert (await engine.infer(image(3), soon())).output.logits.argmax() == 3
    await engine.aclose()


async def test_a_cancelled_call_is_not_made() -> None:
    entered, go_on = threading.Event(), threading.Event()
    calls: list[int] = []

    def occupy() -> None:
        entered.set()
        go_on.wait(30)

    engine = engine_of(FakeRuntime())
    await engine.start()
    first = engine.decoders.submit(occupy)
    assert await asyncio.to_thread(entered.wait, 30)
    second = engine.decoders.submit(calls.append, 2)
    third = engine.decoders.submit(calls.append, 3)
    assert second.cancel()
    go_on.set()
    await asyncio.wrap_future(first)
    await asyncio.wrap_future(third)
    assert calls == [3]
    await engine.aclose()


async def test_it_refuses_before_the_start_and_after_the_end() -> None:
    engine = engine_of(FakeRuntime())
    with pytest.raises(NotReady):
        engine.decoders.submit(lambda: None)
    await engine.start()
    await engine.aclose()
    with pytest.raises(Draining):
        engine.decoders.submit(lambda: None)


async def test_a_lost_device_fails_the_calls_that_wait() -> None:
    entered, go_on = threading.Event(), threading.Event()

    def before(images: NDArray[np.uint8]) -> None:
        if images[0, 0, 0, 2] == 1:
            entered.set()
            go_on.wait(30)
            raise DeviceLost("gone")

    engine = engine_of(FakeRuntime(before=before))
    await engine.start()
    running = asyncio.ensure_future(engine.infer(image(0), soon()))
    assert await asyncio.to_thread(entered.wait, 30)
    waiting = engine.decoders.submit(lambda: None)
    go_on.set()
    with pytest.raises(InferenceFailed):
        await running
    with pytest.raises(NotReady):
        await asyncio.wrap_future(waiting)
    await engine.aclose()


async def test_a_lone_image_may_use_every_core() -> None:
    runtime = FakeRuntime()
    engine = engine_of(runtime)
    await engine.start()
    runtime.alone.clear()
    await engine.infer(image(0), soon())
    await asyncio.gather(*(engine.infer(image(marker), soon()) for marker in range(8)))
    assert runtime.alone[0]
    assert not all(runtime.alone[1:])
    await engine.aclose()


def test_shutdown_is_not_its_business() -> None:
    with RunnerExecutor(lambda job: job()) as executor:
        assert executor.submit(lambda: 42).result() == 42
