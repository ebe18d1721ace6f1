"""The parts of ``benchmarks.gpu`` on the CPU: what it calls right, how it counts, what it prints."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torchvision")

from benchmarks import decoded, gpu, photos
from benchmarks.load import Sample
from service.model.artifact import Artifact
from service.model.outputs import BatchOutputs
from service.model.runtime import RuntimeOptions
from service.runtimes import create
from tests.artifacts import make_artifact


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_artifact(tmp_path_factory.mktemp("store"), num_classes=10, resize_size=64, crop_size=64)


def outputs(logits: list[list[float]], embeddings: list[list[float]]) -> BatchOutputs:
    found = np.array(logits, np.float32)
    top = np.argsort(-found, axis=1)
    return BatchOutputs(found, np.array(embeddings, np.float32), top, np.zeros((len(found), 1, 1, 1), np.float32))


def test_accuracy_counts_each_kind_of_error() -> None:
    expected = outputs([[1.0, 4.0], [3.0, 2.0]], [[1.0, 0.0], [0.0, 2.0]])
    assert gpu.accuracy(expected, expected) == (1.0, 1.0, 0.0)
    swapped = outputs([[1.0, 4.0], [2.0, 3.0]], [[1.0, 0.0], [2.0, 2.0]])
    found = gpu.accuracy(swapped, expected)
    assert found.cosine == pytest.approx(2**-0.5)
    assert found.top1 == 0.5
    assert found.logits == 0.25


def test_other_arithmetic_agrees_and_is_not_the_same(artifact: Artifact) -> None:
    images = gpu.prepared(artifact, [photos.synthetic(80, 70, seed) for seed in range(5)])
    expected = gpu.answers(gpu.runtime_on(artifact, "cpu", "fp32", 2), images)  # 2, 2 and 1
    assert len(expected.logits) == 5
    found = gpu.accuracy(create(artifact, RuntimeOptions("openvino", "cpu", max_batch=5)).run(images), expected)
    assert found.top1 == 1.0
    assert found.cosine > 0.99999
    assert 0.0 < found.logits < 1e-4


def test_a_rate_is_that_of_all_threads_together() -> None:
    both, mine, calls = threading.Barrier(2), threading.local(), []

    def work() -> int:
        if not hasattr(mine, "met"):
            both.wait(10)  # passes only if two are at work
            mine.met = True
        time.sleep(0.005)
        calls.append(1)
        return 10

    started = time.perf_counter()
    found = gpu.rate(work, threads=2, seconds=0.3)
    assert found == pytest.approx(10 * len(calls) / (time.perf_counter() - started), rel=0.1)


def test_a_failure_in_a_thread_is_no_rate() -> None:
    def work() -> int:
        raise RuntimeError("the device")

    with pytest.raises(RuntimeError, match="the device"):
        gpu.rate(work, threads=2, seconds=0.1)


def test_speed_of_a_batch(artifact: Artifact) -> None:
    runtime = gpu.runtime_on(artifact, "cpu", "fp32", 4)
    asked: list[tuple[int, int]] = []
    replay = runtime.replay

    def counted(size: int, times: int) -> None:
        asked.append((size, times))
        replay(size, times)

    inside: Any = runtime
    inside.replay = counted
    found = gpu.speed(runtime, [np.zeros((64, 64, 3), np.uint8)] * 4, seconds=0.2)
    assert {size for size, _ in asked} == {4}
    # The runtime does the same work and copies besides: had one of them counted batches, it would be a quarter.
    assert 0.4 < found.share < 1.6


def test_decoded_tensors_reach_an_engine_process(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOBILENET_MODEL_STORE", str(artifact.directory.parent.parent))
    monkeypatch.setenv("MOBILENET_MODEL", artifact.manifest.name)
    with decoded.engine("cpu", "fp32", "openvino") as engine:
        assert decoded.measure(engine, workers=2, seconds=0.3) > 0


def test_the_report_names_the_card_and_holds_every_figure() -> None:
    sample = Sample(seconds=2.0, latencies=[0.25] * 40, statuses=Counter({200: 40}))
    text = gpu.report(
        "Card X",
        {"photos": "3"},
        {"fp32": gpu.Accuracy(0.123456, 0.5, 1e-3)},
        {"fp32": {8: gpu.Speed((1000.0, 2000.0), (900.0, 1500.0))}},
        {4: gpu.Served(1000.0, sample)},
    )
    assert text.startswith("# Card X\n")
    for row in (
        "* photos: 3",
        "| fp32 | 0.123456 | 50.0% | 1.0e-03 |",
        "| fp32 | 8 | 1000 | 2000 | 900 | 1500 | 75% |",
        "| 4 | 1000 | 50% | 20 | 1% | 250.0 ms | 250.0 ms | 0 |",
    ):
        assert row in text.splitlines()
