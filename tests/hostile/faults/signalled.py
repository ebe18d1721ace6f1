"""A service that gets signals: when it is ready for them, what has become of it, and a table of that."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.e2e.process import ServerProcess
from tests.processes import tree
from tests.waiting import until


class Outcome(NamedTuple):
    """Of one service."""

    moment: str
    number: str
    status: int
    seconds: float  # from SIGTERM to the end
    lost: int  # requests that it had taken
    unprepared: bool = False  # SIGTERM came before its first line, when a process ends by the kernel's hand


def table(outcomes: Iterable[Outcome]) -> str:
    lines = [f"{'moment':28} {'signal':13} {'status':>6} {'took':>8} {'lost':>4}"]
    for moment, number, status, seconds, lost, unprepared in outcomes:
        early = "  before its first line" if unprepared else ""
        lines.append(f"{moment:28} {number:13} {status:6} {seconds:6.2f} s {lost:4}{early}")
    return "\n".join(["", *lines])


def is_prepared(pid: int, number: signal.Signals = signal.SIGTERM) -> bool:
    """Whether a process catches a signal or ignores it."""
    masks = re.findall(r"^Sig(?:Cgt|Ign):\s+(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return any(int(mask, 16) >> (number - 1) & 1 for mask in masks)


def wait_until_prepared(pid: int, number: signal.Signals = signal.SIGTERM) -> None:
    until(lambda: is_prepared(pid, number), timeout=60, what=f"{number.name} is caught or ignored", every=0.0005)


def family(pid: int) -> list[int]:
    """Every process under ``pid``, with a name or without, and itself."""
    found = [pid]
    with suppress(FileNotFoundError):
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            found += [member for child in task.read_text().split() for member in family(int(child))]
    return found


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """To those that are still there."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def stop(running: ServerProcess) -> tuple[int, float]:
    """Exit status after SIGTERM, and how long that took; nobody is left, and nothing was raised."""
    members = family(running.process.pid)
    began = time.monotonic()
    status = running.terminate()
    took = time.monotonic() - began
    until(lambda: not any(map(tree.alive, members)), timeout=10, what="all its processes are gone", every=0.01)
    was_calm(running)
    return status, took


def was_calm(running: ServerProcess) -> None:
    assert "Traceback" not in running.output, running.output
    assert "Exception" not in running.output, running.output
