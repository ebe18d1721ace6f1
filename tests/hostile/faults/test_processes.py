"""Two minutes under load; every two seconds a worker or the engine is killed, or the engine is stopped for good.

``make torture ARGS=tests/hostile/faults`` prints the figures.
"""

from __future__ import annotations

import itertools
import math
import os
import random
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import httpx
import pytest

from service.model.artifact import Artifact
from tests import photos
from tests.e2e.process import ServerProcess, server
from tests.hostile.conftest import RecordFigure
from tests.processes import tree
from tests.waiting import until

SECONDS, EVERY_S, CLIENTS = 120.0, 2.0, 12
WORKERS = ("worker-0", "worker-1")
FAULTS = itertools.cycle([("kill", WORKERS), ("kill", ("engine-0",)), ("stop", ("engine-0",))])
#: Throughput is back with a window of so many seconds at this share of what it was.
WINDOW_S, BACK = 0.5, 0.7


class Ended(NamedTuple):
    at: float
    how: str  # right, wrong, closed, or a status


class Clients:
    """Each asks for photos in turn on a connection it keeps, and knows what the answers are."""

    def __init__(self, url: str, expected: list[tuple[bytes, list[int], list[float]]]) -> None:
        self._url, self._expected = url, expected
        self.ended: list[Ended] = []
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(CLIENTS)
        self._asking = [self._pool.submit(self._ask, seed) for seed in range(CLIENTS)]

    def stop(self) -> None:
        self._over.set()
        for client in self._asking:
            client.result(60)
        self._pool.shutdown()

    def _ask(self, seed: int) -> None:
        order = random.Random(seed)
        client = httpx.Client(base_url=self._url, timeout=30)
        while not self._over.is_set():
            data, classes, probabilities = order.choice(self._expected)
            try:
                answer = client.post("/classify", content=data)
            except httpx.TransportError:
                how = "closed"
            else:
                how = str(answer.status_code)
                if answer.status_code == 200:
                    found = answer.json()["results"][0]["predictions"]
                    alike = [p["index"] for p in found] == classes
                    near = [p["probability"] for p in found] == pytest.approx(probabilities, abs=1e-3)
                    how = "right" if alike and near else "wrong"
            self.ended.append(Ended(time.monotonic(), how))
            if how == "503":
                self._over.wait(0.02)  # a client that is refused does not ask again in the same millisecond
        client.close()

    def rate(self, begin: float, end: float) -> float:
        return sum(entry.how == "right" and begin <= entry.at < end for entry in list(self.ended)) / (end - begin)


def settled(running: ServerProcess) -> dict[str, int]:
    """All processes, once all are there and ready."""
    until(lambda: len(tree.children(running.process.pid)) == 3, timeout=20, what="three processes")
    until(lambda: tree.total(running, "mobilenet_processes", 'state="ready"') == 3, timeout=20, what="all are ready")
    return tree.children(running.process.pid)


@pytest.mark.torture
def test_two_minutes_of_kills_and_stops(real_artifact: Artifact, record_figure: RecordFigure) -> None:
    with server("--workers", "2", "--devices", "cpu", "--no-access-log") as running:
        with running.client() as client:
            expected = []
            for photo in photos.load():
                found = client.post("/classify", content=photo.data).json()["results"][0]["predictions"]
                expected.append((photo.data, [p["index"] for p in found], [p["probability"] for p in found]))
        members = settled(running)
        names = tree.names(running.process.pid)
        assert (len(names.sockets), len(names.directories), len(names.left())) == (1, 1, 2)
        open_before = tree.descriptors(running.process.pid)
        clients = Clients(running.url, expected)
        time.sleep(8)  # caches warm, then what is usual
        usual = clients.rate(time.monotonic() - 5, time.monotonic())
        faults = _faults(running)
        time.sleep(5)
        clients.stop()
        heirs = settled(running)
        assert set(heirs) == set(members)
        until(lambda: tree.total(running, "mobilenet_in_flight") == 0, timeout=10, what="nothing is under way")
        until(lambda: tree.total(running, "mobilenet_queue_depth") == 0, timeout=10, what="nothing waits")
        assert {name: tree.arenas(pid) for name, pid in heirs.items()} == {"engine-0": 2, "worker-0": 1, "worker-1": 1}
        assert tree.descriptors(running.process.pid) == open_before
        # More images at once than there are slots: each is answered.
        with ThreadPoolExecutor(80) as pool:
            asked = [
                pool.submit(httpx.post, f"{running.url}/classify", content=data, timeout=60)
                for data, *_ in expected * 4
            ]
        assert Counter(answer.result().status_code for answer in asked) == {200: 80}
        assert running.terminate() == 0
    assert not any(tree.alive(pid) for pid in {*members.values(), *heirs.values(), *(pid for _, _, pid in faults)})
    assert names.left() == set()

    ended = Counter(entry.how for entry in clients.ended)
    killed_workers = sum(what == "kill worker" for _, what, _ in faults)
    record_figure(f"faults in {SECONDS:.0f} s", str(len(faults)))
    record_figure("answers", f"{dict(ended)}, usually {usual:.0f}/s")
    for kind in ("kill worker", "kill engine", "stop engine"):
        times = sorted(_back_after(clients, at, usual) for at, what, _ in faults if what == kind)
        record_figure(f"throughput back after {kind}", f"{times[len(times) // 2]:.1f} s, at most {times[-1]:.1f} s")
        assert times[-1] <= 3.0, kind
    assert ended["wrong"] == 0
    assert set(ended) <= {"right", "503", "closed"}
    # A client has one request under way: what a killed worker had can be no more.
    assert ended["closed"] <= killed_workers * CLIENTS


def _faults(running: ServerProcess) -> list[tuple[float, str, int]]:
    """When, what, to whom; one every ``EVERY_S``, if there is somebody to do it to."""
    done = []
    ends = time.monotonic() + SECONDS
    at = time.monotonic()
    while at < ends:
        what, names = next(FAULTS)
        name = random.choice(names)
        present = tree.children(running.process.pid)
        if name in present:
            os.kill(present[name], signal.SIGKILL if what == "kill" else signal.SIGSTOP)
            done.append((time.monotonic(), f"{what} {name.partition('-')[0]}", present[name]))
        at += EVERY_S
        time.sleep(max(0.0, at - time.monotonic()))
    assert len(done) > 0.8 * SECONDS / EVERY_S
    return done


def _back_after(clients: Clients, at: float, usual: float) -> float:
    """Seconds from a fault to the end of the first window in which throughput is back."""
    ends = (step * 0.1 + WINDOW_S for step in range(100))
    return next((end for end in ends if clients.rate(at + end - WINDOW_S, at + end) >= BACK * usual), math.inf)
