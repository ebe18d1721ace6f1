"""Buckets, padding, halving and the loss of a device, with everything but the GPU: here a launch calls the module."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from service.artifact import Artifact  # noqa: E402
from service.errors import ArtifactError, DeviceLost, OperatorError  # noqa: E402
from service.postprocess import BatchOutputs  # noqa: E402
from service.runtimes import torch as torch_runtime  # noqa: E402
from service.runtimes import torch_replay  # noqa: E402
from service.runtimes.batch import Pool  # noqa: E402
from service.runtimes.torch import EagerLane, TorchRuntime  # noqa: E402
from service.runtimes.torch_module import load_classifier  # noqa: E402
from service.runtimes.torch_replay import Lane, bucket_sizes, run_or_halve  # noqa: E402
from tests.runtimes.conftest import images_for, relative_error  # noqa: E402

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("max_batch", "sizes"),
    [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (8, (1, 2, 4, 8)), (9, (1, 2, 4, 8, 9)), (48, (1, 2, 4, 8, 16, 32, 48))],
)
def test_bucket_sizes(max_batch: int, sizes: tuple[int, ...]) -> None:
    assert bucket_sizes(max_batch) == sizes


def test_a_lane_pads_to_its_buckets_and_cuts_off_again(artifact_of: Callable[[str], Artifact]) -> None:
    artifact = artifact_of("tiny-rotated")
    module = load_classifier(artifact)
    lane = Lane(module, bucket_sizes(5), 64, CPU)
    assert lane.max_batch == 5
    for count in (5, 3, 1, 4, 2, 3):  # larger batches first: their rows stay behind in the buffers
        images = images_for(artifact, count, seed=count)
        actual, expected = lane.run(images), EagerLane(module).run(images)
        np.testing.assert_array_equal(actual.top, expected.top)
        for name in ("logits", "embeddings", "maps"):
            assert relative_error(getattr(actual, name), getattr(expected, name)) < 1e-4


def test_a_lanes_answers_are_copies(artifact_of: Callable[[str], Artifact]) -> None:
    artifact = artifact_of("tiny")
    lane = Lane(load_classifier(artifact), (1,), 64, CPU)
    images = images_for(artifact, 2)
    first = lane.run(images[:1])
    logits = first.logits.copy()
    lane.run(images[1:])
    np.testing.assert_array_equal(first.logits, logits)


class FullDevice:
    """A ``run`` with memory for two images at a time; answers each with its first pixel."""

    def __init__(self, room: int = 2) -> None:
        self.room = room
        self.batches: list[int] = []

    def __call__(self, images: NDArray[np.uint8]) -> BatchOutputs:
        if len(images) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.batches.append(len(images))
        first = images[:, 0, 0, :1].astype(np.float32)
        return BatchOutputs(first, first, first.astype(np.int64), first[:, :, None, None])


def test_lack_of_memory_halves_the_batch_and_keeps_the_order() -> None:
    images = np.zeros((7, 4, 4, 3), np.uint8)
    images[:, 0, 0, 0] = range(7)
    device = FullDevice()
    answers = run_or_halve(device, images)
    assert answers.logits[:, 0].tolist() == answers.top[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert device.batches == [2, 2, 2, 1]


def test_one_image_that_does_not_fit_fails_alone() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        run_or_halve(FullDevice(room=0), np.zeros((2, 4, 4, 3), np.uint8))


def only_up_to(limit: int) -> Callable[..., None]:
    def make(module: object, size: int, *arguments: object) -> None:
        if size > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")

    return make


def test_buckets_that_do_not_fit_are_left_out(
    artifact_of: Callable[[str], Artifact], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module = load_classifier(artifact_of("tiny"))
    monkeypatch.setattr(torch_replay, "Replay", only_up_to(4))
    assert Lane(module, bucket_sizes(16), 64, CPU).max_batch == 4
    assert [record.getMessage() for record in caplog.records] == [
        "batches of 16 do not fit into the memory of cpu",
        "batches of 8 do not fit into the memory of cpu",
    ]
    monkeypatch.setattr(torch_replay, "Replay", only_up_to(0))
    with pytest.raises(OperatorError, match="not enough free memory"):
        Lane(module, bucket_sizes(2), 64, CPU)


class BrokenLane:
    def __init__(self, error: Exception, alive: bool) -> None:
        self.error = error
        self._alive = alive

    def run(self, images: NDArray[np.uint8], *, alone: bool = False) -> BatchOutputs:
        raise self.error

    def alive(self) -> bool:
        return self._alive


@pytest.mark.parametrize(
    ("error", "alive", "raised"),
    [
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False, DeviceLost),
        (torch.OutOfMemoryError("CUDA out of memory"), False, DeviceLost),
        (torch.OutOfMemoryError("CUDA out of memory"), True, torch.OutOfMemoryError),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), True, RuntimeError),
    ],
)
def test_a_device_is_lost_when_it_does_not_answer_any_more(
    artifact_of: Callable[[str], Artifact], error: Exception, alive: bool, raised: type[Exception]
) -> None:
    model = TorchRuntime(
        artifact_of("tiny"), device="cpu", precision="fp32", runners=1, threads_per_runner=1, max_batch=2
    )
    model._lanes = Pool([BrokenLane(error, alive)])
    for _ in range(2):  # the lane is back in its pool after a failure
        with pytest.raises(raised) as caught:
            model.run(np.zeros((2, 64, 64, 3), np.uint8))
        assert type(caught.value) is raised


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.1), ("fp16", 0.01)])
def test_half_precision_is_close(artifact_of: Callable[[str], Artifact], precision: str, tolerance: float) -> None:
    """On the CPU, where the runtime refuses it, for want of a GPU; the module is the one that CUDA captures."""
    artifact = artifact_of("tiny-rotated")
    images = images_for(artifact, 3)
    exact, coarse = (Lane(load_classifier(artifact, name), (3,), 64, CPU).run(images) for name in ("fp32", precision))
    assert coarse.logits.dtype == coarse.maps.dtype == np.float32
    assert 1e-6 < relative_error(coarse.embeddings, exact.embeddings) < tolerance


def test_weights_that_are_not_torchvisions(
    artifact_of: Callable[[str], Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = artifact_of("tiny")
    weights = artifact.load_weights()
    last = weights.pop("classifier.1.bias")
    monkeypatch.setattr(Artifact, "load_weights", lambda self: weights)
    with pytest.raises(ArtifactError, match=r"classifier\.1\.bias"):
        load_classifier(artifact)
    weights["classifier.1.bias"] = np.append(last, np.float32(0))
    with pytest.raises(ArtifactError, match="do not fit"):
        load_classifier(artifact)


def test_threads_of_the_cpu_reference(artifact_of: Callable[[str], Artifact]) -> None:
    before = torch.get_num_threads()
    try:
        torch_runtime.TorchRuntime(
            artifact_of("tiny"), device="cpu", precision="fp32", runners=2, threads_per_runner=2, max_batch=1
        )
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
