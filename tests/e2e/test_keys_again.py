"""SIGHUP: the keys in ``api_keys_file`` are read again, by one process and by all workers."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.e2e.process import ServerProcess, server
from tests.processes import tree
from tests.running import png
from tests.waiting import until

pytestmark = pytest.mark.slow

OLD, NEW = "old-Zq7-secret", "new-Kx9-secret"
READ, KEPT = "the keys have been read again", "the keys stay as they were"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(f"{OLD}\n")
    return path


@contextmanager
def keyed(tiny: list[str], file: Path, workers: str) -> Iterator[ServerProcess]:
    """It stops cleanly and shows no key."""
    with server(*tiny, "--api-keys-file", str(file), "--workers", workers) as running:
        wait_for_workers(running, int(workers))
        yield running
        assert running.terminate() == 0
    assert "Traceback" not in running.output
    assert OLD not in running.output
    assert NEW not in running.output


def wait_for_workers(running: ServerProcess, workers: int) -> None:
    ready = 'mobilenet_processes{kind="worker",state="ready"}'
    with running.client() as client:
        if workers:
            until(lambda: f"{ready} {workers}.0" in client.get("/metrics").text, timeout=60, what="all are ready")


def wait_for_successor(running: ServerProcess, victim: int) -> None:
    """Until another process than ``victim`` has the name of the first worker."""

    def is_there() -> bool:
        return tree.children(running.process.pid).get("worker-0", victim) != victim

    until(is_there, timeout=60, what="its successor has a name", every=0.001)


def status(running: ServerProcess, key: str) -> int:
    """On a new connection, so that each worker gets some."""
    answer = httpx.post(f"{running.url}/classify", content=png(1), headers={"X-API-Key": key}, timeout=60)
    return answer.status_code


def statuses(running: ServerProcess, key: str) -> set[int]:
    return {status(running, key) for _ in range(12)}


def hang_up(running: ServerProcess, message: str) -> None:
    """SIGHUP, until the log has one more ``message``."""
    before = running.output.count(message)
    running.process.send_signal(signal.SIGHUP)
    until(lambda: running.output.count(message) > before, timeout=60, what=message, every=0.01)


def is_changed(running: ServerProcess) -> None:
    """Workers learn it a moment after the supervisor has said so."""
    until(lambda: statuses(running, NEW) == {200}, timeout=60, what="the new key opens everywhere")
    assert statuses(running, OLD) == {401}


@pytest.mark.parametrize("workers", ["0", "2"])
def test_the_new_key_opens_and_the_old_one_does_not(tiny: list[str], file: Path, workers: str) -> None:
    with keyed(tiny, file, workers) as running:
        assert (statuses(running, OLD), statuses(running, NEW)) == ({200}, {401})
        file.write_text(f"# from today on\n{NEW}\n")
        assert (status(running, OLD), status(running, NEW)) == (200, 401), "not before SIGHUP"
        hang_up(running, READ)
        is_changed(running)
        other = file.with_name("other")
        other.write_text("".join(f"key-{number}\n" for number in range(1000)))
        other.replace(file)
        hang_up(running, f"{READ} keys=1000")
        until(lambda: statuses(running, "key-999") == {200}, timeout=60, what="the last of 1000 keys opens")
        assert statuses(running, NEW) == {401}
        assert status(running, "key-0") == 200


def make_unreadable(path: Path) -> None:
    """For root as well, who may read everything: a loop of links."""
    path.unlink()
    path.symlink_to(path)


def make_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


#: What may become of the file, and what is said of it.
DAMAGE: list[tuple[str, Callable[[Path], object], str]] = [
    ("empty", lambda path: path.write_text(""), "contains no key"),
    ("comments", lambda path: path.write_text(f"# {NEW}\n\n"), "contains no key"),
    ("gone", Path.unlink, "cannot be read: No such file or directory"),
    ("unreadable", make_unreadable, "cannot be read: Too many levels of symbolic links"),
    ("directory", make_a_directory, "cannot be read: Is a directory"),
    ("malformed", lambda path: path.write_text(f"{NEW}\n{NEW} and more\n"), "a key must consist of printable ASCII"),
    ("binary", lambda path: path.write_bytes(NEW.encode() + b"\x00\xff\n"), "a key must consist of printable ASCII"),
]


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_file_that_is_wrong_changes_nothing_and_is_one_line(tiny: list[str], file: Path, workers: str) -> None:
    with keyed(tiny, file, workers) as running:
        for name, damage, complaint in DAMAGE:
            damage(file)
            already = len(running.lines)
            hang_up(running, KEPT)
            (line,) = [line for line in running.lines[already:] if "api_keys_file" in line]
            assert re.search(f"error +{KEPT}: api_keys_file {complaint}", line), name
            assert (status(running, OLD), status(running, NEW)) == (200, 401), name
            if file.is_dir():
                file.rmdir()
            file.unlink(missing_ok=True)
            file.write_text(f"{OLD}\n")
        file.write_text(f"{NEW}\n")
        hang_up(running, READ)
        is_changed(running)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_request_in_flight_is_answered(tiny: list[str], file: Path, workers: str) -> None:
    body = png(1)
    with keyed(tiny, file, workers) as running, running.connect() as connection, running.client() as client:
        head = f"POST /classify HTTP/1.1\r\nHost: x\r\nX-API-Key: {OLD}\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body[:100])
        until(lambda: "mobilenet_in_flight 1.0" in client.get("/metrics").text, timeout=60, what="it is under way")
        file.write_text(f"{NEW}\n")
        hang_up(running, READ)
        is_changed(running)
        connection.sendall(body[100:])
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 "), "its key was good when it came"


def test_workers_that_start_later_have_the_new_keys(tiny: list[str], file: Path) -> None:
    with keyed(tiny, file, "2") as running:
        before = tree.all_children(running.process.pid)
        file.write_text(f"{NEW}\n")
        hang_up(running, READ)
        is_changed(running)
        for name in ("worker-0", "worker-1"):
            os.kill(before[name], signal.SIGKILL)
        until(lambda: not any(tree.alive(before[name]) for name in ("worker-0", "worker-1")), timeout=30, what="ended")
        until(lambda: len(tree.children(running.process.pid)) == 3, timeout=60, what="they are replaced")
        wait_for_workers(running, 2)
        assert (statuses(running, NEW), statuses(running, OLD)) == ({200}, {401})


def test_workers_that_are_just_starting_get_the_new_keys(tiny: list[str], file: Path) -> None:
    """Before their interpreter has read anything, in the middle of their imports, and when they have a name."""
    with keyed(tiny, file, "2") as running:
        for attempt in range(6):
            current, last = (NEW, OLD) if attempt % 2 == 0 else (OLD, NEW)
            victim = tree.all_children(running.process.pid)["worker-0"]
            os.kill(victim, signal.SIGKILL)
            file.write_text(f"{current}\n")
            if attempt >= 2:
                until(lambda: not tree.alive(victim), timeout=30, what="it has ended", every=0.001)  # noqa: B023
            if attempt >= 4:
                wait_for_successor(running, victim)
            hang_up(running, READ)
            wait_for_successor(running, victim)
            wait_for_workers(running, 2)
            until(lambda: statuses(running, current) == {200}, timeout=60, what="the key opens")  # noqa: B023
            assert statuses(running, last) == {401}


@pytest.mark.parametrize("workers", ["0", "2"])
def test_without_a_file_there_is_nothing_to_read(tiny: list[str], workers: str) -> None:
    with server(*tiny, "--workers", workers, environment={"MOBILENET_API_KEYS": OLD}) as running:
        assert status(running, OLD) == 200
        hang_up(running, "there is no file of keys to read again")
        assert (status(running, OLD), status(running, NEW)) == (200, 401)
        assert running.terminate() == 0
    assert "Traceback" not in running.output
