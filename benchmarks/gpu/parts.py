"""Runs the parts: each a process with a time limit, whose output is passed on as it comes.

A part that fails, hangs or is cut off costs its own figures only. Every process below this one is gone when it ends:
it is the reaper of its descendants (PR_SET_CHILD_SUBREAPER), so that none escapes by losing its parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmarks.gpu.part import DECIDES, Options
from benchmarks.processes import descendants

_PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>

#: Seconds between a part's own deadline and the SIGTERM, and from there to the SIGKILL.
MARGIN_S, GRACE_S = 2.0, 4.0

#: What the end of everything takes.
_END_S = 1.0


class Part(NamedTuple):
    name: str
    module: str
    title: str
    weight: float  # of the budget; what a part leaves is for those behind it


class Outcome(NamedTuple):
    part: Part
    seconds: float
    outcome: str
    decision: str  # "" if it came to none


def run(
    parts: Sequence[Part], options: Options, budget: float, started: float, emit: Callable[[str], None]
) -> list[Outcome]:
    """One after the other; ends before ``started + budget``. ``emit`` is given what is to be printed, in whole lines.

    A KeyboardInterrupt ends the part under way and skips the rest.
    """
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    outcomes: list[Outcome] = []
    for index, part in enumerate(parts):
        began = time.monotonic()
        left = started + budget - began - _END_S
        limit = left * part.weight / sum(later.weight for later in parts[index:]) - GRACE_S
        outcome, decision = "skipped: the budget is used up", ""
        try:
            if limit > MARGIN_S:
                emit(f"## {part.title}\n\n")
                outcome, decision = _run(part, options, limit, emit)
                emit("\n" if outcome == "ok" else f"\n**{part.name}: {outcome}**\n\n")
        except KeyboardInterrupt:
            outcomes.append(Outcome(part, time.monotonic() - began, "interrupted", ""))
            break
        outcomes.append(Outcome(part, time.monotonic() - began, outcome, decision))
    return outcomes


def _run(part: Part, options: Options, limit: float, emit: Callable[[str], None]) -> tuple[str, str]:
    """The outcome and the decision."""
    given = dataclasses.replace(options, seconds=limit - MARGIN_S)
    decision = ""
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", part.module, given.dump()],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True, errors="replace",
            process_group=0, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        ends = time.monotonic() + limit
        alarm = threading.Timer(limit, end, (process,))
        alarm.start()
        try:
            assert process.stdout is not None
            with process.stdout:
                # Also what it says on being told to stop: the pipe's end is that of the last process below.
                for line in process.stdout:
                    if line.startswith(DECIDES):
                        decision = line.removeprefix(DECIDES).strip()
                    else:
                        emit(line.removesuffix("\n") + "\n")
            process.wait()
            cut_off = time.monotonic() >= ends
        finally:
            alarm.cancel()
            alarm.join()
            end(process)
        log.seek(0)
        said = log.read()
    if cut_off:
        return f"cut off after {limit:.0f} s", decision
    if process.returncode:
        sys.stderr.write(said)
        last = (said.strip().splitlines() or [f"exit status {process.returncode}"])[-1]
        return f"failed: {last}", decision
    return "ok", decision


def end(process: subprocess.Popen[str]) -> None:
    """SIGTERM to the group, some seconds to stop its servers, SIGKILL to all that is still below this process."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
    # More than once: a process may have been starting another.
    while members := descendants(os.getpid()):
        for pid in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            if pid != process.pid:
                with contextlib.suppress(ChildProcessError):  # another one's child, until that one is gone
                    os.waitpid(pid, os.WNOHANG)
        process.poll()
        time.sleep(0.01)
    process.wait()
