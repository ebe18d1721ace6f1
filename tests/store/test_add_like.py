"""``add`` with ``like``: what a checkpoint was fine-tuned from tells the rest. And heads that are no softmax."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from service import runtimes
from service.errors import ArtifactError
from service.image import inspect, preprocess
from service.model import artifact
from service.model.artifact import Artifact
from service.model.outputs import Head
from service.model.runtime import RuntimeOptions
from service.store.add import add
from service.store.write import manifest_bytes
from tests.artifacts import make_artifact
from tests.documents import ROOT
from tests.store import libraries
from tests.store.conftest import change_manifest
from tests.store.libraries import Tensors

ROWS = [(1, 16, 1, 1), (3, 24, 2, 2)]


@pytest.fixture
def base(tmp_path: Path) -> Artifact:
    """In ``store``: nothing of it is what ``add`` would take by itself."""
    made = make_artifact(
        tmp_path / "store",
        name="base",
        num_classes=3,
        width_mult=0.5,
        inverted_residual_setting=ROWS,
        resize_size=200,
        crop_size=192,
        interpolation="bicubic",
        mean=(0.5, 0.5, 0.4),
        std=(0.2, 0.5, 0.5),
        rotate_180=True,
    )
    return change_manifest(made, head=Head("sigmoid", 0.25))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def tuned(base: Artifact, path: Path, classes: int) -> Path:
    weights = base.load_weights()
    rng = np.random.default_rng(0)
    weights["classifier.1.weight"] = rng.normal(size=(classes, 1280)).astype(np.float32)
    weights["classifier.1.bias"] = np.zeros(classes, np.float32)
    save_file(weights, path)
    return path


def test_all_is_as_in_the_version_that_it_came_from(base: Artifact, store: Path) -> None:
    found = add(store, base.directory / artifact.WEIGHTS, name="base", version="2", like="base/1")
    assert found.digest == base.digest
    assert found.labels == base.labels
    fields = {"architecture", "preprocessing", "head", "labels", "weights"}
    assert found.manifest.model_dump(include=fields) == base.manifest.model_dump(include=fields)
    assert artifact.read_manifest(found.directory).head == Head("sigmoid", 0.25)


@pytest.mark.slow
@pytest.mark.weights
def test_the_shipped_weights_come_back_with_the_same_answers(real_artifact: Artifact, store: Path) -> None:
    store.mkdir()
    (store / "mobilenet_v2").symlink_to(real_artifact.directory.parent)
    found = add(store, real_artifact.directory / artifact.WEIGHTS, name="mine", like="mobilenet_v2/1")
    data = (ROOT / "docs" / "photos" / "cat.jpg").read_bytes()
    answers = []
    for each in (real_artifact, found):
        image = preprocess(data, inspect(data), each.manifest.preprocessing.transform(), "exact")
        answers.append(runtimes.create(each, RuntimeOptions("openvino", "cpu")).run(image[np.newaxis]))
    for theirs, ours in zip(*answers, strict=True):
        np.testing.assert_array_equal(theirs, ours)


def test_another_number_of_classes_needs_labels(base: Artifact, store: Path, labels: Path, tmp_path: Path) -> None:
    five = tuned(base, tmp_path / "five.safetensors", 5)
    with pytest.raises(ArtifactError, match=r"^five.safetensors has 5 classes, base/1 3; give --labels$"):
        add(store, five, name="five", like="base/1")
    with pytest.raises(ArtifactError, match=r"^five.safetensors has 5 classes, but there are 3 labels$"):
        add(store, five, labels, name="five", like="base/1")
    labels.write_text("a\nb\nc\nd\ne\n")
    found = add(store, five, labels, name="five", like="base/1")
    assert found.labels == ("a", "b", "c", "d", "e")
    assert found.manifest.architecture == base.manifest.architecture.model_copy(update={"num_classes": 5})
    assert found.manifest.preprocessing == base.manifest.preprocessing


def test_options_and_labels_go_before_it(base: Artifact, store: Path, labels: Path) -> None:
    found = add(
        store, base.directory / artifact.WEIGHTS, labels, name="x", like="base/1", crop_size=160, head="softmax"
    )
    assert found.labels == ("cat", "dog", "bird")
    assert found.manifest.preprocessing == base.manifest.preprocessing.model_copy(update={"crop_size": 160})
    assert found.manifest.head == Head()


@pytest.mark.parametrize(
    ("pairs", "rotated"), [(libraries.timm_pairs, False), (libraries.transformers_pairs, True)], ids=["timm", "other"]
)
def test_rotated_kernels_are_known_by_the_names_where_we_rotate_them_ourselves(
    pairs: Any, rotated: bool, weights: Tensors, labels: Path, store: Path, tmp_path: Path
) -> None:
    make_artifact(store, name="base", width_mult=0.1, num_classes=3, rotate_180=not rotated)
    save_file(libraries.renamed(weights, pairs(), "classifier"), tmp_path / "x.safetensors")
    found = add(store, tmp_path / "x.safetensors", labels, name="x", like="base/1")
    assert found.manifest.preprocessing.rotate_180 is rotated


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ("base/7", "no model base/7 in"),
        ("wide/1", "has 10 convolutions, the architecture 52"),
    ],
)
def test_versions_that_it_is_not_like(like: str, message: str, base: Artifact, store: Path) -> None:
    make_artifact(store, name="wide", num_classes=3, width_mult=0.1)
    with pytest.raises(ArtifactError, match=message) as caught:
        add(store, base.directory / artifact.WEIGHTS, name="x", like=like)
    assert "\n" not in str(caught.value)
    assert not (store / "x").exists()


# Heads


def test_a_sigmoid_with_a_threshold(checkpoint: Path, labels: Path, store: Path) -> None:
    found = add(store, checkpoint, labels, name="pets", head="sigmoid", threshold=0.4)
    assert found.manifest.head == Head("sigmoid", 0.4)
    assert b'"head": {\n    "activation": "sigmoid",\n    "threshold": 0.4\n  }' in manifest_bytes(found.manifest)


def test_a_softmax_is_not_mentioned_in_the_manifest(checkpoint: Path, labels: Path, store: Path) -> None:
    found = add(store, checkpoint, labels, name="pets")
    assert found.manifest.head == Head()
    assert b"head" not in (found.directory / artifact.MANIFEST).read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"threshold": 0.5},
            "cannot be described: head: Value error, a threshold is between 0 and 1, and of a sigmoid",
        ),
        ({"head": "sigmoid", "threshold": 1.5}, "cannot be described: head: .*between 0 and 1"),
        ({"head": "sigmoid", "threshold": float("nan")}, "cannot be described: head: .*between 0 and 1"),
        ({"head": "relu"}, "cannot be described: head.activation"),
    ],
)
def test_heads_that_are_none(
    options: dict[str, Any], message: str, checkpoint: Path, labels: Path, store: Path
) -> None:
    with pytest.raises(ArtifactError, match=message):
        add(store, checkpoint, labels, name="pets", **options)
    assert not store.exists()


def test_one_class_is_a_sigmoids(base: Artifact, store: Path, tmp_path: Path) -> None:
    one, label = tuned(base, tmp_path / "one.safetensors", 1), tmp_path / "label.txt"
    label.write_text("dog\n")
    with pytest.raises(ArtifactError, match=r"has one class, whose softmax is always 1; use --head sigmoid"):
        add(store, one, label, name="one", like="base/1", head="softmax")
    found = add(store, one, label, name="one", like="base/1")
    answer = runtimes.create(found, RuntimeOptions("openvino", "cpu")).run(np.zeros((1, 192, 192, 3), np.uint8))
    assert answer.logits.shape == (1, 1)
