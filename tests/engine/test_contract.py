"""What every ``EngineClient`` promises: each of ``IMPLEMENTATIONS`` passes all of it."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from service.engine import watchdog
from service.engine.client import Decode, EngineClient, InferResult, Priority
from service.errors import DeadlineExceeded, DeviceLost, Draining, InferenceFailed, NotReady, UnknownModel
from service.model.outputs import BatchOutputs
from tests.engine.remote import connected
from tests.fakes import (
    MODEL,
    Endless,
    FakeRuntime,
    Gate,
    endless,
    given,
    image,
    image_is_probe,
    marker_of,
    queue_depth,
    started,
)
from tests.waiting import eventually, quick, soon, until_ready

pytestmark = pytest.mark.anyio

__all__ = ["endless", "quick"]

Images = NDArray[np.uint8]

BAD = 66

#: Opens an engine over a runtime. A new implementation is added here.
OpenClient = Callable[[FakeRuntime], AbstractAsyncContextManager[EngineClient]]
IMPLEMENTATIONS: dict[str, OpenClient] = {
    "remote": partial(connected, decode_threads=1),  # over the real wire: sockets and shared memory
    "local, runners decode": started,
    "local, a pool decodes": partial(started, decode_threads=1),
}


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """On asyncio's own event loop as well: nothing that an engine promises may depend on the order of uvloop."""
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@pytest.fixture(params=IMPLEMENTATIONS)
def open_client(request: pytest.FixtureRequest) -> OpenClient:
    """Ready; what warm-up ran is forgotten."""

    @asynccontextmanager
    async def opened(runtime: FakeRuntime) -> AsyncIterator[EngineClient]:
        async with IMPLEMENTATIONS[request.param](runtime) as client:
            runtime.batches.clear()
            yield client

    return opened


async def queued(runtime: FakeRuntime, count: int) -> None:
    """Until so many images wait behind the batch that runs."""
    await eventually(lambda: queue_depth(runtime.metrics) == count)


@asynccontextmanager
async def running(client: EngineClient, runtime: FakeRuntime) -> AsyncIterator[asyncio.Future[InferResult]]:
    """Image 0 runs until the end of the block: what is sent meanwhile waits in the queue."""
    gate, before = Gate(), runtime.before

    def gated(images: Images) -> None:
        gate(images)
        before(images)

    runtime.before = gated
    first = asyncio.ensure_future(client.infer(MODEL, given(0), soon()))
    await gate.reached()
    try:
        yield first
    finally:
        gate.open()
    await asyncio.wait([first])


async def test_each_caller_gets_the_answer_to_its_own_image(open_client: OpenClient) -> None:
    async with open_client(FakeRuntime()) as client:
        results = await asyncio.gather(*(client.infer(MODEL, given(marker), soon()) for marker in range(1000)))
    assert [marker_of(result.output.embedding) for result in results] == list(range(1000))
    assert all(int(result.output.logits.argmax()) == marker % 256 % 10 for marker, result in enumerate(results))


async def test_each_caller_gets_the_maps_it_asks_for(open_client: OpenClient) -> None:
    """Also from a slot and in a batch where others asked for something else, or for nothing."""
    runtime = FakeRuntime()
    wishes = [(), (9,), (3, 1), (), (4, 8, 0, 2, 7), (5,), ()]
    async with open_client(runtime) as client:
        for _ in range(2):
            async with running(client, runtime):
                calls = [asyncio.ensure_future(client.infer(MODEL, given(6), soon(), wish)) for wish in wishes]
                await queued(runtime, len(calls))
            for wish, result in zip(wishes, await asyncio.gather(*calls), strict=True):
                expected = [*wish, *result.output.top.tolist()[len(wish) :]]
                assert result.output.maps[:, 0, 0].tolist() == expected


