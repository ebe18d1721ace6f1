"""Buckets, padding, halving and the loss of a device, with everything but the GPU: here a launch calls the module."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from service.errors import DeviceLost, OperatorError
from service.model.artifact import Artifact
from service.model.outputs import BatchOutputs
from service.model.runtime import Images, RuntimeOptions
from service.runtimes.pool import Pool
from service.runtimes.torch import replay as torch_replay
from service.runtimes.torch import runtime as torch_runtime
from service.runtimes.torch.network import load_classifier
from service.runtimes.torch.replay import Lane, Rows, bucket_sizes, gather, out_of_memory, run_or_halve
from service.runtimes.torch.runtime import EagerLane, TorchRuntime
from tests.runtimes.conftest import ArtifactOf, images_for, relative_error

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("max_batch", "sizes"),
    [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (8, (1, 2, 4, 8)), (9, (1, 2, 4, 8, 9)), (48, (1, 2, 4, 8, 16, 32, 48))],
)
def test_bucket_sizes(max_batch: int, sizes: tuple[int, ...]) -> None:
    assert bucket_sizes(max_batch) == sizes


def test_a_batch_is_gathered_from_wherever_it_lies() -> None:
    rng = np.random.default_rng(0)
    whole = rng.integers(0, 256, (2, 4, 8, 3), np.uint8)
    whole.flags.writeable = False
    images = [whole[0, :, :4], whole[1, :, ::2]]
    rows = np.full((3, 4, 4, 3), 7, np.uint8)
    gather(images, rows)
    np.testing.assert_array_equal(rows, [*images, np.full((4, 4, 3), 7)])


def test_a_lane_pads_to_its_buckets_and_cuts_off_again(artifact_of: ArtifactOf) -> None:
    artifact = artifact_of("tiny-rotated")
    module = load_classifier(artifact)
    lane = Lane(module, bucket_sizes(5), 64, CPU)
    assert lane.max_batch == 5
    for count in (5, 3, 1, 4, 2, 3):  # larger batches first: their rows stay behind in the buffers
        images = images_for(artifact, count, seed=count)
        actual, expected = lane.run(images), EagerLane(module, 64).run(images)
        np.testing.assert_array_equal(actual.top, expected.top)
        for name in ("logits", "embeddings", "maps"):
            assert relative_error(getattr(actual, name), getattr(expected, name)) < 1e-4


def test_a_lanes_answers_are_copies(tiny: Artifact) -> None:
    lane = Lane(load_classifier(tiny), (1,), 64, CPU)
    images = images_for(tiny, 2)
    first = lane.run(images[:1])
    logits = first.logits.copy()
    lane.run(images[1:])
    np.testing.assert_array_equal(first.logits, logits)


FULL = torch.OutOfMemoryError("CUDA out of memory")
DRIVER_FULL = RuntimeError("CUDA error: out of memory")


def blank(batch: int) -> BatchOutputs:
    zeros = np.zeros((batch, 1), np.float32)
    return BatchOutputs(zeros, zeros, np.zeros((batch, 1), np.int64), zeros)


class FullDevice:
    """A ``run`` with memory for two images at a time; answers each with its first pixel."""

    def __init__(self, room: int = 2, error: Exception = FULL) -> None:
        self.room = room
        self.error = error
        self.batches: list[int] = []

    def __call__(self, images: Images, rows: Rows = None) -> BatchOutputs:
        if len(images) > self.room:
            raise self.error
        self.batches.append(len(images))
        first = np.array([image[0, 0, :1] for image in images], np.float32)
        maps = first if rows is None else rows.astype(np.float32)
        return BatchOutputs(first, first, first.astype(np.int64), maps[:, :, None, None])


@pytest.mark.parametrize("error", [FULL, DRIVER_FULL])
@pytest.mark.parametrize("apart", [False, True])
def test_lack_of_memory_halves_the_batch_and_keeps_the_order(error: Exception, apart: bool) -> None:
    images = np.zeros((7, 4, 4, 3), np.uint8)
    images[:, 0, 0, 0] = range(7)
    device = FullDevice(error=error)
    rows = 100 + np.arange(7, dtype=np.int32)[:, np.newaxis]
    answers = run_or_halve(device, list(images) if apart else images, rows)
    assert answers.maps[:, 0, 0, 0].tolist() == [100, 101, 102, 103, 104, 105, 106]
    assert answers.logits[:, 0].tolist() == answers.top[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert device.batches == [2, 2, 2, 1]


def test_one_image_that_does_not_fit_fails_alone() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        run_or_halve(FullDevice(room=0), np.zeros((2, 4, 4, 3), np.uint8))


def test_another_failure_is_not_halved() -> None:
    device = FullDevice(error=RuntimeError("CUDA error: an illegal memory access was encountered"))
    with pytest.raises(RuntimeError, match="illegal"):
        run_or_halve(device, np.zeros((4, 4, 4, 3), np.uint8))
    assert device.batches == []


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FULL, True),
        (DRIVER_FULL, True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), False),
    ],
)
def test_who_says_that_memory_is_out(error: RuntimeError, expected: bool) -> None:
    assert out_of_memory(error) is expected


def only_up_to(limit: int, error: Exception) -> Callable[..., None]:
    def make(module: object, size: int, *arguments: object) -> None:
        if size > limit:
            raise error

    return make


@pytest.mark.parametrize("error", [FULL, DRIVER_FULL])
def test_buckets_that_do_not_fit_are_left_out(
    tiny: Artifact,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    module = load_classifier(tiny)
    monkeypatch.setattr(torch_replay, "Replay", only_up_to(4, error))
    assert Lane(module, bucket_sizes(16), 64, CPU).max_batch == 4
    assert [record.getMessage() for record in caplog.records] == [
        "batches of 16 do not fit into the memory of cpu",
        "batches of 8 do not fit into the memory of cpu",
    ]
    monkeypatch.setattr(torch_replay, "Replay", only_up_to(0, error))
    with pytest.raises(OperatorError, match="not enough free memory"):
        Lane(module, bucket_sizes(2), 64, CPU)


def test_a_bucket_that_fails_otherwise_ends_the_start(tiny: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_replay, "Replay", only_up_to(1, RuntimeError("cuDNN error")))
    with pytest.raises(RuntimeError, match="cuDNN"):
        Lane(load_classifier(tiny), bucket_sizes(2), 64, CPU)


class Recording:
    """A ``Replay`` that only says what is asked of it."""

    def __init__(self, module: object, size: int, *arguments: object) -> None:
        self.size = size

    def start(self, images: Images, rows: Rows) -> None:
        events.append(("start", self.size, len(images)))

    def outputs(self, batch: int) -> BatchOutputs:
        events.append(("outputs", self.size, batch))
        return blank(batch)


events: list[object] = []


def test_outputs_are_read_once_the_device_is_done(tiny: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_replay, "Replay", Recording)
    monkeypatch.setattr(Lane, "wait", lambda lane: events.append("wait"))
    lane = Lane(load_classifier(tiny), bucket_sizes(8), 64, CPU)
    events.clear()
    lane.run(np.zeros((3, 64, 64, 3), np.uint8))
    assert events == [("start", 4, 3), "wait", ("outputs", 4, 3)]


def with_lanes(artifact: Artifact, lanes: Sequence[object]) -> TorchRuntime:
    """The CPU's runtime with ``lanes`` in place of its own."""
    model = TorchRuntime(artifact, RuntimeOptions("torch", max_batch=4))
    inside: Any = model
    inside._lanes = Pool(lanes)
    return model


