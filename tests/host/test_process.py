"""Standard streams that are missing, and limits on open files."""

from __future__ import annotations

import io
import os
import resource
import subprocess
import sys
from collections.abc import Callable

import pytest

from service.errors import OperatorError
from service.host import process

#: Opens the streams, prints on both, and says what its first descriptors are.
_PROGRAM = """
import os, sys
from service.host import process
process.open_standard_streams()
print("out"); print("err", file=sys.stderr); sys.stdin.read()
process.flush_standard_streams()
os.write(int(sys.argv[1]), " ".join(os.readlink(f"/proc/self/fd/{n}") for n in range(3)).encode())
"""


@pytest.mark.parametrize("closed", [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)], ids=str)
def test_closed_streams_are_the_null_device_and_others_stay(closed: tuple[int, ...]) -> None:
    reading, writing = os.pipe()

    def close() -> None:
        for descriptor in closed:
            os.close(descriptor)

    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(writing)],
        input=b"", capture_output=True, pass_fds=[writing], preexec_fn=close, check=False,
    )  # fmt: skip
    os.close(writing)
    with os.fdopen(reading) as pipe:
        found = pipe.read().split(" ")
    assert done.returncode == 0, done.stderr
    assert [number for number in range(3) if found[number] == "/dev/null"] == list(closed)
    assert (done.stdout, done.stderr) == (b"" if 1 in closed else b"out\n", b"" if 2 in closed else b"err\n")


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def closed_stream() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("make", [Broken, closed_stream])
def test_nothing_is_raised_where_standard_error_is_gone(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], io.StringIO]
) -> None:
    monkeypatch.setattr(sys, "stderr", make())
    process.say("error: nobody hears this")
    process.flush_standard_streams()


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The soft and the hard limit, the last one holds; this process keeps its own."""
    found = [(64, 1024)]
    monkeypatch.setattr(resource, "getrlimit", lambda which: found[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda which, limit: found.append(limit))
    return found


@pytest.mark.parametrize(
    ("hard", "most", "workers", "allowed"),
    [(129, 10_000, 0, 1), (1024, 10_000, 0, 896), (1024, 100, 0, 100), (141, 10_000, 2, 1), (1024, 10_000, 8, 848)],
)
def test_connections_are_what_the_hard_limit_leaves(
    limits: list[tuple[int, int]], hard: int, most: int, workers: int, allowed: int
) -> None:
    limits.append((64, hard))
    assert process.connection_limit(most, workers=workers) == allowed
    assert limits[-1] == (hard, hard), "the soft limit is raised"


@pytest.mark.parametrize(("hard", "workers", "needs"), [(0, 0, 128), (128, 0, 128), (140, 2, 140), (800, 256, 1664)])
def test_a_limit_that_leaves_none_is_an_error_that_names_the_remedy(
    limits: list[tuple[int, int]], hard: int, workers: int, needs: int
) -> None:
    limits.append((hard, hard))
    with pytest.raises(OperatorError) as caught:
        process.connection_limit(10_000, workers=workers)
    assert str(caught.value) == (
        f"the limit on open files is {hard}, and the service needs {needs} beside its connections; "
        f"raise it: ulimit -n {needs + 1024}"
    )
