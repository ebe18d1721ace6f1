"""The wire against processes that die and stop: no wrong answer, no lost slot, nothing left behind."""

from __future__ import annotations

import asyncio
import itertools
import signal
import time

import pytest

from service.errors import NotReady
from service.processes.wire import messages
from tests.engine.remote import LAYOUT, ask, connected, descriptors, engine_server, free, listen, worker
from tests.fakes import MODEL, FakeRuntime, given
from tests.processes.wire.engine_process import EngineProcess
from tests.waiting import eventually, soon, until_ready

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


async def test_more_images_than_slots_wait_their_turn() -> None:
    async with connected(FakeRuntime(), layout=LAYOUT._replace(slots=2)) as engine:
        assert await asyncio.gather(*(ask(engine, marker) for marker in range(50))) == ["right"] * 50
        assert free(engine) == 2


async def test_a_caller_that_leaves_gives_its_slot_back() -> None:
    async with connected(FakeRuntime(before=lambda images: time.sleep(0.01))) as engine:
        calls = [asyncio.ensure_future(engine.infer(MODEL, given(marker), soon())) for marker in range(100)]
        for turn, call in enumerate(calls):
            await asyncio.sleep(0 if turn % 7 else 0.003)
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await eventually(lambda: free(engine) == LAYOUT.slots)
        assert await ask(engine, 7) == "right"


async def test_an_answer_that_crosses_a_cancellation_frees_its_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(FakeRuntime()) as engine:
        (connection,) = engine._connections
        answered = connection._answered

        def crossing(done: messages.Done) -> None:
            answered(done)
            call.cancel()

        monkeypatch.setattr(connection, "_answered", crossing)
        call = asyncio.ensure_future(engine.infer(MODEL, given(1), soon()))
        with pytest.raises(asyncio.CancelledError):
            await call
        assert free(engine) == LAYOUT.slots


async def test_an_engine_that_is_killed_costs_what_it_had_and_no_more() -> None:
    with EngineProcess(seconds=0.05) as process:
        async with worker(process.address) as engine:
            await until_ready(engine)
            before = descriptors()
            calls = [asyncio.ensure_future(ask(engine, marker)) for marker in range(40)]
            await asyncio.sleep(0.1)
            process.kill()
            fates = await asyncio.gather(*calls)
            assert set(fates) == {"right", "not_ready"}
            with pytest.raises(NotReady):
                await engine.infer(MODEL, given(1), soon())
            process.start()
            await until_ready(engine)
            assert await asyncio.gather(*(ask(engine, marker) for marker in range(40))) == ["right"] * 40
            assert free(engine) == LAYOUT.slots
            assert descriptors() <= before


async def test_an_engine_that_is_stopped_is_not_asked_and_comes_back() -> None:
    with EngineProcess() as stopped, EngineProcess() as other:
        async with worker(stopped.address, other.address) as engine:
            await eventually(lambda: all(connection.ready for connection in engine._connections))
            stopped.process.send_signal(signal.SIGSTOP)
            try:
                fates = await asyncio.gather(*(ask(engine, marker, 0.5) for marker in range(20)))
                assert set(fates) <= {"right", "deadline"}
                await eventually(lambda: not engine._connections[0].ready)
                assert (await engine.ready()).ok
                assert await asyncio.gather(*(ask(engine, marker) for marker in range(20))) == ["right"] * 20
            finally:
                stopped.process.send_signal(signal.SIGCONT)
            await eventually(lambda: engine._connections[0].ready)
            assert await asyncio.gather(*(ask(engine, marker) for marker in range(40))) == ["right"] * 40
            await eventually(lambda: free(engine) == 2 * LAYOUT.slots)


async def test_each_image_goes_to_the_engine_with_the_fewest() -> None:
    slow, fast = FakeRuntime(max_batch=1, before=lambda images: time.sleep(0.02)), FakeRuntime(max_batch=1)
    async with engine_server(slow) as one, engine_server(fast) as two, worker(one, two) as engine:
        await eventually(lambda: all(connection.ready for connection in engine._connections))
        slow.batches.clear()
        fast.batches.clear()
        turn = itertools.count()

        async def client() -> None:
            while (marker := next(turn)) < 300:
                assert await ask(engine, marker) == "right"

        await asyncio.gather(*(client() for _ in range(6)))
        assert len(slow.batches) > 0
        assert len(fast.batches) > 5 * len(slow.batches)


async def test_chaos_gives_right_answers_or_none() -> None:
    """The engine is killed or stopped again and again under load; the torture run does it for longer."""
    with EngineProcess(seconds=0.002) as process:
        async with worker(process.address) as engine:
            await until_ready(engine)
            fates: list[str] = []
            ended = False

            async def client(marker: int) -> None:
                while not ended:
                    fates.append(await ask(engine, marker))
                    await asyncio.sleep(0.001)

            clients = [asyncio.ensure_future(client(marker)) for marker in range(20)]
            for turn in range(6):
                await until_ready(engine)
                await asyncio.sleep(0.1)
                if turn % 2:
                    process.process.send_signal(signal.SIGSTOP)
                    await asyncio.sleep(0.1)
                    process.process.send_signal(signal.SIGCONT)
                else:
                    process.kill()
                    process.start()
            await until_ready(engine)
            ended = True
            await asyncio.gather(*clients)
            assert set(fates) == {"right", "not_ready"}
            await eventually(lambda: free(engine) == LAYOUT.slots)


async def test_readiness_does_not_wait_for_an_engine_that_is_silent() -> None:
    """As where an engine is being replaced or was given up: its listener is there, and nobody behind it."""
    silent, address = listen()
    with silent:
        async with engine_server(FakeRuntime()) as alive, worker(address, alive) as engine:
            await until_ready(engine)
            began = time.monotonic()
            assert (await engine.ready()).ok
            assert time.monotonic() - began < 1.0
