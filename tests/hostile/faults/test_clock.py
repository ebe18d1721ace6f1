"""Wall clocks jump: an NTP step, a suspended machine, an operator's hand. Deadlines must not."""

from __future__ import annotations

import ast
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from service.model.artifact import Artifact
from tests.artifacts import make_artifact
from tests.fakes import FakeRuntime
from tests.running import png, running_app

SERVICE = Path(__file__).parents[3] / "service"

#: Where wall-clock time is what is wanted: the time of a log record, the date of a measurement.
FOR_PEOPLE = {"logs.py", "store/parity.py"}

_WALL_CLOCKS = {"time", "time_ns", "localtime", "gmtime", "ctime", "now", "utcnow", "today", "fromtimestamp"}


def wall_clocks(source: str) -> list[int]:
    """Lines that read the wall clock, or import something that does by itself."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id in ("time", "datetime", "date") and node.attr in _WALL_CLOCKS:
                lines.append(node.lineno)
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            lines += [node.lineno for alias in node.names if alias.name in _WALL_CLOCKS]
    return lines


def test_only_what_people_read_reads_the_wall_clock() -> None:
    found = {
        str(path.relative_to(SERVICE)): lines
        for path in sorted(SERVICE.rglob("*.py"))
        if (lines := wall_clocks(path.read_text()))
    }
    assert set(found) <= FOR_PEOPLE, found


@pytest.mark.parametrize(
    "source", ["import time\ntime.time()", "from time import time", "datetime.now(UTC)", "x = datetime.utcnow"]
)
def test_a_wall_clock_is_noticed(source: str) -> None:
    assert wall_clocks(source) != []


def test_a_monotonic_clock_is_none() -> None:
    assert wall_clocks("import time\ntime.monotonic()\ntime.perf_counter()") == []


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return make_artifact(tmp_path, width_mult=0.1)


@pytest.mark.parametrize("jump_s", [-1e6, 1e6])
def test_deadlines_hold_while_the_clock_jumps(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    released = threading.Event()
    real = time.time
    jumped = 0.0

    def jump(images: NDArray[np.uint8]) -> None:
        nonlocal jumped
        if images[0, 0, 0, 2] == 1:
            jumped = jump_s
            if images[0, 0, 0, 0] == 2:
                released.wait(30)

    monkeypatch.setattr(time, "time", lambda: real() + jumped)
    with running_app(artifact, FakeRuntime(before=jump)) as app:
        # It jumps while this one is inferred, and nothing comes of it.
        assert app.client.post("/classify", content=png(1)).status_code == 200
        assert time.time() - real() == pytest.approx(jump_s, abs=60)
        began = time.monotonic()
        answer = app.client.post("/classify", content=png(2), headers={"X-Request-Timeout-Ms": "300"})
        took = time.monotonic() - began
        released.set()
        assert answer.status_code == 504
        assert 0.3 <= took < 10
        assert app.client.post("/classify", content=png(1)).status_code == 200
        assert app.client.get("/readyz").status_code == 200