async def test_the_bytes_of_an_image_that_nobody_waits_for_are_let_go_at_once(open_client: OpenClient) -> None:
    """The item may still stand in a queue, or be the last that a runner had."""

    class Body:
        pass

    gate = Gate()
    async with open_client(FakeRuntime(before=gate)) as client:
        bodies = [Body(), Body()]
        left = [weakref.ref(body) for body in bodies]

        def holding(body: Body) -> Decode:
            return Decode(lambda: image(1) if body else image(2))

        first = asyncio.ensure_future(client.infer(MODEL, holding(bodies[0]), soon()))
        await gate.reached()
        second = asyncio.ensure_future(client.infer(MODEL, holding(bodies[1]), soon()))
        await asyncio.sleep(0.05)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        bodies.pop()
        del second
        await eventually(lambda: left[1]() is None)
        gate.open()
        await first
        bodies.clear()
        del first
        await eventually(lambda: left[0]() is None)


async def test_images_that_queue_behind_a_running_batch_leave_together(open_client: OpenClient) -> None:
    runtime = FakeRuntime(max_batch=4)
    async with open_client(runtime) as client:
        async with running(client, runtime) as first:
            others = [asyncio.ensure_future(client.infer(MODEL, given(marker), soon())) for marker in range(1, 7)]
            await queued(runtime, len(others))
        results = await asyncio.gather(first, *others)
    assert runtime.batches == [1, 4, 2]
    assert [result.batch_size for result in results] == [1, 4, 4, 4, 4, 2, 2]
    assert results[1].queue_s > 0


async def test_a_bad_image_fails_alone(open_client: OpenClient) -> None:
    def fail_on_bad(images: Images) -> None:
        if (images[:, 0, 0, 0] == BAD).any():
            raise RuntimeError("bad image in the batch")

    runtime = FakeRuntime(before=fail_on_bad)
    async with open_client(runtime) as client:
        async with running(client, runtime) as first:
            markers = [1, 2, BAD, 4, 5, 6, 7]
            others = [asyncio.ensure_future(client.infer(MODEL, given(marker), soon())) for marker in markers]
            await queued(runtime, len(others))
        results = await asyncio.gather(first, *others, return_exceptions=True)
        assert (await client.ready()).ok
    for marker, result in zip([0, *markers], results, strict=True):
        if marker == BAD:
            assert isinstance(result, InferenceFailed)
        else:
            assert not isinstance(result, BaseException)
            assert marker_of(result.output.embedding) == marker


async def test_an_answer_that_is_not_finite_is_a_failure(open_client: OpenClient) -> None:
    def overflow(images: Images, outputs: BatchOutputs) -> BatchOutputs:
        outputs.logits[images[:, 0, 0, 0] == BAD] = np.nan
        return outputs

    async with open_client(FakeRuntime(after=overflow)) as client:
        with pytest.raises(InferenceFailed):
            await client.infer(MODEL, given(BAD), soon())
        assert marker_of((await client.infer(MODEL, given(1), soon())).output.embedding) == 1


async def test_a_deadline_passes_in_the_queue(open_client: OpenClient) -> None:
    runtime = FakeRuntime()
    async with open_client(runtime) as client:
        async with running(client, runtime):
            deadline = soon(0.01)
            with pytest.raises(DeadlineExceeded):
                await client.infer(MODEL, given(1), deadline)
            await eventually(lambda: time.monotonic() > deadline)  # uvloop's timers may be some milliseconds early
        await client.infer(MODEL, given(2), soon())
    assert runtime.batches == [1, 1], "the expired image must not have been inferred"


async def test_a_deadline_in_the_past_is_refused(open_client: OpenClient) -> None:
    async with open_client(FakeRuntime()) as client:
        with pytest.raises(DeadlineExceeded):
            await client.infer(MODEL, given(0), soon(-1))


async def test_a_cancelled_call_leaves_the_queue(open_client: OpenClient) -> None:
    runtime = FakeRuntime()
    async with open_client(runtime) as client:
        async with running(client, runtime):
            cancelled = asyncio.ensure_future(client.infer(MODEL, given(1), soon()))
            await queued(runtime, 1)
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            await client.ready()  # what was said before this has arrived
        await client.infer(MODEL, given(2), soon())
    assert runtime.batches == [1, 1], "the cancelled image must not have been inferred"


