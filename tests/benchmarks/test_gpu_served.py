"""Part ``http`` of ``benchmarks.gpu``, on a device that takes a GPU's time: what it starts, counts and concludes."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from benchmarks import photos
from benchmarks.gpu import generator as generators
from benchmarks.gpu import served
from benchmarks.gpu.generator import Generator
from benchmarks.gpu.part import Options
from benchmarks.gpu.served import Configuration, Measured, Used
from benchmarks.load import Sample
from service.model.artifact import Artifact
from tests.benchmarks import large_device
from tests.waiting import until

ROOT = Path(__file__).parent.parent.parent
FAKE = Options("cpu", program="tests.benchmarks.large_device")


@pytest.fixture(autouse=True)
def service(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("MOBILENET_MODEL_STORE", str(artifact.directory.parent.parent))
    monkeypatch.setenv("MOBILENET_MODEL", artifact.manifest.name)
    monkeypatch.setenv(large_device.START_S, "1")
    monkeypatch.setattr(served, "_WARM_UP_S", 0.3)
    monkeypatch.setattr(served, "_MEASURE_S", 1.0)


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Generator]:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        bodies = [photos.synthetic(80, 70, seed) for seed in range(3)]
        yield Generator(pool, tmp_path_factory.mktemp("photos"), bodies, 2)


@pytest.mark.parametrize("configuration", [Configuration(workers=2), Configuration(replicas=2)])
def test_a_configuration_is_measured_and_profiled(
    configuration: Configuration, generator: Generator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served.started(configuration, FAKE, tmp_path, 60.0) as group:
        assert 1.0 < group.ready < 60.0
        # The service is ready with its first worker.
        until(lambda: len(group.processes()["front"]) == 2, timeout=30, what="two workers")
        before = group.batches()
        found = served.measure(configuration, group, generator, 6, memory=0.0)
        images, _ = (now - then for now, then in zip(group.batches(), before, strict=True))
        served.profile(group, generator, 6, tmp_path)
    assert set(found.sample.statuses) == {200}
    # All that was asked while measuring, and the warm-up besides.
    assert found.sample.statuses[200] <= images
    assert found.sample.rate == pytest.approx(found.sample.statuses[200] / found.sample.seconds)
    assert 0.9 < found.sample.seconds < 10.0
    assert 1.0 <= found.batch <= 6.0
    assert found.used.loops > 0.0
    assert found.used.generator > 0.0
    assert (found.used.engine > 0.0) is (configuration.workers > 0)
    printed = capsys.readouterr().out
    assert ("Profile of a worker" in printed) is (configuration.workers > 0)
    assert ("Profile of the engine" in printed) is (configuration.workers > 0)
    assert "**event loop**" in printed
    assert "waiting" in printed


def test_a_server_that_is_not_ready_in_time_fails_and_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(large_device.START_S, "1000")
    with (
        pytest.raises(RuntimeError, match="did not start"),
        served.started(Configuration(replicas=2), FAKE, tmp_path, 3.0),
    ):
        pass


def test_connections_are_spread_over_processes_and_addresses() -> None:
    shares = generators.spread("abcd", 64, members=3)
    assert sum(shares, Counter()) == dict.fromkeys("abcd", 16)
    assert [share.total() for share in shares] == [24, 20, 20]
    assert [share.total() for share in generators.spread("a", 64, members=3)] == [22, 21, 21]


def measured(configuration: Configuration, rate: float) -> Measured:
    sample = Sample(seconds=1.0, latencies=[0.25], statuses=Counter({200: int(rate)}))
    return Measured(configuration, 64, 9.0, sample, 2.0, 100.0, Used(0.1, 0.2, 0.3, 0.4))


def test_loops_at_the_same_time_add_up() -> None:
    pieces = [Sample(seconds=seconds, latencies=[0.1] * 10, statuses=Counter({200: 10})) for seconds in (1.0, 2.0)]
    assert generators.together(pieces).rate == 10.0


def test_the_sentence_that_is_decided() -> None:
    workers, replicas = measured(Configuration(workers=8), 1400), measured(Configuration(replicas=4), 1000)
    assert "? yes, 1.40 ×: --workers 8 at 64 at once 1400" in served.decision([workers, replicas])
    assert "? no, 1.00 ×" in served.decision([measured(Configuration(workers=4), 1000), replicas])
    assert "Not both were measured" in served.decision([workers])


def test_a_row_holds_every_figure() -> None:
    row = measured(Configuration(workers=8), 1000).row
    assert len(row) == len(served.HEAD)
    assert row[:8] == ["--workers 8", "64", "9.0", "1000", "250.0", "250.0", "2.0", "100"]
    assert row[8:] == ["0.10", "0.20", "0.30", "0.40", "0"]


@pytest.mark.torture
@pytest.mark.timeout(400)
def test_five_minutes_suffice_for_a_gpus_start_times(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """20 s until ready; the other parts at the speed of this machine's CPU."""
    monkeypatch.delenv("MOBILENET_MODEL_STORE")
    monkeypatch.delenv("MOBILENET_MODEL")
    monkeypatch.setenv(large_device.START_S, "20")
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--budget", "300", "--server", FAKE.program]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=320, check=False)
    sys.stdout.write(done.stdout)
    seconds = {name: float(value) for name, value in re.findall(r"^\| (\w+) \| (\d+) \|", done.stdout, re.MULTILINE)}
    assert seconds["all"] <= 300
    assert "| http | " in done.stdout
    assert re.search(r"Is --workers N ≥ 1.3 × R replicas anywhere\? (yes|no)", done.stdout)
