"""Runs the parts: each a process with a time limit, whose output is passed on as it comes.

A part that fails, hangs or is cut off costs its own figures only. Every process below this one is gone when it ends:
it is the reaper of its descendants (PR_SET_CHILD_SUBREAPER), so that none escapes by losing its parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import IO, NamedTuple

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
        if limit <= MARGIN_S:
            outcomes.append(Outcome(part, 0.0, "skipped: the budget is used up", ""))
            continue
        try:
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
    given = Options(options.device, limit - MARGIN_S, options.images, options.program)
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", part.module, given.dump()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            process_group=0,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        try:
            assert process.stdout is not None
            deadline = time.monotonic() + limit
            in_time, decision = _pass_on(process.stdout, deadline, emit)
            if in_time:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline - time.monotonic()))
        finally:
            end(process)
        # What it said on being told to stop.
        _, late = _pass_on(process.stdout, time.monotonic() + 0.1, emit)
        process.stdout.close()
        if not in_time:
            outcome = f"cut off after {limit:.0f} s"
        elif process.returncode:
            errors.seek(0)
            said = errors.read().decode(errors="replace")
            sys.stderr.write(said)
            lines = said.strip().splitlines()
            outcome = f"failed: {lines[-1] if lines else f'exit status {process.returncode}'}"
        else:
            outcome = "ok"
    return outcome, late or decision


def _pass_on(stream: IO[bytes], deadline: float, emit: Callable[[str], None]) -> tuple[bool, str]:
    """Until the stream's end; whether that came before ``deadline``, and the last decision. Keeps incomplete lines."""
    decision, pending, ended = "", b"", False
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while not ended and (left := deadline - time.monotonic()) > 0:
            if selector.select(left):
                chunk = os.read(stream.fileno(), 65536)
                ended = not chunk
                *lines, pending = (pending + chunk).split(b"\n")
                if ended and pending:
                    lines.append(pending)
                    pending = b""
                for line in lines:
                    text = line.decode(errors="replace")
                    if text.startswith(DECIDES):
                        decision = text.removeprefix(DECIDES)
                    else:
                        emit(text + "\n")
    if pending:
        emit(pending.decode(errors="replace") + "\n")
    return ended, decision


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the group, some seconds to stop its servers, SIGKILL to all that is still below this process."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
    # More than once: a process may have been starting another.
    while members := descendants(os.getpid()):
        for pid, _ in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            if pid != process.pid:
                with contextlib.suppress(ChildProcessError):  # another one's child, until that one is gone
                    os.waitpid(pid, os.WNOHANG)
        process.poll()
        time.sleep(0.01)
    process.wait()
