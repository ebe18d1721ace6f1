"""What all child processes do: read the hand-over, send heartbeats, end with their supervisor."""

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

from service import logs
from service.errors import OperatorError
from service.host import memory
from service.host.cores import available_cores
from service.metrics import Metrics, share
from service.processes.handover import Handover

#: Seconds between two heartbeats. They come from the event loop, so a process whose loop hangs sends none.
BEAT_S = 0.25
STARTING, READY = b"s", b"r"

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15  # <linux/prctl.h>


def run_child(main: Callable[[Handover, Metrics], Coroutine[Any, Any, int]]) -> None:
    """Run ``main`` on an event loop and exit with the status it returns, or with 1 and a message for OperatorError."""
    handover = _receive_handover()
    settings = handover.load_settings()
    logs.configure(settings.log_format, settings.log_level, process=handover.name)
    memory.limit_arenas(available_cores())
    share(handover.metrics_directory, handover.name)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            status = runner.run(main(handover, Metrics()))
    except OperatorError as error:
        sys.stderr.write(f"error: {error}\n")
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
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


def _receive_handover() -> Handover:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        handover = Handover.read()
    except ValueError:
        os._exit(1)
    if os.getppid() != handover.parent:  # the supervisor died before prctl took effect
        os._exit(1)
    libc.prctl(_PR_SET_NAME, f"mnet-{handover.name}".encode())
    return handover
