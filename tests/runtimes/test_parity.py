"""Every runtime answers what torchvision answers, for every kind of network that an artifact can hold.

``TOLERANCE`` is for float32 sums taken in another order through 53 layers: torchvision itself is up to 3e-6 away
from its own float64 result, measured on these networks; 1e-4 leaves room for other CPUs' instructions and is a tenth
of what the service promises. A wrong padding, rotation or normalisation is off by 1e-2 and more.
"""

from __future__ import annotations

import numpy as np
import pytest

from service.model.artifact import Artifact
from service.model.outputs import MAPS_PER_ITEM, BatchOutputs
from service.model.runtime import RuntimeOptions
from service.runtimes import create
from tests import reference
from tests.runtimes.conftest import (
    ARTIFACTS,
    RUNTIMES,
    ArtifactOf,
    Expected,
    images_for,
    relative_error,
    torchvision_answers,
)

TOLERANCE = 1e-4

#: Small enough for a forward pass in numpy.
NUMPY_ARTIFACTS = ["tiny", "tiny-rotated", "width-0.5-two-classes", "own-table-odd-size", "one-class"]


@pytest.mark.extra
@pytest.mark.parametrize("name", ARTIFACTS)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_answers_are_torchvisions(artifact_of: ArtifactOf, runtime: str, name: str) -> None:
    artifact = artifact_of(name)
    images = images_for(artifact, 3)
    model = create(artifact, RuntimeOptions(runtime, "cpu", threads_per_runner=2, max_batch=3))
    actual = model.run(images)
    expected = torchvision_answers(artifact, images)

    net = artifact.network
    k, side = min(MAPS_PER_ITEM, net.num_classes), net.feature_size(images.shape[1])
    assert [(str(array.dtype), array.shape) for array in actual] == [
        ("float32", (3, net.num_classes)),
        ("float32", (3, net.embedding_dim)),
        ("int64", (3, k)),
        ("float32", (3, k, side, side)),
    ]
    assert relative_error(actual.logits, expected.logits) < TOLERANCE
    assert relative_error(actual.embeddings, expected.embeddings) < TOLERANCE

    order = np.argsort(-actual.logits, axis=1, kind="stable")
    np.testing.assert_array_equal(actual.top, order[:, :k])
    check_maps(artifact, actual, expected, actual.top.tolist())


def check_maps(artifact: Artifact, actual: BatchOutputs, expected: Expected, classes: list[list[int]]) -> None:
    """Each image's maps are its classes' weights over torchvision's features; their means and the bias make logits."""
    weight, bias = (artifact.load_weights()[f"{artifact.network.classifier}.{part}"] for part in ("weight", "bias"))
    for logits, maps, features, rows in zip(actual.logits, actual.maps, expected.features, classes, strict=True):
        exact = np.einsum("ke,ers->krs", weight[rows].astype(np.float64), features.astype(np.float64))
        assert relative_error(maps, exact) < TOLERANCE
        # With what the bias takes away the logit may be small: the size of the map is the measure.
        difference = np.abs(maps.mean(axis=(1, 2)) + bias[rows] - logits[rows]).max()
        assert difference < TOLERANCE * np.abs(maps).max()


@pytest.mark.extra
@pytest.mark.parametrize("name", ["paper", "width-0.5-two-classes", "own-table-odd-size"])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_maps_of_any_class_are_exact(artifact_of: ArtifactOf, runtime: str, name: str) -> None:
    """Of the classes that each image asks for; the places left are the strongest classes'."""
    artifact = artifact_of(name)
    images = images_for(artifact, 3)
    model = create(artifact, RuntimeOptions(runtime, "cpu", max_batch=3))
    net = artifact.network
    k, last = min(MAPS_PER_ITEM, net.num_classes), net.num_classes - 1
    asked: list[list[int]] = [[last], [], list(range(k))]
    actual = model.run(images, classes=asked)
    classes = [[*wanted, *top[len(wanted) :]] for wanted, top in zip(asked, actual.top.tolist(), strict=True)]
    check_maps(artifact, actual, torchvision_answers(artifact, images), classes)

    usual = model.run(images)  # asks for none again
    for field in ("logits", "embeddings", "top"):
        np.testing.assert_array_equal(getattr(usual, field), getattr(actual, field))
    np.testing.assert_array_equal(usual.maps[1], actual.maps[1])
    assert relative_error(usual.maps[0], actual.maps[0]) > TOLERANCE or usual.top[0, 0] == last


@pytest.mark.parametrize("name", NUMPY_ARTIFACTS)
def test_openvino_answers_as_a_forward_pass_in_numpy(artifact_of: ArtifactOf, name: str) -> None:
    """The parity that a machine without torch can check."""
    artifact = artifact_of(name)
    images = images_for(artifact, 2)
    preprocessing = artifact.manifest.preprocessing
    normalized = ((images / 255 - preprocessing.mean) / preprocessing.std).transpose(0, 3, 1, 2)
    if preprocessing.rotate_180:
        normalized = normalized[..., ::-1, ::-1]
    weights = artifact.load_weights()
    expected = np.stack([reference.logits(weights, artifact.network, image) for image in normalized])
    actual = create(artifact, RuntimeOptions("openvino", max_batch=2)).run(images)
    assert relative_error(actual.logits, expected) < TOLERANCE


@pytest.mark.extra
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("value", [0, 255])
def test_black_and_white_images(artifact_of: ArtifactOf, runtime: str, value: int) -> None:
    artifact = artifact_of("tiny-rotated")
    images = np.full_like(images_for(artifact, 1), value)
    actual = create(artifact, RuntimeOptions(runtime, "cpu")).run(images)
    assert relative_error(actual.logits, torchvision_answers(artifact, images).logits) < TOLERANCE


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_equal_logits_come_by_rising_index(
    artifact_of: ArtifactOf, runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = artifact_of("paper")
    weights = artifact.load_weights()
    classifier = artifact.network.classifier
    weights |= {f"{classifier}.{part}": np.zeros_like(weights[f"{classifier}.{part}"]) for part in ("weight", "bias")}
    weights[f"{classifier}.bias"][[700, 3, 250]] = 1.0
    monkeypatch.setattr(Artifact, "load_weights", lambda self: weights)
    actual = create(artifact, RuntimeOptions(runtime, "cpu")).run(images_for(artifact, 1))
    assert actual.top.tolist() == [[3, 250, 700, 0, 1]]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_maps_lie_in_the_frame_of_the_image(artifact_of: ArtifactOf, runtime: str) -> None:
    """What changes in one corner of the image changes the same corner of the features, rotated weights or not."""
    for name in ("paper", "paper-rotated"):
        artifact = artifact_of(name)
        model = create(artifact, RuntimeOptions(runtime, "cpu", max_batch=2))
        images = np.full((2, 224, 224, 3), 128, np.uint8)
        images[1, :32, :32] = images_for(artifact, 1)[0, :32, :32]
        plain, marked = (dict(zip(item.top.tolist(), item.maps, strict=True)) for item in model.run(images).items())
        common = plain.keys() & marked.keys()
        assert common
        for index in common:
            change = np.abs(marked[index] - plain[index])
            assert change[:3, :3].sum() > 3 * change[4:, 4:].sum()
