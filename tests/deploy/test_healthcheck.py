"""The health check of the image as a program: whom it asks, and what it says of the answer."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.documents import ROOT

PROGRAM = ROOT / "deploy" / "docker" / "healthcheck.py"

#: Runs it with the rest of the command line as the arguments of process 1.
_BEHIND = """
import builtins, io, runpy, sys
program, arguments, opened = sys.argv[1], "\\0".join(sys.argv[2:]) + "\\0", []
builtins.open = lambda path, mode: opened.append(path) or io.BytesIO(arguments.encode())
try:
    runpy.run_path(program)
finally:
    assert set(opened) == {"/proc/1/cmdline"}, opened
"""

READY, NOT_READY = b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 503 Service Unavailable\r\n\r\n"
LINK = "tcp://10.0.0.1:80"


@contextmanager
def answering(listener: socket.socket, answer: bytes) -> Iterator[list[bytes]]:
    """What is asked of it until the block ends; one question is answered at a time."""
    asked: list[bytes] = []

    def run() -> None:
        while True:
            connection, _ = listener.accept()
            with connection:
                if not (question := connection.recv(1024)):
                    return
                asked.append(question)
                connection.sendall(answer)

    thread = threading.Thread(target=run)
    with listener:
        thread.start()
        try:
            yield asked
        finally:
            with socket.socket(listener.family) as last:
                last.connect(listener.getsockname())
                last.shutdown(socket.SHUT_WR)
                thread.join(30)


@contextmanager
def service(answer: bytes = READY) -> Iterator[tuple[str, list[bytes]]]:
    """A port and what is asked there."""
    listener = socket.create_server(("127.0.0.1", 0))
    with answering(listener, answer) as asked:
        yield str(listener.getsockname()[1]), asked


def check(*arguments: str, variables: Mapping[str, str] = MappingProxyType({})) -> int:
    """Exit status, for a service with these arguments and variables."""
    command = [sys.executable, "-I", "-S", "-c", _BEHIND, str(PROGRAM), *arguments]
    return subprocess.run(command, env=variables, stderr=subprocess.DEVNULL, timeout=30, check=False).returncode


SERVE = ("/venv/bin/python", "/venv/bin/mobilenet-service", "serve")


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        ((*SERVE, "--port", "{}"), {}),
        ((*SERVE, "--port={}"), {}),
        ((*SERVE, "--port", "1", "--workers", "2", "--port", "{}"), {}),
        ((*SERVE, "--port=1", "--port", "{}", "--host", "0.0.0.0"), {}),
        (("/sbin/docker-init", "--", *SERVE, "--port", "{}"), {"MOBILENET_PORT": "1", "PORT": "2"}),
        (SERVE, {"MOBILENET_PORT": "{}", "AIP_HTTP_PORT": "1", "PORT": "2"}),
        (SERVE, {"AIP_HTTP_PORT": "{}", "PORT": "2"}),
        (SERVE, {"PORT": "{}"}),
        (SERVE, {"MOBILENET_PORT": "", "PORT": "{}"}),
        (SERVE, {"MOBILENET_PORT": LINK, "PORT": "{}"}),
        (SERVE, {"MOBILENET_PORT": "udp://10.0.0.1:80", "AIP_HTTP_PORT": LINK, "PORT": "{}"}),
        ((*SERVE, "--port", "{}"), {"MOBILENET_PORT": LINK}),
    ],
    ids=str,
)
def test_it_asks_where_the_service_listens(arguments: tuple[str, ...], variables: dict[str, str]) -> None:
    with service() as (port, asked):
        filled = {name: value.format(port) for name, value in variables.items()}
        assert check(*(argument.format(port) for argument in arguments), variables=filled) == 0
    assert len(asked) == 1
    assert asked[0].startswith(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n")


@pytest.mark.parametrize("arguments", [("--uds", "{}"), ("--uds={}",), ("--port", "1", "--uds", "{}")], ids=str)
def test_it_asks_a_unix_socket(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    path = tmp_path / "s"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    with answering(listener, READY) as asked:
        assert check(*SERVE, *(argument.format(path) for argument in arguments)) == 0
        assert check(*SERVE, variables={"MOBILENET_UDS": str(path), "MOBILENET_PORT": "1"}) == 0
    assert len(asked) == 2


def test_it_asks_port_8000_where_nothing_is_said() -> None:
    try:
        listener = socket.create_server(("127.0.0.1", 8000))
    except OSError as error:
        pytest.skip(f"port 8000 of this machine is taken: {error}")
    with answering(listener, READY) as asked:
        assert check(*SERVE) == 0
        assert check(*SERVE, variables={"MOBILENET_PORT": LINK}) == 0
    assert len(asked) == 2


@pytest.mark.parametrize("answer", [NOT_READY, b"SSH-2.0-x\r\n", b"HTTP/1.1 2000 OK\r\n\r\n", b""])
def test_any_other_answer_is_a_failure(answer: bytes) -> None:
    with service(answer) as (port, asked):
        assert check(*SERVE, "--port", port) == 1
    assert len(asked) == 1


def test_nobody_there_is_a_failure(tmp_path: Path) -> None:
    with socket.socket() as bound:  # and does not listen
        bound.bind(("127.0.0.1", 0))
        assert check(*SERVE, "--port", str(bound.getsockname()[1])) == 1
    assert check(*SERVE, "--uds", str(tmp_path / "none")) == 1


def test_it_reads_the_command_line_of_process_1() -> None:
    """Without any stand-in: here process 1 is the health check, and the port is among its own arguments."""
    isolated = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    try:
        subprocess.run([*isolated, "true"], check=True, capture_output=True)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no process can be process 1 here: {getattr(error, 'stderr', error)}")
    with service() as (port, asked):
        command = [*isolated, sys.executable, "-I", "-S", str(PROGRAM), "serve", "--port", port]
        done = subprocess.run(command, env={"PATH": os.environ["PATH"], "PORT": "1"}, timeout=30, check=False)
        assert done.returncode == 0
    assert len(asked) == 1
