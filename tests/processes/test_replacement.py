"""The served version is replaced by another under load, or overwritten on disk: no request is lost, no answer wrong."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest

from service.model import artifact
from service.store.write import manifest_bytes, serialize
from tests.artifacts import digest, make_artifact
from tests.disks import Disk, disk
from tests.e2e.process import PATIENT, ServerProcess, server
from tests.processes import changing, tree
from tests.running import png
from tests.waiting import until

__all__ = ["disk"]  # a fixture

pytestmark = pytest.mark.slow

FIRST, SECOND = {"engine-0", "worker-0", "worker-1"}, {"engine-1", "worker-2", "worker-3"}
BODY = png(1)


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1 and 2 are sound. The weights of 3 are as its manifest says, and no network."""
    store = tmp_path_factory.mktemp("versions")
    for version in ("1", "2", "3"):
        made = make_artifact(store, version=version, seed=int(version), width_mult=0.1, num_classes=3)
    weights = made.load_weights()
    weights["classifier.1.bias"] = np.full_like(weights["classifier.1.bias"], np.nan)
    data = serialize(weights)
    (made.directory / artifact.WEIGHTS).write_bytes(data)
    manifest = made.manifest.model_copy(update={"weights": digest(data)})
    (made.directory / artifact.MANIFEST).write_bytes(manifest_bytes(manifest))
    return store


@pytest.fixture
def store(versions: Path, tmp_path: Path) -> Path:
    return shutil.copytree(versions, tmp_path / "store")


class Answer(NamedTuple):
    version: str
    probabilities: list[float]


def answer_of(response: httpx.Response) -> Answer:
    body = response.raise_for_status().json()
    found = sorted(body["results"][0]["predictions"], key=lambda prediction: prediction["index"])
    return Answer(body["version"], [prediction["probability"] for prediction in found])


class Service:
    """A service that changes its version when it is told to."""

    def __init__(self, running: ServerProcess, directory: Path) -> None:
        self.running = running
        self.url = running.url
        self.pid = running.process.pid
        self._directory = directory
        self._pool = ThreadPoolExecutor()

    def change(self, version: str) -> dict[str, Any]:
        """The verdict."""
        with socket.socket(socket.AF_UNIX) as connection, connection.makefile() as lines:
            connection.settimeout(100)
            connection.connect(str(self._directory / "socket"))
            connection.sendall(json.dumps({"tiny": {"stable": version}}).encode() + b"\n")
            verdict: dict[str, Any] = json.loads(lines.readline())
            return verdict

    @contextmanager
    def changing(self, version: str) -> Iterator[Future[dict[str, Any]]]:
        """While the block runs, the change is under way: its engine waits."""
        held = self._directory / "engine-1"
        held.touch()
        verdict = self._pool.submit(self.change, version)
        until(lambda: self.processes().keys() >= SECOND, timeout=60, what="all new processes are there")
        yield verdict
        held.unlink()

    def ask(self) -> Answer:
        return answer_of(httpx.post(f"{self.url}/classify", content=BODY, timeout=60))

    def is_ready(self) -> bool:
        return httpx.get(f"{self.url}/readyz", timeout=60).status_code == 200

    def processes(self) -> dict[str, int]:
        return tree.children(self.pid)

    def kill(self, name: str) -> None:
        """And wait until another process has its name."""
        victim = self.processes()[name]
        os.kill(victim, signal.SIGKILL)
        until(lambda: self.processes().get(name, victim) != victim, timeout=60, what=f"another {name}")

    def settle(self, names: set[str]) -> None:
        """Until these are all its processes, and ready."""
        until(lambda: self.processes().keys() == names, timeout=60, what=f"{names} alone")
        until(self._all_ready, timeout=60, what="all are ready")
        until(self.is_ready, timeout=60, what="it is ready")  # the number is up to a second old

    def _all_ready(self) -> bool:
        return tree.total(self.running, "mobilenet_processes", 'state="ready"') == 3

    def stop(self) -> None:
        self.running.process.kill()
        self._pool.shutdown()


@pytest.fixture
def service(store: Path, tmp_path: Path) -> Iterator[Service]:
    """With version 1."""
    (tmp_path / "changing").mkdir()
    with started(store, tmp_path / "changing") as running:
        made = Service(running, tmp_path / "changing")
        made.settle(FIRST)
        yield made
        made.stop()
    assert "Traceback" not in running.output
    assert "mobilenet-metrics" not in running.output, "where the copies are is nobody's concern"


