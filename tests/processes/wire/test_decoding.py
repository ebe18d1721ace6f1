"""A worker's own part of ``RemoteEngine``: decode threads that are watched, what waits for them, ids in the log."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service import logs
from service.engine.batcher import Batcher, Item
from service.engine.client import Decode, EngineClient
from service.errors import BadImage, InferenceFailed, NotReady, ServiceError
from service.image import Pixels
from service.metrics import Metrics
from service.processes.wire.slots import REQUEST_ID_BYTES
from tests.engine.remote import LAYOUT, connected, free
from tests.fakes import MODEL, Endless, FakeRuntime, Gate, endless, given, queue_depth, started
from tests.waiting import eventually, quick, soon

pytestmark = pytest.mark.anyio

__all__ = ["endless", "quick"]

one_decoder = partial(connected, decode_threads=1)


async def test_a_decoder_that_hangs_answers_who_waits_for_it_and_is_told_once(quick: None, endless: Endless) -> None:
    reasons: list[str] = []
    async with one_decoder(FakeRuntime(), on_fatal=reasons.append) as engine:
        sources = (Decode(endless, 10_000), given(1), given(2))
        calls = [engine.infer(MODEL, source, soon()) for source in sources]
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(end) for end in ends] == [NotReady] * 3
        assert engine.state == "hung"
        assert not (await engine.ready()).ok
        with pytest.raises(NotReady):
            await engine.infer(MODEL, given(1), soon())
        async with asyncio.timeout(10):
            await engine.aclose()
    (reason,) = reasons
    assert reason.startswith("decode_0 does not come back from threading.py:")


async def test_an_image_of_unknown_size_is_not_watched(quick: None, endless: Endless) -> None:
    async with one_decoder(FakeRuntime()) as engine:
        call = asyncio.ensure_future(engine.infer(MODEL, Decode(endless), soon()))
        assert await asyncio.to_thread(endless.entered.wait, 30)
        await asyncio.sleep(0.3)  # three times the floor
        assert engine.state == "ready"
        endless.release.set()
        await call


async def test_the_queue_is_what_has_no_slot_or_thread_yet(endless: Endless) -> None:
    metrics = Metrics()
    async with one_decoder(FakeRuntime(), layout=LAYOUT._replace(slots=3), metrics=metrics) as engine:
        first = asyncio.ensure_future(engine.infer(MODEL, Decode(endless), soon()))
        assert await asyncio.to_thread(endless.entered.wait, 30)
        assert queue_depth(metrics) == 0, "it is being decoded"
        others = [asyncio.ensure_future(engine.infer(MODEL, given(marker), soon())) for marker in range(5)]
        await eventually(lambda: queue_depth(metrics) == 5)
        others.pop().cancel()
        await eventually(lambda: queue_depth(metrics) == 4)
        endless.release.set()
        await asyncio.gather(first, *others)
        assert queue_depth(metrics) == 0
        assert free(engine) == 3


async def test_images_lent_to_an_engine_are_its_queue_alone() -> None:
    gate, metrics = Gate(), Metrics()
    runtime = FakeRuntime(max_batch=1, before=gate)
    async with one_decoder(runtime, metrics=metrics) as engine:
        calls = [asyncio.ensure_future(engine.infer(MODEL, given(marker), soon())) for marker in range(4)]
        await eventually(lambda: queue_depth(runtime.metrics) == 3)
        assert queue_depth(metrics) == 0
        gate.open()
        await asyncio.gather(*calls)


async def test_a_caller_that_leaves_while_it_is_decoded_gives_its_slot_back_once(endless: Endless) -> None:
    async with one_decoder(FakeRuntime()) as engine:
        calls = [asyncio.ensure_future(engine.infer(MODEL, source, soon())) for source in (Decode(endless), given(1))]
        assert await asyncio.to_thread(endless.entered.wait, 30)
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        assert free(engine) == LAYOUT.slots - 1, "the decoder may still write into the first one's"
        endless.release.set()
        await eventually(lambda: free(engine) == LAYOUT.slots)
        (connection,) = engine._connections
        assert sorted(connection._free) == list(range(LAYOUT.slots))


async def test_a_caller_that_leaves_as_its_image_is_decoded_gives_its_slot_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with one_decoder(FakeRuntime()) as engine:
        decoded = engine._decoded

        def crossing(*given: object) -> None:
            decoded(*given)  # type: ignore[arg-type]
            call.cancel()

        monkeypatch.setattr(engine, "_decoded", crossing)
        call = asyncio.ensure_future(engine.infer(MODEL, given(1), soon()))
        with pytest.raises(asyncio.CancelledError):
            await call
        assert free(engine) == LAYOUT.slots


@pytest.mark.parametrize(("raised", "told"), [(BadImage("torn"), BadImage), (MemoryError(), ServiceError)])
async def test_an_image_that_cannot_be_decoded_is_its_senders_error_or_ours(
    raised: Exception, told: type[ServiceError]
) -> None:
    def fail() -> Pixels:
        raise raised

    async with one_decoder(FakeRuntime()) as engine:
        with pytest.raises(ServiceError) as caught:
            await engine.infer(MODEL, Decode(fail), soon())
        assert type(caught.value) is told
        assert free(engine) == LAYOUT.slots


async def ask_as(request_id: str, engine: EngineClient, marker: int = 1) -> None:
    logs.request_id.set(request_id)  # of this task alone
    await engine.infer(MODEL, given(marker), soon())


@pytest.mark.parametrize("opened", [one_decoder, started])
async def test_the_engine_knows_whose_image_it_has(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    put = Batcher.put

    def seeing(batcher: Batcher, item: Item) -> None:
        seen.append(item.request_id)
        put(batcher, item)

    monkeypatch.setattr(Batcher, "put", seeing)

    ids = ["a" * REQUEST_ID_BYTES, "b", ""]
    async with opened(FakeRuntime()) as engine:
        for request_id in ids:
            await asyncio.create_task(ask_as(request_id, engine))
        await asyncio.gather(*(ask_as(request_id, engine) for request_id in ids))
    assert seen[:3] == ids
    assert sorted(seen[3:]) == sorted(ids)


async def test_the_engines_log_names_the_request_whose_image_it_failed_on(caplog: pytest.LogCaptureFixture) -> None:
    def fail_on_seven(images: NDArray[np.uint8]) -> None:
        if (images[:, 0, 0, 0] == 7).any():
            raise RuntimeError("no sevens")

    async with one_decoder(FakeRuntime(before=fail_on_seven)) as engine:
        with pytest.raises(InferenceFailed):
            await asyncio.create_task(ask_as("whose-seven", engine, 7))
    (record,) = [record for record in caplog.records if record.message == "inference failed on one image"]
    assert vars(record)["fields"] == {"request_id": "whose-seven"}
