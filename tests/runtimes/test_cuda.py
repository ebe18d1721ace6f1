"""What only a GPU can show. Skipped elsewhere; run with ``pytest -m gpu`` on a machine that has one.

A capture costs a good part of a second, and cuDNN's search seconds more. So there are 22 captures, one of them with
the search: a bucket for each precision and architecture, and one runtime of two lanes for what concerns lanes. How
buckets are chosen is tested on the CPU (``test_torch_replay``).
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from service.model.artifact import Artifact
from service.model.runtime import RuntimeOptions
from service.runtimes import create
from tests.runtimes.conftest import ArtifactOf, images_for, relative_error, torchvision_answers

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from service.runtimes.torch import replay as torch_replay  # noqa: E402
from service.runtimes.torch import runtime as torch_runtime  # noqa: E402
from service.runtimes.torch.network import load_classifier  # noqa: E402
from service.runtimes.torch.runtime import TorchRuntime  # noqa: E402

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA GPU here")]

#: fp32 without TF32 against fp32 on the CPU, and half precision as measured on the CPU with room to spare.
TOLERANCES = {"fp32": 1e-3, "fp16": 2e-2, "bf16": 1e-1}


def with_buckets(artifact: Artifact, *sizes: int, precision: str = "fp32", runners: int = 1) -> TorchRuntime:
    """The CUDA runtime with these buckets in place of all powers of two."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_runtime, "bucket_sizes", lambda max_batch: sizes)
        options = RuntimeOptions("torch", "cuda", precision, runners=runners, max_batch=max(sizes))
        model = create(artifact, options)
    assert isinstance(model, TorchRuntime)
    return model


@pytest.fixture(scope="module")
def two_lanes(tiny: Artifact) -> Iterator[TorchRuntime]:
    """Of the network "tiny", for up to 4 images."""
    model = with_buckets(tiny, 2, 4, runners=2)
    yield model
    model.close()


@pytest.mark.parametrize("name", ["tiny", "width-0.75-nearest-4", "own-table-odd-size", "paper-rotated"])
@pytest.mark.parametrize("precision", TOLERANCES)
def test_answers_are_torchvisions(artifact_of: ArtifactOf, name: str, precision: str) -> None:
    """Of full batches and of batches that are padded."""
    artifact = artifact_of(name)
    model = with_buckets(artifact, 5, precision=precision)
    assert model.device == "cuda:0"
    for count in (5, 3, 1, 4, 2):
        images = images_for(artifact, count, seed=count)
        actual, expected = model.run(images), torchvision_answers(artifact, images)
        assert relative_error(actual.embeddings, expected.embeddings) < TOLERANCES[precision]
        np.testing.assert_array_equal(
            actual.top, np.argsort(-actual.logits, axis=1, kind="stable")[:, : actual.top.shape[1]]
        )
        if precision == "fp32":
            assert relative_error(actual.logits, expected.logits) < 1e-3
    model.close()


def test_what_cudnn_finds_in_its_search_is_right(tiny: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    """Off by default; benchmarks turn it on."""
    monkeypatch.setattr(torch_replay, "SEARCH_LIMIT", 10)
    images = images_for(tiny, 2)
    model = with_buckets(tiny, 2)
    assert relative_error(model.run(images).logits, torchvision_answers(tiny, images).logits) < 1e-3
    model.close()


def test_images_of_a_batch_lie_apart(tiny: Artifact, two_lanes: TorchRuntime) -> None:
    images = images_for(tiny, 3)
    for actual, expected in zip(two_lanes.run(list(images)), two_lanes.run(images), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_launches_leave_answers_alone(tiny: Artifact) -> None:
    """Those of another bucket in the same memory pool, too."""
    device = torch.device("cuda", 0)
    module = load_classifier(tiny, folded_to="fp32").to(device)
    lane = torch_replay.Lane(module, (2, 4), 64, device)
    images = images_for(tiny, 4)
    answers = lane.run(images)
    kept = answers.logits.copy()
    with torch.inference_mode(), lane.on_stream():
        for size in (2, 4, 2):
            lane.replays[size].launch()
        lane.wait()
    np.testing.assert_array_equal(answers.logits, kept)
    np.testing.assert_allclose(lane.run(images).logits, kept, rtol=1e-3, atol=1e-3)


def test_a_bucket_too_large_for_the_device_is_left_out(
    artifact_of: ArtifactOf, caplog: pytest.LogCaptureFixture
) -> None:
    """The network at 1024 images of 224 × 224 takes some 10 GB; the process may have a part of it."""
    artifact = artifact_of("paper")
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, 3e9 / total))
    try:
        model = with_buckets(artifact, 2, 1024)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert model.max_batch == 2
    assert "batches of 1024 do not fit" in caplog.text
    images = images_for(artifact, 2)
    assert relative_error(model.run(images).logits, torchvision_answers(artifact, images).logits) < 1e-3


def test_auto_takes_the_gpu(tiny: Artifact) -> None:
    model = create(tiny, RuntimeOptions())
    assert (model.name, model.device) == ("torch", "cuda:0")


def test_runners_have_graphs_of_their_own(tiny: Artifact, two_lanes: TorchRuntime) -> None:
    images = images_for(tiny, 40)
    batches = [images[start : start + 1 + start % 4] for start in range(36)]
    expected = [two_lanes.run(batch) for batch in batches]
    with ThreadPoolExecutor(4) as threads:
        for actual, wanted in zip(threads.map(two_lanes.run, batches), expected, strict=True):
            np.testing.assert_allclose(actual.logits, wanted.logits, rtol=1e-3, atol=1e-3)
