"""The wire against processes that die, stop and talk nonsense: no wrong answer, no lost slot, nothing left behind."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pytest

from service.errors import DeadlineExceeded, NotReady, ServiceError
from service.ipc import messages
from service.ipc.arena import Arena, Layout
from service.ipc.client import RemoteEngine
from service.metrics import Metrics
from service.postprocess import ItemOutput
from tests.engine.remote import LAYOUT, engine_server, free, listen
from tests.fakes import FakeRuntime, given, marker_of
from tests.waiting import eventually, soon, until_ready

pytestmark = pytest.mark.anyio

_numbers = itertools.count()


class EngineProcess:
    """Started, killed, stopped and started again at one address."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._name = f"mobilenet-test-{os.getpid()}-process-{next(_numbers)}"
        self._seconds = seconds
        self.address = f"\0{self._name}"

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.ipc.engine_process", self._name, str(self._seconds)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.kill()


@asynccontextmanager
async def worker(*addresses: str, layout: Layout = LAYOUT) -> AsyncIterator[RemoteEngine]:
    engine = RemoteEngine(addresses, layout, decode_threads=2, metrics=Metrics(), on_fatal=pytest.fail)
    engine.start()
    try:
        yield engine
    finally:
        await engine.aclose()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def ask(engine: RemoteEngine, marker: int) -> str:
    """What became of it: right, or the error's reason. AssertionError for another image's answer."""
    try:
        result = await engine.infer(given(marker), soon(5.0))
    except ServiceError as error:
        return error.reason
    assert marker_of(result.output.embedding) == marker
    return "right"


def test_an_output_survives_the_slot_bit_for_bit() -> None:
    layout = Layout(8, 10, 16, 2, slots=3)
    arena, descriptor = Arena.create(layout)
    other = Arena(layout, descriptor)
    rng = np.random.default_rng(0)
    sent = ItemOutput(
        rng.normal(size=10).astype(np.float32),
        rng.normal(size=16).astype(np.float32),
        np.arange(5),
        rng.normal(size=(5, 2, 2)).astype(np.float32),
        1.25,
    )
    arena.write(1, sent)
    for part, expected in zip(other.read(1), sent, strict=True):
        np.testing.assert_array_equal(part, expected)
    assert not other.read(0).logits.any()
    assert not other.read(2).logits.any()


def test_slots_do_not_share_a_cache_line() -> None:
    record = LAYOUT.record
    assert record.itemsize % 64 == 0
    assert all(field[1] % 64 == 0 for field in (record.fields or {}).values())


def test_shared_memory_that_is_too_small_is_refused() -> None:
    _, descriptor = Arena.create(LAYOUT)
    with pytest.raises(ValueError, match="smaller"):
        Arena(Layout(8, 10, 16, 1, slots=LAYOUT.slots + 1), descriptor)


async def test_more_images_than_slots_wait_their_turn() -> None:
    layout = Layout(LAYOUT.image_size, LAYOUT.num_classes, LAYOUT.embedding_dim, LAYOUT.map_size, slots=2)
    async with engine_server(FakeRuntime()) as address, worker(address, layout=layout) as engine:
        await until_ready(engine)
        assert await asyncio.gather(*(ask(engine, marker) for marker in range(50))) == ["right"] * 50
        assert free(engine) == 2


async def test_a_caller_that_leaves_gives_its_slot_back() -> None:
    async with engine_server(FakeRuntime(before=lambda images: time.sleep(0.01))) as address, worker(address) as engine:
        await until_ready(engine)
        calls = [asyncio.ensure_future(engine.infer(given(marker), soon())) for marker in range(100)]
        for turn, call in enumerate(calls):
            await asyncio.sleep(0 if turn % 7 else 0.003)
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await eventually(lambda: free(engine) == LAYOUT.slots)
        assert await ask(engine, 7) == "right"


async def test_an_answer_that_crosses_a_cancellation_frees_its_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    async with engine_server(FakeRuntime()) as address, worker(address) as engine:
        await until_ready(engine)
        (link,) = engine._links
        answered = link._answered

        def crossing(done: messages.Done) -> None:
            answered(done)
            call.cancel()

        monkeypatch.setattr(link, "_answered", crossing)
        call = asyncio.ensure_future(engine.infer(given(1), soon()))
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
                await engine.infer(given(1), soon())
            process.start()
            await until_ready(engine)
            assert await asyncio.gather(*(ask(engine, marker) for marker in range(40))) == ["right"] * 40
            assert free(engine) == LAYOUT.slots
            assert descriptors() <= before


