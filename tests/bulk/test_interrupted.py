"""Runs that are killed, stopped, or several at once: afterwards every photo has its row once, to the last bit."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.bulk.conftest import Rows, arguments, command, litter, rows, run_process
from tests.hostile.conftest import RecordFigure, record_figure
from tests.running import png
from tests.waiting import until

__all__ = ["record_figure"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("many")
    for index in range(300):
        (path / f"{index:03}.png").write_bytes(png(index, 224) if index % 100 else b"bad")
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, many: Path, model: Sequence[str]) -> Rows:
    out = tmp_path_factory.mktemp("whole")
    assert run_process(*arguments(many, out, model)).returncode == 0
    made = rows(out)
    assert made.paths == [str(path) for path in sorted(many.iterdir())]
    return made


def begun(words: Sequence[str | Path], out: Path) -> subprocess.Popen[str]:
    """A run that has made another shard."""
    there = len(list(out.glob("*.npy")))
    process = subprocess.Popen(command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    until(
        lambda: len(list(out.glob("*.npy"))) > there or process.poll() is not None,
        timeout=60,
        what="another shard is there",
        every=0.005,
    )
    return process


def check_what_is_there(out: Path, whole: Rows) -> None:
    """Every file under its name is complete."""
    for path in out.glob("*.npy"):
        start = 5 * int(path.stem.removeprefix("part-"))
        expected = whole.vectors[start : start + 5]
        assert np.array_equal(np.load(path, allow_pickle=False), expected, equal_nan=True)


def kill(times: int, many: Path, whole: Rows, model: Sequence[str], tmp_path: Path) -> int:
    """Kill runs at random moments; how many of them left a temporary file."""
    chance, amid = random.Random(times), 0
    out = tmp_path / "out"
    for _ in range(times):
        if (out / "_SUCCESS").exists():
            assert rows(out) == whole
            for path in out.iterdir():
                path.unlink()
        words = arguments(many, out, model, "--resume")
        with begun(words, out) as process:
            time.sleep(chance.uniform(0, 0.2))
            process.kill()
        amid += litter(out) != []
        check_what_is_there(out, whole)
    done = run_process(*arguments(many, out, model, "--resume"))
    assert done.returncode == 0, done.stderr
    assert rows(out) == whole
    assert (out / "_SUCCESS").exists()
    assert litter(out) == []
    return amid


def test_a_run_that_is_killed_goes_on(many: Path, whole: Rows, model: Sequence[str], tmp_path: Path) -> None:
    kill(4, many, whole, model, tmp_path)


@pytest.mark.torture
def test_runs_that_are_killed_at_any_moment(
    many: Path, whole: Rows, model: Sequence[str], tmp_path: Path, record_figure: RecordFigure
) -> None:
    amid = kill(50, many, whole, model, tmp_path)
    record_figure("bulk runs killed that left half a shard under its name", "0 of 50")
    record_figure("bulk runs killed amid a shard", f"{amid} of 50")
    assert amid > 10, "most were killed before or after the work"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_is_stopped_clears_away_and_goes_on(
    number: signal.Signals, status: int, many: Path, whole: Rows, model: Sequence[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = arguments(many, out, model)
    with begun(words, out) as process:
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
    assert process.returncode == status, told
    assert "Traceback" not in told
    assert litter(out) == []
    assert 0 < len(list(out.glob("*.npy"))) < 60
    check_what_is_there(out, whole)
    assert run_process(*words, "--resume").returncode == 0
    assert rows(out) == whole


def test_one_file_that_is_stopped_is_none(many: Path, model: Sequence[str], tmp_path: Path) -> None:
    words = command("embed", many, "--out", tmp_path / "x.npy", "--skip-errors", *model)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        until(lambda: litter(tmp_path) != [], timeout=60, what="it has begun to write", every=0.005)
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 143
    assert list(tmp_path.iterdir()) == []


def test_two_runs_at_once_do_not_hurt_each_other(many: Path, whole: Rows, model: Sequence[str], tmp_path: Path) -> None:
    """Both on all shards, and both begin with an empty folder."""
    out = tmp_path / "out"
    out.mkdir()
    processes = [
        subprocess.Popen(
            command(*arguments(many, out, model, "--worker", "0/1")), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    told = [process.communicate(timeout=100)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    assert rows(out) == whole
    assert litter(out) == []


def test_workers_at_once_make_the_whole(many: Path, whole: Rows, model: Sequence[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    processes = [
        subprocess.Popen(
            command(*arguments(many, out, model, "--worker", f"{index}/3")),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for index in range(3)
    ]
    told = [process.communicate(timeout=100)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], told
    assert rows(out) == whole
    assert (out / "_SUCCESS").exists()
