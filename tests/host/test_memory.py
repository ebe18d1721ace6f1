"""Memory is given back once after a burst, not during it."""

from __future__ import annotations

import asyncio
import subprocess
import sys

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


#: Prints by how many MiB it has grown after a thread has had blocks of 14 MiB.
_THREAD = """
import threading
from pathlib import Path
from service.host import memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

def work():
    for size in (14, 13):
        block = bytearray(size * 2**20)
        del block
    memory.give_back()

if {mapped}:
    memory.map_large_blocks()
before = resident()
thread = threading.Thread(target=work)
thread.start(), thread.join()
print(resident() - before)
"""


@pytest.mark.parametrize("mapped", [True, False])
def test_large_blocks_of_threads_go_back_to_the_system_if_they_are_mapped(mapped: bool) -> None:
    code = _THREAD.format(mapped=mapped)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (float(done.stdout) < 5) == mapped
