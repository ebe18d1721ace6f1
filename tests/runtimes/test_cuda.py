"""What only a GPU can show. Skipped elsewhere; run with ``pytest -m gpu`` on a machine that has one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from service.model.artifact import Artifact
from service.model.runtime import RuntimeOptions
from service.runtimes import create
from tests.runtimes.conftest import images_for, relative_error, torchvision_answers

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from service.runtimes.torch.runtime import TorchRuntime  # noqa: E402

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA GPU here"),
]

#: fp32 without TF32 against fp32 on the CPU, and half precision as measured on the CPU with room to spare.
TOLERANCES = {"fp32": 1e-3, "fp16": 2e-2, "bf16": 1e-1}


@pytest.mark.parametrize("name", ["tiny", "width-0.75-nearest-4", "own-table-odd-size", "paper-rotated"])
@pytest.mark.parametrize("precision", TOLERANCES)
def test_answers_are_torchvisions(artifact_of: Callable[[str], Artifact], name: str, precision: str) -> None:
    artifact = artifact_of(name)
    model = create(artifact, RuntimeOptions("torch", "cuda", precision, max_batch=5))
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


def test_images_of_a_batch_lie_apart(artifact_of: Callable[[str], Artifact]) -> None:
    artifact = artifact_of("tiny")
    model = create(artifact, RuntimeOptions("torch", "cuda", max_batch=4))
    images = images_for(artifact, 3)
    for actual, expected in zip(model.run(list(images)), model.run(images), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_replays_leave_answers_alone(artifact_of: Callable[[str], Artifact]) -> None:
    artifact = artifact_of("tiny")
    model = create(artifact, RuntimeOptions("torch", "cuda", runners=2, max_batch=4))
    assert isinstance(model, TorchRuntime)
    images = images_for(artifact, 4)
    expected = model.run(images)
    with ThreadPoolExecutor(2) as threads:
        replays = [threads.submit(model.replay, size, 100) for size in (1, 2, 4)]
        runs = [threads.submit(model.run, images) for _ in range(20)]
        for replay in replays:
            replay.result()
        for run in runs:
            np.testing.assert_allclose(run.result().logits, expected.logits, rtol=1e-3, atol=1e-3)


def test_a_bucket_too_large_for_the_device_is_left_out(
    artifact_of: Callable[[str], Artifact], caplog: pytest.LogCaptureFixture
) -> None:
    """The network at 1024 images of 224 × 224 takes some 10 GB; the process may have a part of it."""
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, 3e9 / total))
    try:
        model = create(artifact_of("paper"), RuntimeOptions("torch", "cuda", max_batch=1024))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert 1 <= model.max_batch < 1024
    assert "batches of 1024 do not fit" in caplog.text
    images = images_for(artifact_of("paper"), 2)
    assert relative_error(model.run(images).logits, torchvision_answers(artifact_of("paper"), images).logits) < 1e-3


def test_auto_takes_the_gpu(artifact_of: Callable[[str], Artifact]) -> None:
    model = create(artifact_of("tiny"), RuntimeOptions())
    assert (model.name, model.device) == ("torch", "cuda:0")


def test_runners_have_graphs_of_their_own(artifact_of: Callable[[str], Artifact]) -> None:
    artifact = artifact_of("tiny")
    model = create(artifact, RuntimeOptions("torch", "cuda", runners=2, max_batch=4))
    images = images_for(artifact, 40)
    batches = [images[start : start + 1 + start % 4] for start in range(36)]
    expected = [model.run(batch) for batch in batches]
    with ThreadPoolExecutor(4) as threads:
        for actual, wanted in zip(threads.map(model.run, batches), expected, strict=True):
            np.testing.assert_allclose(actual.logits, wanted.logits, rtol=1e-3, atol=1e-3)
