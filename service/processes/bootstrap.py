"""What all child processes do: read the hand-over, send heartbeats, end with their supervisor.

The supervisor writes the hand-over to a child's standard input as a line of JSON, because a command line is public.
Later lines are API keys that replace those in the settings.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import dataclasses
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import uvloop

from service import logs
from service.config import Settings
from service.errors import OperatorError
from service.host import memory
from service.host.cores import available_cores
from service.host.process import flush_standard_streams, say
from service.metrics import Metrics, share

#: Seconds between two heartbeats. They come from the event loop, so a process whose loop hangs sends none.
BEAT_S = 0.25
STARTING, READY = b"s", b"r"

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15  # <linux/prctl.h>


@dataclass(frozen=True, slots=True)
class Handover:
    """File descriptors are inherited under the same numbers; -1 means none."""

    name: str  # engine-0, worker-1: in logs, metrics and process lists
    parent: int  # the supervisor's process id
    metrics_directory: str  # shared by all processes
    settings: dict[str, Any]  # with a store of the supervisor's own, which nobody else changes
    listener: int = -1  # worker: the service's port; engine: a Unix socket
    heartbeat: int = -1  # pipe to the supervisor
    device: str = ""  # engine only
    addresses: list[str] = field(default_factory=list)  # worker only: the engines' sockets
    counts: int = -1  # worker only: shared memory of ``ConnectionCounts``
    worker_index: int = -1  # worker only: its own among the counts

    @property
    def inherited(self) -> list[int]:
        """File descriptors that the process needs."""
        return [number for number in (self.listener, self.heartbeat, self.counts) if number >= 0]

    def dump(self) -> bytes:
        """A line."""
        return json.dumps(dataclasses.asdict(self)).encode() + b"\n"

    def with_keys(self, keys: Sequence[str]) -> Handover:
        return dataclasses.replace(self, settings=self.settings | {"api_keys": list(keys)})


def run_child(main: Callable[[Handover, Settings, Metrics], Coroutine[Any, Any, int]]) -> None:
    """Run ``main`` on an event loop and exit with the status it returns, or with 1 and a message for OperatorError."""
    handover = _receive_handover()
    settings = Settings(**handover.settings)
    logs.configure(settings.log_format, settings.log_level, process=handover.name)
    memory.limit_arenas(available_cores())
    share(handover.metrics_directory, handover.name)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            status = runner.run(main(handover, settings, Metrics()))
    except OperatorError as error:
        say(f"error: {error}")
        status = 1
    flush_standard_streams()
    os._exit(status)  # without waiting for threads that may hang


async def send_heartbeats(handover: Handover, metrics: Metrics, *, ready: Callable[[], bool]) -> None:
    """Send heartbeats to the supervisor and publish this process's gauges, until cancelled.

    ``ready``: whether the process can do its work. The first heartbeat that says so makes it ``ready`` for
    ``ChildProcess``; later ones that deny it change nothing.
    """
    while True:
        metrics.sample()
        with contextlib.suppress(BlockingIOError):  # a stopped supervisor does not read its pipes
            os.write(handover.heartbeat, READY if ready() else STARTING)
        await asyncio.sleep(BEAT_S)


async def receive_keys(use: Callable[[Sequence[str]], object]) -> None:
    """Give each later list of API keys to ``use``, until cancelled."""
    lines = asyncio.StreamReader(limit=2**24)
    pipe = os.fdopen(sys.stdin.fileno(), "rb", buffering=0, closefd=False)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), pipe)
    async for line in lines:
        use(json.loads(line))


def _receive_handover() -> Handover:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        with os.fdopen(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as pipe:  # nothing of a later line
            handover = Handover(**json.loads(pipe.readline()))
    except ValueError:  # the supervisor died while it was writing
        os._exit(1)
    if os.getppid() != handover.parent:  # the supervisor died before prctl took effect
        os._exit(1)
    libc.prctl(_PR_SET_NAME, f"mnet-{handover.name}".encode())
    return handover
