"""Metrics of one process, and of several that share a directory: real processes, killed as such."""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Gauge

from service import metrics
from service.metrics import Metrics
from tests.metrics_process import DEPTH, MODEL, REQUESTS, obey
from tests.scrape import samples

RESIDENT = 'process_resident_memory_bytes{{process="{}"}}'
BUCKET = 'mobilenet_batch_size_bucket{{le="{}",model="tiny",version="1"}}'
CPU = 'process_cpu_seconds_total{{process="{}"}}'


class Child:
    """One process. ``ask`` returns once it has done what it was asked."""

    def __init__(self, directory: Path, name: str) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, its = spawn.Pipe()
        self._process = spawn.Process(target=obey, args=(its, directory, name))
        self._process.start()
        its.close()

    def ask(self, command: str, *arguments: float) -> Any:
        self._pipe.send((command, *arguments))
        return self._pipe.recv()

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


Start = Callable[[str], Child]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a process of that name; all share one directory, the test's."""
    with ExitStack() as stack:

        def start(name: str) -> Child:
            child = Child(tmp_path, name)
            stack.callback(child.kill)
            return child

        yield start


def test_one_render_sees_every_process(start: Start) -> None:
    one, two = start("worker-0"), start("worker-1")
    one.ask("count", 3)
    two.ask("count", 4)
    one.ask("hold", 5)
    two.ask("hold", 0)
    for found in (one.ask("render"), two.ask("render")):
        assert found[REQUESTS] == 7
        assert found[f"mobilenet_batch_size_count{{{MODEL}}}"] == 7
        assert found[f"mobilenet_batch_size_sum{{{MODEL}}}"] == 28
        assert found[BUCKET.format("2.0")] == 0
        assert found[BUCKET.format("4.0")] == 7
        assert found[DEPTH] == 5
        assert found["mobilenet_ready"] == 1
        assert any(name.startswith("python_info") for name in found)


def test_counters_survive_a_kill_and_go_on_under_the_same_name(start: Start, tmp_path: Path) -> None:
    reader, child = start("worker-1"), start("worker-0")
    child.ask("count", 3)
    reader.ask("render")  # it is up: its files are there as well
    files = set(tmp_path.iterdir())
    for turn in (1, 2):
        child.kill()
        assert reader.ask("render")[REQUESTS] == 3 * turn
        child = start("worker-0")
        child.ask("count", 3)
        assert reader.ask("render")[REQUESTS] == 3 * (turn + 1)
    assert set(tmp_path.iterdir()) == files, "a restarted process has made files of its own"


def test_every_gauge_is_one_that_many_processes_can_share() -> None:
    """Any other mode's files are passed over: the metric would vanish with the second process."""
    gauges = [metric for metric in vars(Metrics()).values() if isinstance(metric, Gauge)]
    assert len(gauges) > 5
    assert {gauge._multiprocess_mode for gauge in gauges} == {"livesum", "livemax"}


def test_gauges_of_a_process_that_died_vanish_once_it_is_forgotten(start: Start, tmp_path: Path) -> None:
    reader, child = start("worker-1"), start("worker-0")
    child.ask("count", 3)
    child.ask("hold", 5)
    child.kill()
    before = reader.ask("render")
    assert (before[DEPTH], before["mobilenet_ready"]) == (5, 1)
    metrics.forget(tmp_path, "worker-0")
    after = reader.ask("render")
    assert DEPTH not in after
    assert after["mobilenet_ready"] == 0
    assert after[REQUESTS] == 3
    metrics.forget(tmp_path, "worker-0")  # twice is once
    start("worker-0").ask("hold", 2)
    assert reader.ask("render")[DEPTH] == 2


def test_process_figures_have_the_process_s_name(start: Start, tmp_path: Path) -> None:
    """And the names that they have without any sharing."""
    one, two = start("worker-0"), start("engine-0")
    two.ask("work", 0.1)
    used = two.ask("work", 0.1)
    found = one.ask("render")
    alone = {name for name in samples(Metrics().render().decode()) if name.startswith("process_")}
    assert len(alone) == 6
    for name in alone:
        for process in ("worker-0", "engine-0"):
            assert found[f'{name}{{process="{process}"}}'] > 0
    assert 5e6 < found[RESIDENT.format("engine-0")] < 1e9
    spent = found[CPU.format("engine-0")]
    assert spent == pytest.approx(used, abs=0.05)
    two.kill()
    metrics.forget(tmp_path, "engine-0")
    found = one.ask("render")
    assert RESIDENT.format("engine-0") not in found
    assert found[CPU.format("engine-0")] == spent
    used += start("engine-0").ask("work", 0.1)
    found = one.ask("render")
    assert found[RESIDENT.format("engine-0")] > 0
    assert found[CPU.format("engine-0")] == pytest.approx(used, abs=0.1)


def test_a_process_that_is_killed_while_it_writes_leaves_what_can_be_read(start: Start) -> None:
    seen = start("reader").ask("storm", 30)
    assert len(seen) > 30
    assert seen == sorted(seen), "a counter fell"
    assert seen[-1] > 0


def test_files_that_are_not_ours_or_not_whole_change_nothing(start: Start, tmp_path: Path) -> None:
    child = start("worker-0")
    child.ask("count", 3)
    whole = next(tmp_path.glob("counter_*.db"))
    (tmp_path / "notes.txt").write_text("foreign")
    (tmp_path / "foreign.db").write_text("foreign")
    (tmp_path / "summary_foreign.db").write_text("foreign")
    (tmp_path / "counter_opened-just-now.db").touch()
    (tmp_path / "counter_nonsense.db").write_text("nonsense" * 100)
    (tmp_path / "gauge_livesum_folder.db").mkdir()
    shutil.copy(whole, tmp_path / "counter_worker-0.db.bak")
    cut = tmp_path / "counter_cut.db"
    cut.write_bytes(whole.read_bytes()[:100])
    found = child.ask("render")
    assert found[REQUESTS] == 3
    assert found[f"mobilenet_batch_size_count{{{MODEL}}}"] == 3


def test_one_process_alone_keeps_no_files_and_names_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own, other = Metrics(), Metrics()
    own.requests.labels("classify", "200").inc()
    found = samples(own.render().decode())
    assert found[REQUESTS] == 1
    assert REQUESTS not in samples(other.render().decode())
    assert not [name for name in found if "process" in name and ("{" in name or name.startswith("mobilenet"))]
    assert list(tmp_path.iterdir()) == []


def test_a_watched_gauge_is_read_when_it_is_sampled_or_rendered() -> None:
    own = Metrics()
    depth = 1.0
    gauge = own.queue_depth.labels("tiny", "1")
    own.watch(gauge, lambda: depth)
    assert samples(own.render().decode())[DEPTH] == 1
    depth = 2.0
    assert own.registry.get_sample_value("mobilenet_queue_depth", {"model": "tiny", "version": "1"}) == 1
    own.sample()
    assert own.registry.get_sample_value("mobilenet_queue_depth", {"model": "tiny", "version": "1"}) == 2
    own.watch(gauge, lambda: 7.0)
    assert samples(own.render().decode())[DEPTH] == 7