@contextmanager
def started(store: Path, directory: Path, **environment: str) -> Iterator[ServerProcess]:
    options = ("--model-store", str(store), "--model", "tiny", "--workers", "2", "--devices", "cpu", *PATIENT)
    environment["CHANGING"] = str(directory)
    with server(*options, environment=environment, program=changing.PROGRAM) as running:
        yield running


class Clients:
    """Half of them on connections they keep, the others on a new one for each request. Each also asks for readiness."""

    def __init__(self, url: str, count: int = 6) -> None:
        self._url = url
        self._over = threading.Event()
        self.answers: list[tuple[float, Answer]] = []  # and when each was asked for
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._ask, args=(number % 2 == 0,)) for number in range(count)]
        for thread in self._threads:
            thread.start()

    def _ask(self, keep: bool) -> None:
        limits = httpx.Limits() if keep else httpx.Limits(max_keepalive_connections=0)
        with httpx.Client(base_url=self._url, timeout=60, limits=limits) as client:
            while not self._over.is_set():
                began = time.monotonic()
                try:
                    self.answers.append((began, answer_of(client.post("/classify", content=BODY))))
                    client.get("/readyz").raise_for_status()
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))

    def wait_for(self, more: int) -> None:
        enough = len(self.answers) + more
        until(lambda: len(self.answers) >= enough, timeout=60, what=f"{more} answers", every=0.01)

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)


@pytest.mark.parametrize("changes", [2, pytest.param(20, marks=pytest.mark.torture)])
def test_a_change_under_load_loses_no_request(service: Service, changes: int, report: Callable[[str], None]) -> None:
    expected = {"1": service.ask()}
    limit = tree.total(service.running, "mobilenet_in_flight_limit")
    clients = Clients(service.url)
    since, seconds = [(0.0, "1")], []
    for version, names in itertools.islice(itertools.cycle([("2", SECOND), ("1", FIRST)]), changes):
        clients.wait_for(more=50)
        verdict = service.change(version)
        since.append((time.monotonic(), version))
        seconds.append(verdict["figures"]["seconds"])
        assert verdict == {
            "ok": True,
            "reason": "switched",
            "sentence": f"tiny/{version} is served now",
            "figures": verdict["figures"],
        }
        expected[version] = service.ask()
        service.settle(names)
    clients.wait_for(more=50)
    clients.stop()
    report(
        f"{len(clients.answers)} requests during {changes} changes, {len(clients.failures)} failed; "
        f"a change took {min(seconds):.1f} to {max(seconds):.1f} s"
    )
    assert clients.failures == []
    assert expected["1"].probabilities != pytest.approx(expected["2"].probabilities, abs=0.01)
    for began, answer in clients.answers:
        assert answer.probabilities == pytest.approx(expected[answer.version].probabilities, abs=1e-3)
        last = max(count for count, (at, _) in enumerate(since) if at <= began)
        assert answer.version in {version for _, version in since[last : last + 2]}
    assert {answer.version for began, answer in clients.answers if began >= since[-1][0]} == {since[-1][1]}
    assert tree.total(service.running, "mobilenet_in_flight_limit") == limit, "who has gone has left its gauges"
    asked = tree.total(service.running, "mobilenet_requests_total", 'endpoint="classify"')
    assert asked == len(clients.answers) + 1 + changes, "and its counters count"
    assert service.running.terminate() == 0


@pytest.mark.parametrize(
    ("version", "reason", "sentence"),
    [
        ("3", "not_finite", "tiny/3: classifier.1.bias holds values that are not finite"),
        ("4", "missing", "no model tiny/4 in {store}; see: mobilenet-service models list"),
        (
            "2",
            "corrupt",
            "tiny/2: weights.safetensors is corrupt (its sha256 is not the manifest's); "
            "add the checkpoint again with: mobilenet-service models add",
        ),
        ("1", "unchanged", "tiny/1 is served already"),
    ],
)
def test_what_cannot_be_served_changes_nothing(
    service: Service, store: Path, version: str, reason: str, sentence: str
) -> None:
    if reason == "corrupt":
        weights = store / "tiny" / "2" / artifact.WEIGHTS
        weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    before, processes, names = service.ask(), service.processes(), tree.names(service.pid)
    for _ in range(2):
        verdict = service.change(version)
        assert (verdict["ok"], verdict["reason"]) == (reason == "unchanged", reason)
        assert verdict["sentence"] == sentence.format(store=store)
        assert service.processes() == processes
        assert service.ask().probabilities == pytest.approx(before.probabilities, abs=1e-4)
        assert tree.names(service.pid) == names
        (directory,) = names.directories
        assert [path.name for path in directory.glob("versions-*")] == ["versions-0"]
    assert service.running.output.count("tiny/3: classifier.1.bias holds values that are not finite") == (
        2 if reason == "not_finite" else 0
    )
    assert service.running.terminate() == 0
    assert names.left() == set()


