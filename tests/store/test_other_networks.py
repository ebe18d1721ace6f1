"""What is no MobileNetV2, or not all of one, is told in a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from service.errors import ArtifactError
from service.store import checkpoint as checkpoints
from service.store.add import add
from tests.store.libraries import Tensors


def test_a_file_that_is_too_large(checkpoint: Path, labels: Path, tmp_path: Path) -> None:
    with checkpoint.open("ab") as file:
        file.truncate(checkpoints.LIMIT + 1)  # sparse
    with pytest.raises(ArtifactError, match=r"mine.safetensors is larger than any checkpoint of a MobileNetV2"):
        add(tmp_path / "store", checkpoint, labels, name="pets")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["features.1.block.0.0.weight", "features.0.0.weight"], "like those of a MobileNetV3"),  # torchvision
        (["conv_stem.weight", "blocks.1.0.se.conv_reduce.weight", "conv_head.bias"], "like those of a MobileNetV3"),
        (["features.1.0.block.0.0.weight", "features.0.0.weight"], "like those of an EfficientNet"),
        (["conv1.weight", "layer1.0.conv1.weight"], "like those of a ResNet"),
        (["conv1.weight", "module.layer1.0.conv1.weight"], "like those of a ResNet"),
        (["vit.embeddings.cls_token"], "like those of a vision transformer"),
        (["features.denseblock1.denselayer1.conv1.weight"], "like those of a DenseNet"),
        (["encoder.weight"], r"is no MobileNetV2 of torchvision, timm, .*: its first tensor is encoder.weight"),
        (["a.features.0.0.weight", "b.features.0.0.weight"], r"several networks \(a. and b.\)"),
        (["features.0.0.weight"], "tensors are missing, the first is features.0.1.weight"),
    ],
)
def test_other_networks(names: list[str], message: str, labels: Path, tmp_path: Path) -> None:
    save_file({name: np.zeros((1, 1, 1, 1), np.float32) for name in names}, tmp_path / "x.safetensors")
    with pytest.raises(ArtifactError, match=message) as caught:
        add(tmp_path / "store", tmp_path / "x.safetensors", labels, name="pets")
    assert "x.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classifier.1.weight": None, "classifier.1.bias": None}, "has no classifier; one linear layer"),
        ({"classifier.4.weight": np.ones((3, 3), np.float32)}, "has 2 linear layers ("),
        ({"features.3.conv.1.1.bias": None}, "1 tensors are missing, the first is features.3.conv.1.1.bias"),
        (
            {"features.3.conv.1.1.extra": np.ones(3, np.float32)},
            "1 tensors do not belong here, the first is feat",
        ),
        ({"features.3.conv.2.weight": np.ones(3, np.float32)}, "has shape (3,) and is no convolution's"),
        (
            {"features.18.0.weight": np.ones((448, 8, 1, 1), np.float32)},
            "no width of MobileNetV2 has the shapes of x.safetensors",
        ),
        (
            {"features.2.conv.2.weight": np.ones((9, 48, 1, 1), np.float32)},
            "no width of MobileNetV2 has the shapes of x.safetensors",
        ),
        ({"features.18.1.bias": np.ones(7, np.float32)}, "features.18.1.bias has shape"),
    ],
)
def test_tensors_that_do_not_fit(
    change: dict[str, Any], message: str, weights: Tensors, labels: Path, tmp_path: Path
) -> None:
    tensors = {name: values for name, values in (weights | change).items() if values is not None}
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(ArtifactError) as caught:
        add(tmp_path / "store", tmp_path / "x.safetensors", labels, name="pets")
    assert message in str(caught.value)
    assert not (tmp_path / "store").exists()


def test_a_truncated_safetensors_file(checkpoint: Path, labels: Path, tmp_path: Path) -> None:
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1000])
    with pytest.raises(ArtifactError, match=r"mine.safetensors is not a readable safetensors file"):
        add(tmp_path / "store", checkpoint, labels, name="pets")


def test_folders_that_hold_no_weights(labels: Path, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(ArtifactError, match=r"the folder x holds neither model.safetensors nor pytorch_model.bin$"):
        add(tmp_path / "store", tmp_path / "x", labels, name="pets")
    (tmp_path / "x" / "saved_model.pb").touch()
    with pytest.raises(ArtifactError, match=r"; save the model as .keras"):
        add(tmp_path / "store", tmp_path / "x", labels, name="pets")
