"""What engine and worker processes do alike: end with their supervisor, take the hand-over, let their heart beat."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from service import logs, metrics
from service.errors import OperatorError
from service.host import memory
from service.host.cores import available_cores
from service.metrics import Metrics
from service.processes.handover import Handover

#: Seconds between two heartbeats. They come from the event loop: a process whose loop hangs is silent.
BEAT_S = 0.25
STARTING, READY = b"s", b"r"

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15  # <linux/prctl.h>


def run(main: Callable[[Handover, Metrics], Coroutine[Any, Any, int]]) -> None:
    """Be a child: run ``main`` on an event loop and exit with what it returns; 1 and a line for an OperatorError."""
    handover = _take()
    settings = handover.load_settings()
    logs.configure(settings.log_format, settings.log_level, process=handover.name)
    memory.limit_arenas(available_cores())
    metrics.share(handover.metrics, handover.name)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            status = runner.run(main(handover, Metrics()))
    except OperatorError as error:
        sys.stderr.write(f"error: {error}\n")
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # no thread that does not come back keeps the process


async def beat(handover: Handover, measured: Metrics, *, ready: Callable[[], bool]) -> None:
    """Tell the supervisor that this process lives, and the other processes its gauges; until cancelled.

    ``ready``: it does what it is there for. Only its first time matters, see ``Keeper``.
    """
    while True:
        measured.sample()
        with contextlib.suppress(BlockingIOError):  # a supervisor that is stopped reads nothing
            os.write(handover.heartbeat, READY if ready() else STARTING)
        await asyncio.sleep(BEAT_S)


def _take() -> Handover:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        handover = Handover.take()
    except ValueError:
        os._exit(1)
    if os.getppid() != handover.parent:  # it went before the kernel knew what to do about it
        os._exit(1)
    libc.prctl(_PR_SET_NAME, f"mnet-{handover.name}".encode())
    return handover