def test_processes_that_die_during_a_change_are_replaced_as_ever(service: Service) -> None:
    before = service.ask()
    with service.changing("2") as verdict:
        for name in ("engine-0", "worker-0"):
            service.kill(name)
        until(service.is_ready, timeout=60, what="it answers again")
        assert service.ask().probabilities == pytest.approx(before.probabilities, abs=1e-4)
        second = service.change("1")
        assert (second["reason"], second["sentence"]) == ("busy", "another change is under way; wait for its end")
    assert verdict.result(60)["ok"]
    service.settle(SECOND)
    after = service.ask()
    assert after.version == "2"
    for name in ("engine-1", "worker-2"):
        service.kill(name)
        service.settle(SECOND)
        assert service.ask().probabilities == pytest.approx(after.probabilities, abs=1e-4)
    assert service.running.terminate() == 0


@pytest.mark.parametrize("name", ["engine-1", pytest.param("worker-3", marks=pytest.mark.torture)])
def test_a_new_process_that_dies_ends_the_change_and_nothing_else(service: Service, name: str) -> None:
    before, processes = service.ask(), service.processes()
    with service.changing("2") as verdict:
        os.kill(service.processes()[name], signal.SIGKILL)
        refused = verdict.result(60)
    assert (refused["ok"], refused["reason"], refused["sentence"]) == (
        False,
        "failed",
        f"tiny/2 is not served: {name} ended (killed, status -9); the log has its error",
    )
    service.settle(FIRST)
    assert service.processes() == processes
    assert service.ask().probabilities == pytest.approx(before.probabilities, abs=1e-4)
    assert service.change("2")["ok"], "nothing is left of the first attempt"
    assert service.ask().version == "2"
    assert service.running.terminate() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_service_that_ends_during_a_change_leaves_nothing(service: Service, number: signal.Signals) -> None:
    with service.changing("2"):
        processes, names = service.processes(), tree.names(service.pid)
        assert processes.keys() == FIRST | SECOND
        assert (len(names.sockets), len(names.directories)) == (2, 1)
        os.kill(service.pid, number)
        assert service.running.wait() == (0 if number == signal.SIGTERM else -number)
        until(lambda: not any(map(tree.alive, processes.values())), timeout=10, what="its processes are gone")
    # The next service removes what a killed one could not.
    assert names.left() == (set() if number == signal.SIGTERM else set(map(str, names.directories)))


def test_a_version_that_is_overwritten_stays_what_it_was_until_it_is_changed(service: Service, store: Path) -> None:
    before = service.ask()
    shutil.rmtree(store / "tiny" / "1")
    other = make_artifact(store, version="1", seed=7, width_mult=0.1, num_classes=3)
    for name in ("engine-0", "worker-0", "worker-1"):
        service.kill(name)
        service.settle(FIRST)
        assert service.ask().probabilities == pytest.approx(before.probabilities, abs=1e-4)
    assert service.change("1")["reason"] == "switched"
    assert service.ask().probabilities != pytest.approx(before.probabilities, abs=0.01)
    (card,) = httpx.get(f"{service.url}/models").json()["models"]
    assert card["weights_sha256"] == other.digest
    assert service.running.terminate() == 0


def test_memory_that_is_full_is_one_line_at_the_start_and_a_change_that_is_refused(
    store: Path, tmp_path: Path, disk: Disk
) -> None:
    sentence = f"cannot be copied to {disk.path}, where processes load it from: No space left on device; make room"
    disk.fill()
    with started(store, tmp_path, CHANGING_MEMORY=str(disk.path)) as running:
        assert running.wait() == 1
    (line,) = running.lines
    assert line.startswith(f"error: tiny/1 {sentence}")
    disk.empty()
    assert list(disk.path.iterdir()) == []
    with started(store, tmp_path, CHANGING_MEMORY=str(disk.path)) as running:
        service = Service(running, tmp_path)
        service.settle(FIRST)
        disk.fill()
        refused = service.change("2")
        assert (refused["ok"], refused["reason"]) == (False, "failed")
        assert refused["sentence"].startswith(f"tiny/2 {sentence}")
        assert service.ask().version == "1"
        disk.empty()
        assert service.change("2")["ok"]
        service.settle(SECOND)
        assert running.terminate() == 0
        service.stop()
    assert list(disk.path.iterdir()) == []
