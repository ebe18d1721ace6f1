"""``--uds``: a Unix socket in place of a port."""

from __future__ import annotations

import os
import re
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from service.errors import OperatorError
from service.http.server.listener import listening_unix
from tests.documents import ROOT
from tests.e2e import unix
from tests.e2e.process import server
from tests.running import png
from tests.waiting import until

pytestmark = pytest.mark.slow


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


@pytest.mark.parametrize("workers", ["0", "2"])
def test_it_serves_there_and_takes_the_file_away(tiny: list[str], path: Path, workers: str) -> None:
    with server(*tiny, "--uds", str(path), "--workers", workers) as running:
        unix.wait_until_ready(running, path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        with unix.client(path) as client:
            answer = client.post("/classify", content=png(1))
            assert answer.status_code == 200
            assert len(answer.json()["results"][0]["predictions"]) == 5
        check = [sys.executable, "-I", "-S", str(ROOT / "deploy" / "docker" / "healthcheck.py")]
        assert subprocess.run(check, env={"MOBILENET_UDS": str(path)}, check=False).returncode == 0
        until(lambda: f"curl --unix-socket {path} --data-binary" in running.output, timeout=30, what="the welcome")
        assert running.terminate() == 0
    assert not path.exists()
    clients = re.findall(r"path=/classify .* client=(\S+)", running.output)
    assert clients == ["-"]
    assert "Traceback" not in running.output


@pytest.mark.parametrize("workers", ["0", "2"])
def test_what_kill_9_left_is_replaced(tiny: list[str], path: Path, workers: str) -> None:
    with server(*tiny, "--uds", str(path), "--workers", workers) as killed:
        unix.wait_until_ready(killed, path)
        killed.process.kill()
        killed.wait()
        assert path.is_socket()
        until(lambda: not unix.answers(path), timeout=30, what="its workers are gone")
    with server(*tiny, "--uds", str(path), "--workers", workers) as running:
        unix.wait_until_ready(running, path)
        assert running.terminate() == 0
    assert not path.exists()


def test_the_socket_of_a_running_service_is_not_taken(tiny: list[str], path: Path) -> None:
    with server(*tiny, "--uds", str(path)) as running:
        until(path.exists, timeout=60, what="bound", every=0.001)
        for moment in ("as soon as there is a file", "ready"):
            with server(*tiny, "--uds", str(path)) as second:
                assert second.wait() == 1, moment
            assert second.output == f"error: cannot listen on {path}: Address already in use; choose another --uds\n"
            unix.wait_until_ready(running, path)
        with unix.client(path) as client:
            assert client.post("/classify", content=png(1)).status_code == 200
        assert running.terminate() == 0


def test_a_socket_is_taken_from_the_moment_that_it_is_bound(path: Path) -> None:
    """Its service loads for a while before it accepts."""
    with listening_unix(path) as listener:
        with pytest.raises(OperatorError, match="Address already in use"), listening_unix(path):
            raise AssertionError("it was taken")
        assert path.is_socket()
        listener.close()
        with listening_unix(path) as newer:
            newer.close()


def test_a_service_that_drains_leaves_the_file_of_its_successor_alone(tiny: list[str], path: Path) -> None:
    body = png(1)
    with server(*tiny, "--uds", str(path)) as older:
        unix.wait_until_ready(older, path)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(str(path))
            connection.sendall(b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body))
            with unix.client(path) as client:
                until(
                    lambda: "mobilenet_in_flight 1.0" in client.get("/metrics").text, timeout=30, what="it is under way"
                )
            older.process.terminate()
            until(lambda: not unix.answers(path), timeout=30, what="its listener is closed")
            with server(*tiny, "--uds", str(path)) as newer:
                unix.wait_until_ready(newer, path)
                connection.sendall(body)
                assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
                assert older.wait() == 0
                assert unix.answers(path)
                assert newer.terminate() == 0
    assert not path.exists()


def test_a_later_file_with_the_same_inode_is_told_apart(path: Path) -> None:
    """Most file systems give the lowest inode that is free; the time of its creation is another one."""
    with listening_unix(path) as listener:
        listener.close()
        os.utime(path, ns=(1, 1))
    assert path.exists()
    path.unlink()
    with listening_unix(path) as listener:
        listener.close()
        path.chmod(0o600)  # as an operator may
    assert not path.exists()


@pytest.mark.parametrize("kind", ["file", "directory", "long", "parent", "link"])
def test_a_path_that_cannot_be_had_is_one_line_and_nothing_is_deleted(
    tiny: list[str], tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "s"
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    elif kind == "long":
        path = tmp_path / ("s" * 120)
    elif kind == "parent":
        path = tmp_path / "none" / "s"
    else:
        (tmp_path / "target").write_text("precious")
        path.symlink_to(tmp_path / "target")
    with server(*tiny, "--uds", str(path)) as running:
        assert running.wait() == 1
    why = {"long": "AF_UNIX path too long", "parent": "No such file or directory"}.get(kind, "Address already in use")
    assert running.output == f"error: cannot listen on {path}: {why}; choose another --uds\n"
    left = {"file": ["s"], "directory": ["s"], "link": ["s", "target"]}.get(kind, [])
    assert sorted(entry.name for entry in tmp_path.iterdir()) == left
    if kind == "file":
        assert path.read_text() == "precious"


def test_a_folder_that_may_not_be_written_is_one_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused by a stand-in: root may write everywhere."""

    def refuse(listener: socket.socket, address: str) -> None:
        raise PermissionError(13, "Permission denied")

    refused = type("Refused", (socket.socket,), {"bind": refuse})
    monkeypatch.setattr("service.http.server.listener.socket.socket", refused)
    message = f"^cannot listen on {path}: Permission denied; choose another --uds$"
    with pytest.raises(OperatorError, match=message), listening_unix(path):
        raise AssertionError("it listens")
