"""Signals at any moment of a service's start, work and drain.

``make torture ARGS=tests/hostile/faults/test_signals.py`` prints a table of fifty moments for each.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.load import Load
from tests.e2e.process import ServerProcess, server
from tests.hostile.conftest import RecordFigure
from tests.hostile.faults.faulty import GOOD
from tests.hostile.faults.signalled import (
    Outcome,
    family,
    is_prepared,
    send,
    stop,
    table,
    wait_until_prepared,
    was_calm,
)
from tests.running import png
from tests.waiting import until

#: Seconds that the end of a service may take after SIGTERM; its drain may take 20.
A_FEW = 10.0

HARMLESS = [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2]

both = pytest.mark.parametrize("workers", ["0", "2"])
#: How many moments.
either = pytest.mark.parametrize(
    "moments", [pytest.param(6, marks=pytest.mark.slow), pytest.param(50, marks=pytest.mark.torture)]
)


def start_seconds(options: list[str]) -> float:
    """How long a start takes here and now."""
    began = time.monotonic()
    with server(*options) as running:
        assert running.url
        took = time.monotonic() - began
        assert running.terminate() == 0
    return took


@both
@either
def test_sigterm_at_any_moment_of_the_start_ends_it_with_status_0(
    tiny: list[str], workers: str, moments: int, record_figure: RecordFigure
) -> None:
    """From 0.03 s after exec until it has been ready for a while."""
    options = [*tiny, "--workers", workers]
    last = 1.5 * start_seconds(options)
    outcomes = []
    for count in range(moments):
        moment = 0.03 + (last - 0.03) * count / (moments - 1)
        with server(*options) as running:
            time.sleep(moment)
            prepared = is_prepared(running.process.pid)
            status, took = stop(running)
        outcomes.append(Outcome(f"{moment:.3f} s after exec", "SIGTERM", status, took, 0, not prepared))
    if moments > 6:
        record_figure(f"SIGTERM during the start, {workers} workers", table(outcomes))
    for outcome in outcomes:
        # Before its first line the interpreter is starting, which the kernel ends, or the line came just in time.
        assert outcome.status in ((0, -signal.SIGTERM) if outcome.unprepared else (0,)), outcome
        assert outcome.seconds < A_FEW, outcome
    assert not outcomes[-1].unprepared


@both
@either
def test_sigterm_at_any_moment_of_the_load_loses_nothing(
    tiny: list[str], workers: str, moments: int, record_figure: RecordFigure
) -> None:
    outcomes = []
    for count in range(max(2, moments // 5)):
        with server(*tiny, "--workers", workers) as running:
            load = Load(running.url, png(GOOD), clients=4)
            after = 1 + 37 * count
            until(lambda: len(load.answered) >= after, timeout=60, what="answers", every=0.001)  # noqa: B023
            members = family(running.process.pid)
            began = time.monotonic()
            load.run_until_terminated(running, after=after)
            took = time.monotonic() - began
            assert not any(map(_exists, members))
        was_calm(running)
        outcomes.append(Outcome(f"after {after} answers", "SIGTERM", 0, took, len(load.lost(running))))
        assert load.refused == []
    if moments > 6:
        record_figure(f"SIGTERM under load, {workers} workers", table(outcomes))
    assert [outcome.lost for outcome in outcomes] == [0] * len(outcomes)
    assert max(outcome.seconds for outcome in outcomes) < A_FEW


def _exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@contextmanager
def draining(running: ServerProcess) -> Iterator[None]:
    """A drain that lasts until the block ends: one request is under way, and is answered then."""
    body = png(GOOD)
    with running.connect() as connection:
        head = b"POST /classify HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
        connection.sendall(head % len(body))
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 "), "it is admitted"
        running.process.terminate()
        until(lambda: "draining" in running.output, timeout=60, what="the drain", every=0.001)
        yield
        connection.sendall(body)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


@both
@either
@pytest.mark.parametrize("number", HARMLESS, ids=lambda number: number.name)
def test_a_harmless_signal_at_any_moment_changes_nothing(
    tiny: list[str], workers: str, moments: int, number: signal.Signals, record_figure: RecordFigure
) -> None:
    """To every process of it: a third of the moments during the start, the load and the drain each."""
    share = moments // 3
    pause = start_seconds([*tiny, "--workers", workers]) / share
    with server(*tiny, "--workers", workers) as running:
        pid = running.process.pid
        wait_until_prepared(pid, number)
        for _ in range(share):
            send([pid], number)  # a process that it is just creating has no line run yet, and is replaced
            time.sleep(pause)
        load = Load(running.url, png(GOOD), clients=4)
        _wait_for_workers(running, int(workers))
        for _ in range(share):
            answered = len(load.answered)
            send(family(pid), number)
            until(lambda: len(load.answered) >= answered + 8, timeout=60, what="answers", every=0.001)  # noqa: B023
        with draining(running):
            began = time.monotonic()
            for _ in range(share):
                send(family(pid), number)
                time.sleep(0.01)
        # And on to its very end.
        while running.process.poll() is None:
            send([pid], number)
            time.sleep(0.0005)
        status, took = running.wait(), time.monotonic() - began
        load.run_out()
    was_calm(running)
    lost = {name for name in load.lost(running) if "-" in name}  # not the last one, which is none of the load
    if moments > 6:
        what = f"{moments} × {number.name}"
        record_figure(
            f"{number.name}, {workers} workers", table([Outcome("start, load, drain", what, status, took, len(lost))])
        )
    assert (status, lost, load.refused) == (0, set(), [])


def _wait_for_workers(running: ServerProcess, workers: int) -> None:
    ready = f'mobilenet_processes{{kind="worker",state="ready"}} {workers}.0'
    with running.client() as client:
        until(lambda: not workers or ready in client.get("/metrics").text, timeout=60, what="all workers are ready")


@both
@pytest.mark.slow
def test_a_thousand_hang_ups_in_a_row_change_nothing(tiny: list[str], tmp_path: Path, workers: str) -> None:
    """While it reads a thousand keys for each, as fast as they can be sent."""
    keys = tmp_path / "keys"
    keys.write_text("".join(f"key-{number}\n" for number in range(1000)))
    with server(*tiny, "--workers", workers, "--api-keys-file", str(keys)) as running, running.client() as client:
        assert running.url
        _wait_for_workers(running, int(workers))
        members = family(running.process.pid)
        for _ in range(1000):
            send(members, signal.SIGHUP)
        for key, status in (("key-999", 200), ("key-1000", 401)):
            answer = client.post("/classify", content=png(GOOD), headers={"X-API-Key": key})
            assert answer.status_code == status
        assert family(running.process.pid) == members
        assert stop(running)[0] == 0
    assert "the keys have been read again keys=1000" in running.output


@both
@pytest.mark.slow
def test_hang_ups_while_it_ends_do_not_change_how(tiny: list[str], workers: str) -> None:
    """From SIGTERM to the last moment, thousands in a second."""
    with server(*tiny, "--workers", workers) as running:
        assert running.url
        members = family(running.process.pid)
        over = threading.Event()

        def rain() -> None:
            while not over.is_set():
                running.process.send_signal(signal.SIGHUP)
                time.sleep(0.0002)  # who sends without a pause lets nothing else happen

        sender = threading.Thread(target=rain)
        sender.start()
        try:
            assert running.terminate() == 0
        finally:
            over.set()
            sender.join(30)
        assert not any(map(_exists, members))
    was_calm(running)
