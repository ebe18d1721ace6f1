"""Standard streams that are closed, full or gone: the service serves, stops, and clients get nothing of them."""

from __future__ import annotations

import itertools
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from tests.artifacts import make_artifact
from tests.e2e import unix
from tests.processes import tree
from tests.running import png
from tests.waiting import until

pytestmark = pytest.mark.slow

#: What is done to standard input, output and error.
Streams = tuple[str, str, str]

_CLOSED: list[Streams] = [
    (i, o, e) for i, o, e in itertools.product(("kept", "closed"), repeat=3) if (i, o, e) != ("kept",) * 3
]
_BROKEN: list[Streams] = [
    ("kept", "full", "kept"), ("kept", "kept", "full"), ("kept", "gone", "kept"), ("kept", "kept", "gone"),
    ("closed", "full", "full"), ("closed", "gone", "gone"), ("closed", "closed", "gone"), ("closed", "gone", "closed"),
]  # fmt: skip
#: With workers the others are for the torture.
_OFTEN: list[Streams] = [("closed", "closed", "closed"), ("kept", "full", "kept"), ("closed", "gone", "gone")]


def _cases() -> Iterator[ParameterSet]:
    for streams in (*_CLOSED, *_BROKEN):
        yield pytest.param(streams, "0", id="-".join(streams))
        marks = () if streams in _OFTEN else (pytest.mark.torture,)
        yield pytest.param(streams, "2", id=f"{'-'.join(streams)}-workers", marks=marks)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store")
    make_artifact(path, width_mult=0.1)
    return path


@contextmanager
def process(streams: Streams, printed: Path, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """``mobilenet-service …`` with ``streams``; what it writes to those that are kept is in ``printed``."""

    def prepare() -> None:
        for descriptor, what in enumerate(streams):
            if what == "closed":
                os.close(descriptor)
            elif what == "full":
                os.dup2(os.open("/dev/full", os.O_RDWR), descriptor)
            elif what == "gone":
                reading, writing = os.pipe()
                os.close(reading)
                os.dup2(writing, descriptor)
                os.close(writing)

    with printed.open("ab") as file:
        running = subprocess.Popen(
            [sys.executable, "-m", "service", *arguments],
            stdin=subprocess.DEVNULL, stdout=file, stderr=file, preexec_fn=prepare, env=os.environ | environment,
        )  # fmt: skip
    try:
        yield running
    finally:
        if running.poll() is None:
            running.kill()
        running.wait()


def what_they_are(pid: int, printed: Path) -> Streams:
    names = {"/dev/null": "closed", "/dev/full": "full", str(printed): "kept"}
    first, second, third = (str(Path(f"/proc/{pid}/fd/{number}").readlink()) for number in range(3))
    found = [names.get(target, "gone" if target.startswith("pipe:") else target) for target in (first, second, third)]
    return found[0], found[1], found[2]


@pytest.mark.parametrize(("streams", "workers"), [*_cases()])
@pytest.mark.parametrize("unbuffered", ["", pytest.param("1", marks=pytest.mark.torture)], ids=["", "unbuffered"])
def test_it_serves_and_stops(tmp_path: Path, store: Path, streams: Streams, workers: str, unbuffered: str) -> None:
    path, printed = tmp_path / "s", tmp_path / "printed"
    arguments = ("serve", "--model-store", str(store), "--model", "tiny", "--uds", str(path), "--workers", workers)
    # A warning is printed before anything else, and whatever is asked is logged.
    environment = {"PYTHONUNBUFFERED": unbuffered, "MOBILENET_SERVICE_HOST": "10.0.0.1"}
    with process(streams, printed, *arguments, **environment) as running:
        until(lambda: unix.answers(path) or running.poll() is not None, timeout=60, what="ready", every=0.02)
        assert running.poll() is None, printed.read_text()
        with socket.socket(socket.AF_UNIX) as silent:
            silent.settimeout(30)
            silent.connect(str(path))
            with unix.client(path) as client:
                for _ in range(5):
                    assert client.post("/classify", content=png(1)).status_code == 200
            # The null device stands in for a standard input that is kept as well.
            expected = ("closed", streams[1], streams[2])
            assert what_they_are(running.pid, printed) == expected
            for pid in tree.all_children(running.pid).values():
                assert what_they_are(pid, printed)[1:] == expected[1:]
            running.terminate()
            assert silent.recv(4096) == b"", "a client that asks nothing is told nothing"
        assert running.wait(60) == 0
    said = printed.read_text()
    assert "Traceback" not in said
    assert "Exception" not in said
    assert ("curl --unix-socket" in said) == (streams[1] == "kept")
    assert len(re.findall("path=/classify status=200", said)) == (5 if streams[2] == "kept" else 0)


def test_an_error_reaches_nobody_and_its_status_does(tmp_path: Path) -> None:
    for streams in (("kept", "kept", "gone"), ("kept", "kept", "full"), ("closed", "closed", "closed")):
        with process(streams, tmp_path / "printed", "serve", "--model-store", str(tmp_path / "none")) as running:
            assert running.wait(60) == 1
    assert (tmp_path / "printed").read_bytes() == b""


@pytest.mark.parametrize(
    ("streams", "status", "complaint"),
    [
        (("kept", "closed", "kept"), 0, ""),
        (("closed", "closed", "closed"), 0, ""),
        (("kept", "full", "kept"), 1, "error: the output cannot be written: No space left on device\n"),
        (("kept", "gone", "kept"), 1, ""),
        (("kept", "full", "gone"), 1, ""),
    ],
    ids=str,
)
@pytest.mark.parametrize("command", ["classify", "list"])
def test_commands_end_without_a_traceback(
    tmp_path: Path, store: Path, streams: Streams, status: int, complaint: str, command: str
) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes(png(1))
    arguments = ["classify", str(photo), "--model", "tiny"] if command == "classify" else ["models", "list"]
    with process(streams, tmp_path / "printed", *arguments, "--model-store", str(store)) as running:
        assert running.wait(60) == status
    assert (tmp_path / "printed").read_text() == complaint
