"""The conversion of Keras' weights is exact: torchvision's graph computes what Keras' would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from service.errors import ArtifactError
from service.model import artifact
from service.model.artifact import Architecture
from service.store import names, recognise
from service.store.checkpoint import Arrays
from service.store.write import serialize
from tests import reference
from tests.store import keras_model

#: Of the largest logit. Both sides compute in float64; the sum variance + epsilon is stored as float32, which rounds
#: it by 6e-8, and 52 batch norms of random weights magnify that.
ROUNDED = 1e-4
#: The same with that sum left unrounded: the conversion itself is exact.
EXACT = 1e-10

ARCHITECTURE = Architecture.model_validate({"width_mult": 0.1, "num_classes": 5})
NETWORK = ARCHITECTURE.network()


@pytest.fixture(scope="module")
def arrays() -> keras_model.Arrays:
    ends = [1, 3, 6, 10, 13, 16, 17]
    channels = [NETWORK.blocks[end - 1].out_channels for end in ends]
    return keras_model.random_arrays(channels, NETWORK.stem.out_channels, NETWORK.embedding_dim, classes=5)


def layout(arrays: keras_model.Arrays) -> names.Layout:
    layers = {name.split("/")[0] for name in arrays}
    return names.find([f"{layer}.weight" for layer in layers], "x.h5")[1]


@pytest.fixture
def checkpoint(arrays: keras_model.Arrays, tmp_path: Path) -> Path:
    keras_model.save(arrays, tmp_path / "keras.h5")
    return tmp_path / "keras.h5"


def convert(checkpoint: Path) -> Arrays:
    return recognise.read(checkpoint, ARCHITECTURE).tensors


@pytest.mark.extra
@pytest.mark.parametrize("size", [32, 96, 180, 224, 231])  # also where the input of a stride is odd
def test_converted_weights_compute_the_same(arrays: keras_model.Arrays, checkpoint: Path, size: int) -> None:
    import torch

    from tests.store.keras_forward import forward

    image = np.random.default_rng(size).uniform(-1, 1, (3, size, size))
    pooled, logits = forward(arrays, torch.from_numpy(image[None]))
    tensors = convert(checkpoint)
    rotated = image[:, ::-1, ::-1]
    scale = float(logits.abs().max())
    ours = reference.logits(tensors, NETWORK, rotated)
    np.testing.assert_allclose(ours, logits[0], rtol=0, atol=ROUNDED * scale)
    # The test can fail: without the rotation the two padding rules give something else.
    upright = reference.logits(tensors, NETWORK, image)
    assert np.abs(upright - logits[0].numpy()).max() > 100 * ROUNDED * scale

    unrounded = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
    for layer, (_, norm) in zip(NETWORK.convs(), layout(arrays).pairs(), strict=True):
        variance = arrays[f"{norm}/{norm}/moving_variance:0"].astype(np.float64) + (1e-3 - 1e-5)
        np.testing.assert_array_equal(tensors[f"{layer.norm}.running_var"], variance.astype(np.float32))
        unrounded[f"{layer.norm}.running_var"] = variance
    np.testing.assert_allclose(reference.logits(unrounded, NETWORK, rotated), logits[0], rtol=0, atol=EXACT * scale)
    features = reference.features(unrounded, NETWORK, rotated)
    np.testing.assert_allclose(features, pooled[0], rtol=0, atol=EXACT * float(pooled.max()))


def test_every_tensor_is_there(checkpoint: Path) -> None:
    tensors = convert(checkpoint)
    artifact.check_tensors(tensors, NETWORK, "keras")
    assert serialize(tensors) == serialize(convert(checkpoint))


def test_layer_names_are_unique_and_keras(arrays: keras_model.Arrays) -> None:
    found = [name for pair in layout(arrays).pairs() for name in pair]
    assert len(found) == len(set(found)) == 104
    assert {name.split("/")[0] for name in arrays} == {*found, "Logits"}


def test_the_architecture_is_read_from_the_shapes(checkpoint: Path) -> None:
    assert recognise.read(checkpoint).architecture.network() == NETWORK


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda arrays: {name: v for name, v in arrays.items() if "Conv_1_bn" not in name},
            "first is Conv_1_bn.weight",
        ),
        (
            lambda arrays: arrays | {"Conv1/Conv1/kernel:0": arrays["Conv1/Conv1/kernel:0"].reshape(-1)},
            "Conv1.weight has shape",
        ),
    ],
)
def test_a_checkpoint_without_a_layer_or_of_another_layout(
    arrays: keras_model.Arrays, tmp_path: Path, damage: Callable[[keras_model.Arrays], keras_model.Arrays], message: str
) -> None:
    keras_model.save(damage(arrays), tmp_path / "x.h5")
    with pytest.raises(ArtifactError, match=message):
        convert(tmp_path / "x.h5")