async def test_an_engine_that_is_stopped_is_not_asked_and_comes_back() -> None:
    with EngineProcess() as stopped, EngineProcess() as other:
        async with worker(stopped.address, other.address) as engine:
            await eventually(lambda: all(link.ready for link in engine._links))
            stopped.process.send_signal(signal.SIGSTOP)
            try:
                fates = await asyncio.gather(*(ask_soon(engine, marker) for marker in range(20)))
                assert set(fates) <= {"right", "deadline"}
                await eventually(lambda: not engine._links[0].ready)
                assert (await engine.ready()).ok
                assert await asyncio.gather(*(ask(engine, marker) for marker in range(20))) == ["right"] * 20
            finally:
                stopped.process.send_signal(signal.SIGCONT)
            await eventually(lambda: engine._links[0].ready)
            assert await asyncio.gather(*(ask(engine, marker) for marker in range(40))) == ["right"] * 40
            await eventually(lambda: free(engine) == 2 * LAYOUT.slots)


async def ask_soon(engine: RemoteEngine, marker: int) -> str:
    try:
        result = await engine.infer(given(marker), soon(0.5))
    except DeadlineExceeded as error:
        return error.reason
    assert marker_of(result.output.embedding) == marker
    return "right"


async def test_each_image_goes_to_the_engine_with_the_fewest() -> None:
    slow, fast = FakeRuntime(max_batch=1, before=lambda images: time.sleep(0.02)), FakeRuntime(max_batch=1)
    async with engine_server(slow) as one, engine_server(fast) as two, worker(one, two) as engine:
        await eventually(lambda: all(link.ready for link in engine._links))
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


HELLO = messages.hello(LAYOUT)


@pytest.mark.parametrize(
    "packets",
    [
        [b"nonsense"],
        [b""],
        [messages.hello(Layout(9, 10, 16, 1, slots=64))],
        [messages.hello(Layout(8, 10, 16, 1, slots=0))],
        [messages.hello(Layout(8, 10, 16, 1, slots=65))],
        [HELLO, b"x"],
        [HELLO, messages.request(b"?", 0, 0)],
        [HELLO, messages.request(messages.INFER, 64, 0, 1e12)],
        [HELLO, messages.request(messages.INFER, 0, 0, 1e12) * 2],
    ],
    ids=range(9),
)
async def test_nonsense_is_hung_up_on_and_hurts_nobody(packets: list[bytes]) -> None:
    async with (
        engine_server(FakeRuntime(before=lambda images: time.sleep(0.002))) as address,
        worker(address) as engine,
    ):
        await until_ready(engine)
        before = descriptors()
        arena, descriptor = Arena.create(LAYOUT)
        del arena  # and the descriptor that its map holds
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
            stranger.settimeout(20)
            stranger.connect(address)
            socket.send_fds(stranger, packets[:1], [descriptor])
            os.close(descriptor)
            for packet in packets[1:]:
                stranger.send(packet)
            stranger.shutdown(socket.SHUT_WR) if packets == [b""] else None
            await asyncio.to_thread(drain, stranger)
        assert await asyncio.gather(*(ask(engine, marker) for marker in range(20))) == ["right"] * 20
        await eventually(lambda: descriptors() <= before)


def drain(stranger: socket.socket) -> None:
    """Until the other side hangs up."""
    try:
        while stranger.recv(messages.MAX_PACKET):
            pass
    except ConnectionError:
        pass


async def test_readiness_does_not_wait_for_an_engine_that_is_silent() -> None:
    """As where an engine is being replaced or was given up: its listener is there, and nobody behind it."""
    silent, address = listen()
    try:
        async with engine_server(FakeRuntime()) as alive:
            engine = RemoteEngine(
                [address, alive], LAYOUT, decode_threads=1, metrics=Metrics(), on_fatal=lambda reason: None
            )
            engine.start()
            await until_ready(engine)
            began = time.monotonic()
            assert (await engine.ready()).ok
            assert time.monotonic() - began < 1.0
            await engine.aclose()
    finally:
        silent.close()