async def test_readiness_goes_with_a_failed_batch_and_returns_by_the_probe_image(open_client: OpenClient) -> None:
    def broken(images: Images) -> None:
        raise RuntimeError("the device is having a moment")

    runtime = FakeRuntime()
    async with open_client(runtime) as client:
        assert (await client.ready()).ok
        working, runtime.before = runtime.before, broken
        with pytest.raises(InferenceFailed):
            await client.infer(MODEL, given(0), soon())
        state = await client.ready()
        assert (state.ok, state.reason) == (False, "failing")
        runtime.before = working
        assert (await client.ready()).ok
        await client.infer(MODEL, given(1), soon())


async def test_readiness_goes_while_a_decoder_is_late_and_comes_back_with_it(
    open_client: OpenClient, quick: None, endless: Endless, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "HUNG_AFTER", 10_000)
    async with open_client(FakeRuntime()) as client:
        call = asyncio.ensure_future(client.infer(MODEL, Decode(endless, 10_000), soon()))
        while (await client.ready()).ok:  # noqa: ASYNC110  # by a tick
            await asyncio.sleep(0.005)
        state = await client.ready()
        assert (state.ok, state.reason) == (False, "late")
        assert state.info is not None
        endless.release.set()
        assert marker_of((await call).output.embedding) == 7
        await until_ready(client)


async def test_close_finishes_what_was_taken_and_refuses_the_rest(open_client: OpenClient) -> None:
    runtime = FakeRuntime(max_batch=1)
    async with open_client(runtime) as client:
        async with running(client, runtime) as first:
            others = [asyncio.ensure_future(client.infer(MODEL, given(marker), soon())) for marker in (1, 2)]
            await queued(runtime, 2)
            closing = asyncio.ensure_future(client.aclose())
            await asyncio.sleep(0)
            with pytest.raises(Draining):
                await client.infer(MODEL, given(9), soon())
            assert not (await client.ready()).ok
        results = await asyncio.gather(first, *others)
        await closing
        await client.aclose()  # twice is once
    assert [marker_of(result.output.embedding) for result in results] == [0, 1, 2]
    assert runtime.closed


async def test_a_lost_device_answers_everybody_and_is_not_ready(open_client: OpenClient) -> None:
    def lose(images: Images) -> None:
        if not image_is_probe(images):
            raise DeviceLost("gone")

    runtime = FakeRuntime(max_batch=1, before=lose)
    async with open_client(runtime) as client:
        async with running(client, runtime) as first:
            waiting = asyncio.ensure_future(client.infer(MODEL, given(1), soon()))
            await queued(runtime, 1)
        with pytest.raises(InferenceFailed):
            await first
        with pytest.raises(NotReady):
            await waiting
        with pytest.raises(NotReady):
            await client.infer(MODEL, given(2), soon())
        assert not (await client.ready()).ok


async def test_pixels_need_no_decoding(open_client: OpenClient) -> None:
    async with open_client(FakeRuntime()) as client:
        result = await client.infer(MODEL, image(5), soon())
        assert marker_of(result.output.embedding) == 5


async def test_a_model_that_is_not_served_is_refused(open_client: OpenClient) -> None:
    async with open_client(FakeRuntime()) as client:
        for model in ("fake/2", "fake", ""):
            with pytest.raises(UnknownModel):
                await client.infer(model, given(1), soon())
        await client.infer(MODEL, given(1), soon())


async def test_low_priority_waits_for_all_others(open_client: OpenClient) -> None:
    runtime = FakeRuntime(max_batch=1)
    async with open_client(runtime) as client:
        ends: list[int] = []

        async def ask(marker: int, priority: Priority) -> None:
            await client.infer(MODEL, given(marker), soon(), (), priority)
            ends.append(marker)

        async with running(client, runtime):
            others = [asyncio.ensure_future(ask(marker, "low" if marker < 3 else "normal")) for marker in range(1, 6)]
            await queued(runtime, 5)
        await asyncio.gather(*others)
        assert ends == [3, 4, 5, 1, 2]