def test_lanes_share_no_buffer(tiny: Artifact) -> None:
    module = load_classifier(tiny, folded_to="fp32")
    model = with_lanes(tiny, [Lane(module, bucket_sizes(4), 64, CPU) for _ in range(2)])
    images = images_for(tiny, 40)
    batches = [images[start : start + 1 + start % 4] for start in range(36)]
    alone = with_lanes(tiny, [Lane(module, bucket_sizes(4), 64, CPU)])
    expected = [alone.run(batch) for batch in batches]
    with ThreadPoolExecutor(4) as threads:
        for actual, wanted in zip(threads.map(model.run, batches), expected, strict=True):
            np.testing.assert_allclose(actual.logits, wanted.logits, atol=1e-4)


def test_two_threads_run_on_two_lanes(tiny: Artifact) -> None:
    together = threading.Barrier(2)

    def run(images: Images, rows: Rows) -> BatchOutputs:
        together.wait(10)
        return blank(len(images))

    model = with_lanes(tiny, [SimpleNamespace(run=run), SimpleNamespace(run=run)])
    images = np.zeros((1, 64, 64, 3), np.uint8)
    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(model.run, images) for _ in range(2)]:
            done.result()
    model.close()
    with pytest.raises(RuntimeError, match="closed"):
        model.run(images)


@pytest.mark.parametrize(
    ("error", "alive", "raised"),
    [
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False, DeviceLost),
        (FULL, False, DeviceLost),
        (FULL, True, torch.OutOfMemoryError),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), True, RuntimeError),
    ],
)
def test_a_device_is_lost_when_it_does_not_answer_any_more(
    tiny: Artifact, error: Exception, alive: bool, raised: type[Exception]
) -> None:
    def run(images: Images, rows: Rows) -> BatchOutputs:
        raise error

    model = with_lanes(tiny, [SimpleNamespace(run=run, alive=lambda: alive)])
    for _ in range(2):  # the lane is back in its pool after a failure
        with pytest.raises(raised) as caught:
            model.run(np.zeros((2, 64, 64, 3), np.uint8))
        assert type(caught.value) is raised


def test_threads_of_the_cpu_reference(tiny: Artifact) -> None:
    before = torch.get_num_threads()
    try:
        torch_runtime.TorchRuntime(tiny, RuntimeOptions("torch", runners=2, threads_per_runner=2))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
