"""Memory is given back once after a burst, not during it."""

from __future__ import annotations

import asyncio

import pytest

from service.host import memory

pytestmark = pytest.mark.anyio


async def test_memory_is_given_back_once_when_the_work_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    given_back: list[float] = []
    done = asyncio.Event()

    def record() -> None:
        given_back.append(loop.time())
        done.set()

    monkeypatch.setattr(memory, "give_back", record)
    trimmer = memory.GiveBackWhenIdle(loop, after=0.05)
    for _ in range(20):  # a burst that lasts longer than the pause which ends it
        trimmer.worked()
        last = loop.time()
        await asyncio.sleep(0.01)
    await asyncio.wait_for(done.wait(), 10)
    assert len(given_back) == 1
    assert given_back[0] - last >= 0.045  # uvloop's clock has whole milliseconds
    done.clear()
    trimmer.worked()
    await asyncio.wait_for(done.wait(), 10)
    assert len(given_back) == 2


def test_the_calls_into_the_c_library_work_here() -> None:
    memory.give_back()
    memory.limit_arenas(8)
