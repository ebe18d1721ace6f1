"""A supervisor with its processes: what they answer, what they are, and how they end."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from service.model.artifact import WEIGHTS, Artifact
from tests.artifacts import make_artifact
from tests.e2e.load import Load
from tests.e2e.process import ServerProcess, server
from tests.photos import Photo
from tests.photos import load as load_photos
from tests.processes import tree
from tests.running import png
from tests.waiting import until

pytestmark = pytest.mark.slow


@pytest.fixture
def store(tmp_path: Path) -> Path:
    make_artifact(tmp_path, name="tiny", num_classes=3)
    return tmp_path


@pytest.fixture
def tiny(store: Path) -> list[str]:
    """Two workers and an engine over a model that loads in no time."""
    return ["--model-store", str(store), "--model", "tiny", "--workers", "2", "--devices", "cpu"]


@pytest.fixture(scope="module")
def photos() -> list[Photo]:
    return load_photos()


@pytest.fixture(scope="module")
def many(real_artifact: Artifact) -> Iterator[ServerProcess]:
    """For tests that only look: two workers and an engine, with the default model."""
    with server("--workers", "2", "--devices", "cpu", "--log-format", "json") as running:
        yield running
        assert running.terminate() == 0
    assert "Traceback" not in running.output


def test_many_processes_answer_as_one_does(many: ServerProcess, photos: list[Photo]) -> None:
    with server() as one:
        with many.client() as client, one.client() as other:
            for photo in photos:
                answers = [
                    c.post("/classify?top_k=5", content=photo.data).json()["results"][0] for c in (client, other)
                ]
                found, expected = (answer["predictions"] for answer in answers)
                assert [p["index"] for p in found] == [p["index"] for p in expected]
                assert [p["probability"] for p in found] == pytest.approx(
                    [p["probability"] for p in expected], abs=1e-4
                )
            files = [("file", (f"{i}.jpg", photo.data)) for i, photo in enumerate(photos)]
            embeddings = [c.post("/embed", files=files).json()["results"] for c in (client, other)]
            for here, there in zip(*embeddings, strict=True):
                assert here["embedding"] == pytest.approx(there["embedding"], abs=1e-4)
            began = time.monotonic()
            timing = client.post("/classify", content=photos[0].data).headers["server-timing"]
            elapsed_ms = (time.monotonic() - began) * 1e3
            stages = {name: float(value) for name, value in re.findall(r"(\w+);dur=([\d.]+)", timing)}
            assert list(stages) == ["read", "decode", "queue", "infer", "encode"]
            assert 0 < sum(stages.values()) < elapsed_ms, "times of two processes, measured where they pass, add up"
            card = client.get("/models").json()["models"][0]
            assert card["ready"]
            assert card["runtime"]["name"] == "openvino"
        members = tree.all_children(many.process.pid)
        assert set(members) == {"engine-0", "worker-0", "worker-1"}
        for name, pid in members.items():
            computes = bool(tree.mapped(pid, r"openvino|libtorch"))
            assert computes == name.startswith("engine"), name
        for name in ("worker-0", "worker-1"):
            # What a burst took, twenty photos at once here, is given back when it has been over for ten seconds.
            until(partial(_takes_less_than_90_mb, members[name]), timeout=20, what="less than 90 MB")


def test_it_stops_without_losing_a_request_and_leaves_nothing(tiny: list[str]) -> None:
    with server(*tiny) as running:
        url = running.url
        members = tree.all_children(running.process.pid)
        names = tree.names(running.process.pid)
        assert (len(names.sockets), len(names.directories), len(names.left())) == (1, 1, 2)
        load = Load(url, png(1), clients=4)
        load.run_until_terminated(running, after=101)
        taken = load.taken(running)
    assert not load.refused
    assert set(taken.values()) <= {200}
    assert taken.keys() == set(load.answered), "what was taken was answered, and nothing else"
    assert not any(tree.alive(pid) for pid in members.values())
    assert names.left() == set()
    assert "Traceback" not in running.output


@pytest.mark.parametrize(
    "stopped",
    [None, *(pytest.param(name, marks=pytest.mark.torture) for name in ("engine-0", "worker-1"))],
)
def test_kill_9_of_the_supervisor_leaves_no_process(tiny: list[str], stopped: str | None) -> None:
    with server(*tiny) as running:
        assert running.url
        members = tree.all_children(running.process.pid)
        names = tree.names(running.process.pid)
        (left,) = names.directories
        if stopped is not None:
            os.kill(members[stopped], signal.SIGSTOP)
        running.process.kill()
        until(lambda: not any(map(tree.alive, members.values())), timeout=5, what="its children are gone")
        until(running.refuses_connections, timeout=5, what="its port is closed")
    assert names.left() == {str(left)}
    with server(*tiny) as running:
        assert running.url
        assert not left.exists(), "the next start removes it"


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("engine-0", signal.SIGKILL),
        ("worker-0", signal.SIGSTOP),
        pytest.param("engine-0", signal.SIGSTOP, marks=pytest.mark.torture),
        pytest.param("worker-0", signal.SIGKILL, marks=pytest.mark.torture),
    ],
)
def test_what_dies_or_falls_silent_is_replaced(tiny: list[str], name: str, number: signal.Signals) -> None:
    with server(*tiny) as running:
        url = running.url
        # One worker is enough for readiness; one that still starts may be silent for long.
        until(lambda: ready_processes(running) == 3, timeout=30, what="all are ready")
        victim = tree.all_children(running.process.pid)[name]
        answered = total_requests(running)
        os.kill(victim, number)
        until(
            lambda: tree.children(running.process.pid).get(name, victim) != victim and not tree.alive(victim),
            timeout=10,
            what="another process",
        )
        until(lambda: httpx.get(f"{url}/readyz").status_code == 200, timeout=10, what="it is ready again")
        assert httpx.post(f"{url}/classify", content=png(2)).status_code == 200
        reason = "killed" if number == signal.SIGKILL else "silent"
        exits = list(tree.samples(running, "mobilenet_process_exits_total"))
        assert exits == [(f'process="{name}",reason="{reason}"', 1.0)]
        assert total_requests(running) >= answered, "counters go on where they were"
        assert running.terminate() == 0


def _takes_less_than_90_mb(pid: int) -> bool:
    return tree.resident(pid) < 90 * 1e6 / 2**20


def ready_processes(running: ServerProcess) -> float:
    return tree.total(running, "mobilenet_processes", 'state="ready"')


def total_requests(running: ServerProcess) -> float:
    return tree.total(running, "mobilenet_requests_total")


def test_metrics_are_those_of_all_processes_and_outlive_one(tiny: list[str]) -> None:
    with server(*tiny) as running:
        assert running.url
        until(lambda: ready_processes(running) == 3, timeout=60, what="all are ready")
        for _ in range(30):
            assert httpx.post(f"{running.url}/classify", content=png(3)).status_code == 200
        assert tree.total(running, "mobilenet_requests_total", 'endpoint="classify"') == 30
        assert tree.total(running, "mobilenet_batch_size_sum") == 30, "the engine's"
        assert tree.total(running, "mobilenet_ready") == 1
        limit = tree.total(running, "mobilenet_in_flight_limit")
        processes = dict(tree.samples(running, "process_resident_memory_bytes"))
        assert len(processes) == 4
        os.kill(tree.all_children(running.process.pid)["worker-0"], signal.SIGSTOP)
        until(
            lambda: tree.total(running, "mobilenet_in_flight_limit") == limit / 2,
            timeout=10,
            what="a dead worker's gauges are gone",
            every=0.02,
        )
        until(
            lambda: tree.total(running, "mobilenet_in_flight_limit") == limit, timeout=10, what="and its heir's there"
        )
        assert tree.total(running, "mobilenet_requests_total", 'endpoint="classify"') == 30
        assert running.terminate() == 0


def test_an_operators_error_is_said_once_and_ends_it(store: Path, tiny: list[str]) -> None:
    weights = store / "tiny" / "1" / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with server(*tiny) as running:
        assert running.wait() == 1
    assert running.output.count("error: tiny/1") == 1
    assert "Traceback" not in running.output


def test_an_engine_that_never_starts_again_ends_the_service_loudly(tiny: list[str]) -> None:
    with server(*tiny) as running:
        assert running.url
        (directory,) = tree.names(running.process.pid).directories
        (copied,) = directory.glob(f"*/tiny/1/{WEIGHTS}")
        copied.write_bytes(b"no weights")
        os.kill(tree.all_children(running.process.pid)["engine-0"], signal.SIGKILL)
        assert running.wait() == 1
    assert f"tiny/1: {WEIGHTS} is corrupt" in running.output
    assert "gave up on a process that does not start" in running.output
    assert running.output.count("a process has ended ended=engine-0") == 6
    assert "Traceback" not in running.output


def test_a_second_signal_ends_it_at_once(tiny: list[str]) -> None:
    with server(*tiny) as running:
        assert running.url
        members = tree.all_children(running.process.pid)
        with running.connect() as connection:
            connection.sendall(b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
            until(lambda: tree.total(running, "mobilenet_in_flight") > 0, timeout=10, what="it is under way")
            running.process.send_signal(signal.SIGTERM)
            until(lambda: "draining" in running.output, timeout=10, what="the drain")
            running.process.send_signal(signal.SIGTERM)
            assert running.wait() == 128 + signal.SIGTERM
        until(lambda: not any(map(tree.alive, members.values())), timeout=5, what="its children are gone")


def test_the_logs_of_all_processes_carry_their_names(many: ServerProcess) -> None:
    def names() -> set[str]:
        assert httpx.get(f"{many.url}/models").status_code == 200  # by one worker or the other
        return {json.loads(line).get("process") for line in list(many.lines) if line.startswith("{")}

    until(lambda: {"engine-0", "worker-0", "worker-1"} <= names(), timeout=10, what="all have logged")


def test_connections_opened_at_once_are_spread_over_the_workers(many: ServerProcess) -> None:
    def share() -> Counter[str]:
        lines = [line for line in list(many.lines) if '"path": "/openapi.json"' in line]
        return Counter(json.loads(line)["process"] for line in lines)

    until(lambda: ready_processes(many) == 3, timeout=30, what="all are ready")
    opened = [many.connect() for _ in range(32)]
    try:
        for connection in opened:
            connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n")
        for connection in opened:
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
    finally:
        for connection in opened:
            connection.close()
    until(lambda: share().total() == 32, timeout=10, what="all are in the log")
    assert min(share()["worker-0"], share()["worker-1"]) >= 8, share()
