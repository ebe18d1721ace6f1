"""Start, stop and failure of the server process."""

from __future__ import annotations

import json
import re
import signal
import socket
import threading
import time
from pathlib import Path

import httpx
import pytest

from service.artifact import WEIGHTS, Artifact
from tests.artifacts import make_artifact
from tests.e2e.process import ServerProcess, server
from tests.photos import Photo


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


class Load:
    """Eight clients that ask until the service is gone, each on a new connection each time."""

    clients = 8

    def __init__(self, url: str, body: bytes) -> None:
        self._url = url
        self._body = body
        self.answered: list[str] = []
        self.refused: list[str] = []
        self.broken: list[str] = []
        self._threads = [threading.Thread(target=self._ask, args=(client,)) for client in range(self.clients)]
        for thread in self._threads:
            thread.start()

    def _ask(self, client: int) -> None:
        for count in range(10_000):
            request_id = f"{client}-{count}"
            headers = {"X-Request-Id": request_id}
            try:
                # The kernel may have completed its handshake when the listener closes; it is then reset unread, which
                # only the client and its balancer can see.
                answer = httpx.post(f"{self._url}/classify", content=self._body, headers=headers, timeout=60)
            except httpx.TransportError:
                self.broken.append(request_id)
                return
            (self.answered if answer.status_code == 200 else self.refused).append(request_id)

    def run_until_terminated(self, running: ServerProcess, after: int = 100) -> None:
        """SIGTERM amid the load."""
        ends = time.monotonic() + 60
        while len(self.answered) < after:
            assert time.monotonic() < ends
        assert running.terminate() == 0
        for thread in self._threads:
            thread.join(60)
        assert len(self.broken) == self.clients, "each ran until the service was gone"

    def lost(self, running: ServerProcess) -> set[str]:
        """Requests that the service has taken and their clients have no answer to."""
        taken = re.findall(r"path=/classify status=(\d+) .*request_id=(\S+)", running.output)
        assert len(taken) >= len(self.answered)
        return {request_id for _, request_id in taken} - set(self.answered)


def test_sigterm_under_load_loses_no_request_it_has_taken(real_artifact: Artifact, photos: list[Photo]) -> None:
    with server() as running:
        load = Load(running.url, photos[0].data)
        load.run_until_terminated(running)
    assert load.lost(running) == set()
    assert load.refused == []


def drain_with_one_in_flight(running: ServerProcess) -> None:
    """Wait until the request that was begun is admitted, then until SIGTERM has been noticed."""
    with running.client() as client:
        while "mobilenet_in_flight 1.0" not in client.get("/metrics").text:
            pass
    running.process.send_signal(signal.SIGTERM)
    while not any("draining" in line for line in running.lines):
        pass


def test_a_request_in_flight_is_answered_after_sigterm(real_artifact: Artifact, photos: list[Photo]) -> None:
    with server() as running:
        host, port = running.url.removeprefix("http://").split(":")
        body = photos[0].data
        with socket.create_connection((host, int(port)), 30) as connection:
            connection.sendall(b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body))
            connection.sendall(body[:1000])
            drain_with_one_in_flight(running)
            connection.sendall(body[1000:])
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert running.wait() == 0


def test_a_request_that_never_ends_is_cut_off_by_the_drain(store: Path) -> None:
    arguments = ["--drain-timeout-ms", "1000", "--request-timeout-ms", "600000"]
    with server(*tiny(store), *arguments) as running:
        host, port = running.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), 30) as connection:
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
    with server(*tiny(store)) as running:
        host, port = running.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), 30) as connection:
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


def test_a_model_that_is_not_there_is_one_clear_line(store: Path) -> None:
    with server("--model-store", str(store), "--model", "huge") as running:
        assert running.wait() == 1
    assert running.output == "error: no model huge/1 in the store; see: mobilenet-service models list\n"


def test_a_bad_setting_names_itself(store: Path) -> None:
    with server(*tiny(store), environment={"MOBILENET_MAX_IN_FLIGHT": "many"}) as running:
        assert running.wait() == 1
    assert running.output.startswith("error: MOBILENET_MAX_IN_FLIGHT: ")


def test_json_logs_are_json(store: Path) -> None:
    with server(*tiny(store), "--log-format", "json") as running:
        with running.client() as client:
            client.get("/livez", headers={"X-Request-Id": "abc"})
        assert running.terminate() == 0
    records = [json.loads(line) for line in running.lines if line.startswith("{")]
    (request,) = (record for record in records if record["message"] == "request")
    assert (request["path"], request["status"], request["request_id"]) == ("/livez", 200, "abc")
