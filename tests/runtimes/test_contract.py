"""What the engine may rely on, whichever runtime it was given."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.model.artifact import Artifact
from service.model.runtime import Images, Runtime, RuntimeOptions
from service.runtimes import create
from tests.runtimes.conftest import RUNTIMES, ArtifactOf, images_for

#: Between the same image in batches of different sizes. OpenVINO runs image by image: no difference at all.
BATCH_TOLERANCE = {"openvino": 0.0, "torch": 1e-4}


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(tiny: Artifact, runtime: str) -> Runtime:
    """For batches of up to 3 images."""
    return create(tiny, RuntimeOptions(runtime, "cpu", max_batch=3))


def test_says_what_it_is(tiny: Artifact, runtime: str) -> None:
    model = create(tiny, RuntimeOptions(runtime, "cpu", max_batch=7))
    assert (model.name, model.device, model.precision, model.max_batch) == (runtime, "cpu", "fp32", 7)


def test_an_image_has_the_same_answer_in_any_batch(artifact_of: ArtifactOf, runtime: str) -> None:
    artifact = artifact_of("tiny-rotated")
    model = create(artifact, RuntimeOptions(runtime, "cpu", max_batch=3))
    images = images_for(artifact, 3)
    together = model.run(images)
    for index in range(3):
        alone = model.run(images[index : index + 1])
        np.testing.assert_array_equal(alone.top[0], together.top[index])
        for name in ("logits", "embeddings", "maps"):
            one, several = getattr(alone, name)[0], getattr(together, name)[index]
            assert np.abs(one - several).max() <= BATCH_TOLERANCE[runtime] * np.abs(one).max()


@pytest.mark.parametrize("classes", [[[10], []], [[-1], []], [[0, 1, 2, 3, 4, 5], []], [[]]])
def test_maps_that_do_not_exist_are_refused(tiny: Artifact, model: Runtime, classes: list[list[int]]) -> None:
    with pytest.raises(ValueError, match=r"maps of|zip"):
        model.run(images_for(tiny, 2), classes=classes)


def test_a_batch_lies_wherever_its_images_lie(tiny: Artifact, model: Runtime) -> None:
    """In slots of shared memory, say: read-only, apart, rows not even next to each other."""
    images = images_for(tiny, 3)
    apart = []
    for image in images:
        slot = np.full((64, 128, 3), 77, np.uint8)
        slot[:, ::2] = image
        slot.flags.writeable = False
        apart.append(slot[:, ::2])
    for actual, expected in zip(model.run(apart), model.run(images), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_threads_get_their_own_answers(tiny: Artifact, runtime: str) -> None:
    """More threads than runners, batches of different sizes."""
    model = create(tiny, RuntimeOptions(runtime, "cpu", runners=3, max_batch=2))
    images = images_for(tiny, 24)
    batches = [images[start : start + 1 + start % 2] for start in range(23)]
    expected = [model.run(batch) for batch in batches]
    with ThreadPoolExecutor(6) as threads:
        for _ in range(3):
            for actual, wanted in zip(threads.map(model.run, batches), expected, strict=True):
                np.testing.assert_array_equal(actual.top, wanted.top)
                np.testing.assert_allclose(actual.logits, wanted.logits, atol=1e-4)
                np.testing.assert_allclose(actual.maps, wanted.maps, rtol=1e-4, atol=1e-3)


def test_answers_belong_to_the_caller(tiny: Artifact, model: Runtime) -> None:
    images = images_for(tiny, 2)
    first = model.run(images[:1])
    kept = [array.copy() for array in first]
    model.run(images[1:])
    arrays: tuple[NDArray[Any], ...] = first
    for array, copy in zip(arrays, kept, strict=True):
        np.testing.assert_array_equal(array, copy)
        assert array.flags.c_contiguous
        array[...] = 0  # writable, and nobody else's
    np.testing.assert_array_equal(model.run(images[:1]).logits, kept[0])


def test_reads_an_array_that_is_read_only_and_leaves_it(tiny: Artifact, model: Runtime) -> None:
    images = images_for(tiny, 1)
    before = images.copy()
    images.flags.writeable = False
    model.run(images)
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (np.zeros((1, 64, 64, 3), np.float32), "uint8"),
        (np.zeros((64, 64, 3), np.uint8), r"\(64, 64, 3\), not uint8 \(64, 3\)"),
        (np.zeros((1, 3, 64, 64), np.uint8), r"\(64, 64, 3\), not uint8 \(3, 64, 64\)"),
        ([np.zeros((64, 64, 3), np.uint8), np.zeros((65, 64, 3), np.uint8)], r"\(64, 64, 3\), not uint8 \(65, 64, 3\)"),
        ([], "1 to 3"),
        (np.zeros((4, 64, 64, 3), np.uint8), "1 to 3"),
        ([np.zeros((64, 64, 3), np.uint8)] * 4, "1 to 3"),
    ],
)
def test_refuses_what_is_not_a_batch(model: Runtime, images: Images, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        model.run(images)
    model.run(np.zeros((3, 64, 64, 3), np.uint8))  # and goes on


def test_closed_twice_and_used_after(model: Runtime) -> None:
    model.close()
    model.close()
    with pytest.raises(RuntimeError, match="closed"):
        model.run(np.zeros((1, 64, 64, 3), np.uint8))
