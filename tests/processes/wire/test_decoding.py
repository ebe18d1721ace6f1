"""A worker's own part of ``RemoteEngine``: decode threads that are watched, what waits for them, ids in the log."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
from numpy.typing import NDArray

from service import logs
from service.engine import watchdog
from service.engine.batcher import Batcher, Item
from service.engine.client import Decode, EngineClient
from service.errors import BadImage, InferenceFailed, NotReady, ServiceError
from service.image import Pixels
from service.metrics import Metrics
from service.processes.wire.remote_engine import RemoteEngine
from service.processes.wire.slots import REQUEST_ID_BYTES, Layout
from tests.engine.remote import LAYOUT, engine_server, free
from tests.fakes import MODEL, Endless, FakeRuntime, given, marker_of, queue_depth, started
from tests.waiting import eventually, soon, until_ready

pytestmark = pytest.mark.anyio

PIXELS = 10_000


@pytest.fixture
def endless() -> Iterator[Endless]:
    made = Endless()
    yield made
    made.release.set()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "TICK_S", 0.01)
    monkeypatch.setattr(watchdog, "DECODE_FLOOR_S", 0.1)


class Worker:
    """A ready engine with one decode thread, its metrics and what it said when it was lost."""

    def __init__(self, address: str, layout: Layout) -> None:
        self.reasons: list[str] = []
        self.metrics = Metrics()
        self.engine = RemoteEngine(
            MODEL, [address], layout, decode_threads=1, metrics=self.metrics, on_fatal=self.reasons.append
        )

    def depth(self) -> float | None:
        return queue_depth(self.metrics)


@asynccontextmanager
async def worker(runtime: FakeRuntime | None = None, layout: Layout = LAYOUT) -> AsyncIterator[Worker]:
    async with engine_server(runtime or FakeRuntime()) as address:
        made = Worker(address, layout)
        assert made.engine.state == "starting"
        made.engine.start()
        await until_ready(made.engine)
        try:
            yield made
        finally:
            await made.engine.aclose()


async def test_readiness_goes_while_a_decoder_is_late_and_comes_back_with_it(
    quick: None, endless: Endless, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "HUNG_AFTER", 10_000)
    async with worker() as here:
        assert here.engine.state == "ready"
        call = asyncio.ensure_future(here.engine.infer(MODEL, Decode(endless, PIXELS), soon()))
        await eventually(lambda: here.engine.state == "late")
        state = await here.engine.ready()
        assert (state.ok, state.reason) == (False, "late")
        assert state.info is not None
        endless.release.set()
        assert marker_of((await call).output.embedding) == 7
        assert here.engine.state == "ready"
        assert here.reasons == []


async def test_a_decoder_that_hangs_answers_who_waits_for_it_and_is_told_once(quick: None, endless: Endless) -> None:
    async with worker() as here:
        sources = (Decode(endless, PIXELS), given(1), given(2))
        calls = [here.engine.infer(MODEL, source, soon()) for source in sources]
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(end) for end in ends] == [NotReady] * 3
        assert here.engine.state == "hung"
        assert not (await here.engine.ready()).ok
        with pytest.raises(NotReady):
            await here.engine.infer(MODEL, given(1), soon())
        async with asyncio.timeout(10):
            await here.engine.aclose()
    (reason,) = here.reasons
    assert reason.startswith("decode_0 does not come back from threading.py:")


async def test_an_image_of_unknown_size_is_not_watched(quick: None, endless: Endless) -> None:
    async with worker() as here:
        call = asyncio.ensure_future(here.engine.infer(MODEL, Decode(endless), soon()))
        assert await asyncio.to_thread(endless.entered.wait, 30)
        await asyncio.sleep(0.3)  # three times the floor
        assert here.engine.state == "ready"
        endless.release.set()
        await call


async def test_the_queue_is_what_has_no_slot_or_thread_yet(endless: Endless) -> None:
    layout = Layout(LAYOUT.image_size, LAYOUT.num_classes, LAYOUT.embedding_dim, LAYOUT.map_size, slots=3)
    async with worker(layout=layout) as here:
        first = asyncio.ensure_future(here.engine.infer(MODEL, Decode(endless), soon()))
        assert await asyncio.to_thread(endless.entered.wait, 30)
        assert here.depth() == 0, "it is being decoded"
        others = [asyncio.ensure_future(here.engine.infer(MODEL, given(marker), soon())) for marker in range(5)]
        await eventually(lambda: here.depth() == 5)
        others.pop().cancel()
        await eventually(lambda: here.depth() == 4)
        endless.release.set()
        await asyncio.gather(first, *others)
        assert here.depth() == 0
        assert free(here.engine) == 3


def assert_opened(gate: threading.Event) -> None:
    assert gate.wait(60)


async def test_images_lent_to_an_engine_are_its_queue_alone() -> None:
    gate = threading.Event()
    runtime = FakeRuntime(max_batch=1)
    async with worker(runtime) as here:
        runtime.before = lambda images: assert_opened(gate)
        calls = [asyncio.ensure_future(here.engine.infer(MODEL, given(marker), soon())) for marker in range(4)]
        await eventually(lambda: queue_depth(runtime.metrics) == 3)
        assert here.depth() == 0
        gate.set()
        await asyncio.gather(*calls)


async def test_a_caller_that_leaves_while_it_is_decoded_gives_its_slot_back_once(endless: Endless) -> None:
    async with worker() as here:
        calls = [
            asyncio.ensure_future(here.engine.infer(MODEL, source, soon())) for source in (Decode(endless), given(1))
        ]
        assert await asyncio.to_thread(endless.entered.wait, 30)
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        assert free(here.engine) == LAYOUT.slots - 1, "the decoder may still write into the first one's"
        endless.release.set()
        await eventually(lambda: free(here.engine) == LAYOUT.slots)
        (connection,) = here.engine._connections
        assert sorted(connection._free) == list(range(LAYOUT.slots))


async def test_a_caller_that_leaves_as_its_image_is_decoded_gives_its_slot_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with worker() as here:
        decoded = here.engine._decoded

        def crossing(*given: object) -> None:
            decoded(*given)  # type: ignore[arg-type]
            call.cancel()

        monkeypatch.setattr(here.engine, "_decoded", crossing)
        call = asyncio.ensure_future(here.engine.infer(MODEL, given(1), soon()))
        with pytest.raises(asyncio.CancelledError):
            await call
        assert free(here.engine) == LAYOUT.slots


@pytest.mark.parametrize(("raised", "told"), [(BadImage("torn"), BadImage), (MemoryError(), ServiceError)])
async def test_an_image_that_cannot_be_decoded_is_its_senders_error_or_ours(
    raised: Exception, told: type[ServiceError]
) -> None:
    def fail() -> Pixels:
        raise raised

    async with worker() as here:
        with pytest.raises(ServiceError) as caught:
            await here.engine.infer(MODEL, Decode(fail), soon())
        assert type(caught.value) is told
        assert free(here.engine) == LAYOUT.slots


@pytest.mark.parametrize("wire", [True, False])
async def test_the_engine_knows_whose_image_it_has(wire: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    put = Batcher.put

    def seeing(batcher: Batcher, item: Item) -> None:
        seen.append(item.request_id)
        put(batcher, item)

    monkeypatch.setattr(Batcher, "put", seeing)

    async def ask(engine: EngineClient, request_id: str) -> None:
        logs.request_id.set(request_id)  # of this task alone
        await engine.infer(MODEL, given(1), soon())

    async def ask_all(engine: EngineClient) -> None:
        for request_id in ids:
            await asyncio.create_task(ask(engine, request_id))
        await asyncio.gather(*(ask(engine, request_id) for request_id in ids))

    ids = ["a" * REQUEST_ID_BYTES, "b", ""]
    if wire:
        async with worker() as here:
            await ask_all(here.engine)
    else:
        async with started(FakeRuntime()) as engine:
            await ask_all(engine)
    assert seen[:3] == ids
    assert sorted(seen[3:]) == sorted(ids)


async def test_the_engines_log_names_the_request_whose_image_it_failed_on(caplog: pytest.LogCaptureFixture) -> None:
    def fail_on_seven(images: NDArray[np.uint8]) -> None:
        if (images[:, 0, 0, 0] == 7).any():
            raise RuntimeError("no sevens")

    async def ask(engine: EngineClient) -> None:
        logs.request_id.set("whose-seven")
        with pytest.raises(InferenceFailed):
            await engine.infer(MODEL, given(7), soon())

    async with worker(FakeRuntime(before=fail_on_seven)) as here:
        await asyncio.create_task(ask(here.engine))
    (record,) = [record for record in caplog.records if record.message == "inference failed on one image"]
    assert vars(record)["fields"] == {"request_id": "whose-seven"}
