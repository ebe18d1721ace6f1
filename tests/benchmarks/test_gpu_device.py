"""Parts ``device`` and ``answers`` of ``benchmarks.gpu`` on the CPU: what they count and what they call right."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from benchmarks import photos  # noqa: E402
from benchmarks.gpu import answers, device  # noqa: E402
from service.model.artifact import Artifact  # noqa: E402
from service.model.outputs import BatchOutputs  # noqa: E402
from service.model.runtime import Images, RuntimeOptions  # noqa: E402
from service.runtimes import create  # noqa: E402
from service.runtimes.torch.network import load_classifier  # noqa: E402
from service.runtimes.torch.replay import Lane  # noqa: E402


@pytest.fixture(scope="module")
def lanes(artifact: Artifact) -> list[Lane]:
    module = load_classifier(artifact, folded_to="fp32")
    return [Lane(module, (4,), 64, torch.device("cpu")) for _ in range(2)]


def outputs(logits: list[list[float]], embeddings: list[list[float]]) -> BatchOutputs:
    found = np.array(logits, np.float32)
    top = np.argsort(-found, axis=1)
    return BatchOutputs(found, np.array(embeddings, np.float32), top, np.zeros((len(found), 1, 1, 1), np.float32))


def test_accuracy_counts_each_kind_of_error() -> None:
    expected = outputs([[1.0, 4.0], [3.0, 2.0]], [[1.0, 0.0], [0.0, 2.0]])
    assert answers.accuracy(expected, expected) == (1.0, 1.0, 0.0)
    swapped = outputs([[1.0, 4.0], [2.0, 3.0]], [[1.0, 0.0], [2.0, 2.0]])
    found = answers.accuracy(swapped, expected)
    assert found.cosine == pytest.approx(2**-0.5)
    assert found.top1 == 0.5
    assert found.logits == 0.25


def test_other_arithmetic_agrees_and_is_not_the_same(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "_BATCH", 2)
    images = answers.prepared(artifact, [photos.synthetic(80, 70, seed) for seed in range(5)])
    expected = answers.reference(artifact, images)  # 2, 2 and 1
    assert len(expected.logits) == 5
    found = answers.accuracy(create(artifact, RuntimeOptions("openvino", "cpu", max_batch=5)).run(images), expected)
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
    found = device.rate([work, work], seconds=0.3)
    assert found == pytest.approx(10 * len(calls) / (time.perf_counter() - started), rel=0.1)


def test_a_failure_in_a_thread_is_no_rate() -> None:
    def work() -> int:
        raise RuntimeError("the device")

    with pytest.raises(RuntimeError, match="the device"):
        device.rate([work, work], seconds=0.1)


def test_launches_are_forward_passes_of_the_whole_bucket(lanes: list[Lane], monkeypatch: pytest.MonkeyPatch) -> None:
    launched: list[int] = []
    monkeypatch.setattr(lanes[0].replays[4], "launch", lambda: launched.append(4))
    assert device.launches(lanes[0], 4, times=3) == 12
    assert launched == [4, 4, 4]


def test_speed_counts_images_of_both_lanes(lanes: list[Lane], monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[tuple[Lane, int]] = []
    run = device._run

    def counted(lane: Lane, images: Images) -> int:
        batches.append((lane, len(images)))
        return run(lane, images)

    monkeypatch.setattr(device, "_run", counted)
    found = device.speed(lanes, [np.zeros((64, 64, 3), np.uint8)] * 4, seconds=0.2)
    assert {size for _, size in batches} == {4}
    assert {id(lane) for lane, _ in batches} == {id(lane) for lane in lanes}
    assert found.share == max(found.run) / max(found.bare)
    assert min(*found.bare, *found.run) > 0


def test_kernels_of_one_pass(lanes: list[Lane]) -> None:
    found = device.kernels(lanes[0], 4)
    spent = [microseconds for _, microseconds in found.values()]
    assert spent == sorted(spent, reverse=True)
    count, _ = found["mkldnn_convolution"]
    assert count == 52  # each once


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<c10::Half>, "
            "std::array<char*, 3ul> >(int, at::native::CUDAFunctor_add<c10::Half>, std::array<char*, 3ul>)",
            "vectorized_elementwise_kernel [CUDAFunctor_add]",
        ),
        (
            "void at::native::vectorized_elementwise_kernel<4, at::native::(anonymous namespace)::"
            "launch_clamp_scalar(at::TensorIteratorBase&)::{lambda()#1}>(int)",
            "vectorized_elementwise_kernel [clamp_scalar]",
        ),
        (
            "void cutlass__5x_cudnn::Kernel<cutlass_tensorop_f16_s16816fprop_optimized_f16_128x128_32x5_nhwc_align8>"
            "(cutlass_tensorop_f16_s16816fprop_optimized_f16_128x128_32x5_nhwc_align8::Params)",
            "Kernel [cutlass_tensorop_f16_s16816fprop_optimized_f16_128x128_32x5_]",
        ),
        ("sm80_xmma_fprop_implicit_gemm_f16f16_nhwc_tn_n", "sm80_xmma_fprop_implicit_gemm_f16f16_nhwc_tn_n"),
        ("Memcpy HtoD (Pinned -> Device)", "Memcpy HtoD "),
    ],
)
def test_short_names_of_kernels(name: str, expected: str) -> None:
    assert device.short(name) == expected
