"""The hand-over to a process, and keys that change at that very moment."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from service.processes.bootstrap import Handover
from service.processes.child_process import ChildProcess
from tests.processes import tree
from tests.waiting import eventually

pytestmark = pytest.mark.anyio

#: Keeps what it is told, and ends after two lines of it.
_LISTENER = "import os, sys; os.write(int(sys.argv[1]), (sys.stdin.readline() + sys.stdin.readline()).encode())"


@pytest.fixture
def anyio_backend() -> str:
    """A supervisor's loop is asyncio's own."""
    return "asyncio"


def child() -> ChildProcess:
    handover = Handover("worker-0", os.getpid(), "/nowhere", {"api_keys": ["old"]})
    return ChildProcess("none", handover, lambda child, reason: None)


@pytest.mark.parametrize("moment", ["before", "during"])
async def test_keys_that_change_while_a_process_is_being_created_reach_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, moment: str
) -> None:
    """Among the first line that it reads, or else in a later one."""
    told = tmp_path / "told"
    made, create = child(), asyncio.create_subprocess_exec

    async def listener(*arguments: str, **options: Any) -> asyncio.subprocess.Process:
        if moment == "before":
            made.change_keys(["new"])
        with told.open("wb") as file:
            options["pass_fds"] = [*options["pass_fds"], file.fileno()]
            process = await create(sys.executable, "-c", _LISTENER, str(file.fileno()), **options)
        if moment == "during":
            made.change_keys(["new"])
        return process

    monkeypatch.setattr("asyncio.create_subprocess_exec", listener)
    running = asyncio.create_task(made.run())
    await eventually(lambda: made._process is not None)
    made.change_keys(["last"])
    await eventually(lambda: told.read_bytes().count(b"\n") == 2)
    made.stop()
    await running
    first, second = (json.loads(line) for line in told.read_text().splitlines())
    assert first["settings"]["api_keys"] == ["new"]
    assert second == ["last"]


async def test_a_process_that_cannot_be_created_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As without a free number for it, or memory."""
    ended: list[tuple[str, int]] = []
    made, refusals = child(), iter([False, True, True])
    made._on_exit = lambda child, reason: ended.append((reason, tree.descriptors(os.getpid())))
    create = asyncio.create_subprocess_exec

    async def refuse(*arguments: str, **options: Any) -> asyncio.subprocess.Process:
        if next(refusals, False):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return await create(sys.executable, "-c", "import sys; sys.stdin.readline()", **options)

    monkeypatch.setattr("asyncio.create_subprocess_exec", refuse)
    monkeypatch.setattr("service.processes.child_process._RETRY_S", (0.01, 0.01))
    await made.run()
    reasons, descriptors = zip(*ended, strict=True)
    assert reasons == ("stopped", "error", "error", "stopped", "stopped")
    assert made.state == "given_up", "five in a row"
    assert descriptors[2] <= descriptors[1], "no pipe is left"
