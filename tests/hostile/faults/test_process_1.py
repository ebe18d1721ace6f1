"""A service that is process 1 of its container: the kernel keeps from it every signal that it does not catch."""

from __future__ import annotations

import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.process import ServerProcess, server
from tests.hostile.conftest import RecordFigure
from tests.hostile.faults.namespaces import as_process_1
from tests.hostile.faults.signalled import (
    Outcome,
    family,
    is_prepared,
    send,
    table,
    wait_until_prepared,
    was_calm,
)
from tests.processes import tree
from tests.waiting import until

pytestmark = pytest.mark.slow


def process_1(running: ServerProcess) -> int:
    """Its id as seen from here. What ``unshare`` was started from has been replaced by it, and that by the service."""

    def found() -> list[int]:
        return [pid for pid in family(running.process.pid)[1:] if b"\0serve\0" in _command_line(pid)]

    until(lambda: found() != [] and _own_id(found()[0]) == 1, timeout=60, what="the service", every=0.001)
    return found()[0]


def _command_line(pid: int) -> bytes:
    command = Path(f"/proc/{pid}/cmdline").read_bytes()
    return b"" if command.startswith(b"unshare") else command


def _own_id(pid: int) -> int:
    match = re.search(r"^NSpid:.*\t(\d+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert match is not None
    return int(match[1])


@pytest.mark.parametrize("workers", ["0", "2"])
def test_sigterm_ends_it_with_status_0_from_its_first_line_on(
    tiny: list[str], workers: str, record_figure: RecordFigure
) -> None:
    program = as_process_1()
    outcomes = []
    for moment in (0.0, 0.02, 0.1, 0.3, 0.8, None):
        with server(*tiny, "--workers", workers, program=program) as running:
            pid = process_1(running)
            wait_until_prepared(pid)
            if moment is None:
                assert running.url
            else:
                time.sleep(moment)
            members = family(pid)
            began = time.monotonic()
            send([pid], signal.SIGTERM)
            status = running.wait()
            took = time.monotonic() - began
            until(lambda: not any(map(tree.alive, members)), timeout=10, what="all are gone")  # noqa: B023
        was_calm(running)
        when = "ready" if moment is None else f"{moment:.2f} s after its first line"
        outcomes.append(Outcome(when, "SIGTERM", status, took, 0))
    record_figure(f"SIGTERM to process 1, {workers} workers", table(outcomes))
    assert [outcome.status for outcome in outcomes] == [0] * len(outcomes)
    assert max(outcome.seconds for outcome in outcomes) < 10


@pytest.mark.parametrize("workers", ["0", "2"])
def test_harmless_signals_do_not_end_it(tiny: list[str], workers: str) -> None:
    with server(*tiny, "--workers", workers, program=as_process_1()) as running:
        pid = process_1(running)
        wait_until_prepared(pid, signal.SIGHUP)
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            send([pid], number)
        assert running.url
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            send([pid], number)
        with running.client() as client:
            assert client.get("/readyz").status_code == 200
        send([pid], signal.SIGTERM)
        assert running.wait() == 0
    was_calm(running)


def test_how_long_it_is_deaf_at_its_start(record_figure: RecordFigure) -> None:
    """Until its first line the interpreter starts, in which time the kernel drops what is sent to process 1."""
    deaf = []
    for _ in range(10):
        with subprocess.Popen([sys.executable, "-m", "service", "serve", "--help"], stdout=subprocess.DEVNULL) as begun:
            began = time.monotonic()
            while not is_prepared(begun.pid):
                assert begun.poll() is None
                time.sleep(0.0005)
            deaf.append(time.monotonic() - began)
    shown = f"{statistics.median(deaf) * 1e3:.0f} ms, at most {max(deaf) * 1e3:.0f} ms"
    record_figure("from exec to the first line, in which process 1 of a container is deaf", shown)
    assert min(deaf) < 1
