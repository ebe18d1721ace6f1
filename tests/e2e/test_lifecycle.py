"""Start, stop and failure of the server process."""

from __future__ import annotations

import json
import signal
import socket
import time
from pathlib import Path

import pytest

from service.model.artifact import WEIGHTS, Artifact
from tests.artifacts import make_artifact
from tests.e2e.load import Load
from tests.e2e.process import ServerProcess, server
from tests.photos import Photo
from tests.waiting import until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store")
    make_artifact(path, name="tiny", num_classes=3)
    return path


def tiny(store: Path) -> list[str]:
    return ["--model-store", str(store), "--model", "tiny"]


def test_it_says_where_to_go_and_stops_cleanly(store: Path) -> None:
    with server(*tiny(store)) as running:
        with running.client() as client:
            assert client.get("/readyz").status_code == 200
        for path in ("/ ", "/classify", "/explain", "/embed", "/metrics"):
            assert f"{running.url}{path}" in running.output
        assert running.terminate() == 0
    assert "stopped" in running.output
    assert "Traceback" not in running.output


def test_sigterm_under_load_loses_no_request_it_has_taken(real_artifact: Artifact, photos: list[Photo]) -> None:
    with server() as running:
        load = Load(running.url, photos[0].data)
        load.run_until_terminated(running)
    assert load.lost(running) == set()
    assert load.refused == []


def drain_with_one_in_flight(running: ServerProcess) -> None:
    """Wait until the request that was begun is admitted, then until SIGTERM has been noticed."""
    with running.client() as client:
        until(lambda: "mobilenet_in_flight 1.0" in client.get("/metrics").text, timeout=60, what="admitted", every=0.01)
    running.process.send_signal(signal.SIGTERM)
    until(lambda: "draining" in running.output, timeout=60, what="the drain", every=0.01)


def test_a_request_in_flight_is_answered_after_sigterm(real_artifact: Artifact, photos: list[Photo]) -> None:
    with server() as running:
        body = photos[0].data
        with running.connect() as connection:
            connection.sendall(b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body))
            connection.sendall(body[:1000])
            drain_with_one_in_flight(running)
            connection.sendall(body[1000:])
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert running.wait() == 0


def test_a_request_that_never_ends_is_cut_off_by_the_drain(store: Path) -> None:
    arguments = ["--drain-timeout-ms", "1000", "--request-timeout-ms", "600000"]
    with server(*tiny(store), *arguments) as running:
        with running.connect() as connection:
            connection.sendall(b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
            drain_with_one_in_flight(running)
            began = time.monotonic()
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"Shutting down" in answer
        assert running.wait() == 0
    assert 0.5 < time.monotonic() - began < 10
    assert "Traceback" not in running.output


def test_a_second_signal_ends_it_at_once(store: Path) -> None:
    with server(*tiny(store)) as running, running.connect() as connection:
        connection.sendall(b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
        drain_with_one_in_flight(running)
        assert running.terminate() == 128 + signal.SIGTERM


def test_a_port_in_use_is_one_clear_line(store: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with server(*tiny(store), "--port", str(port)) as running:
            assert running.wait() == 1
    assert running.output.startswith(f"error: cannot listen on 127.0.0.1:{port}: Address already in use")
    assert "Traceback" not in running.output


def test_corrupt_weights_are_refused(tmp_path: Path) -> None:
    weights = make_artifact(tmp_path, num_classes=3).directory / WEIGHTS
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with server(*tiny(tmp_path)) as running:
        assert running.wait() == 1
    assert "weights.safetensors is corrupt" in running.output
    assert "Traceback" not in running.output


def test_json_logs_are_json(store: Path) -> None:
    with server(*tiny(store), "--log-format", "json") as running:
        with running.client() as client:
            client.get("/models", headers={"X-Request-Id": "abc"})
        assert running.terminate() == 0
    records = [json.loads(line) for line in running.lines if line.startswith("{")]
    (request,) = (record for record in records if record["message"] == "request")
    assert (request["path"], request["status"], request["request_id"]) == ("/models", 200, "abc")
