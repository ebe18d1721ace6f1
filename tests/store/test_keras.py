"""The conversion of Keras' weights is exact: torchvision's graph computes what Keras' would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from service.errors import PullError
from service.model import artifact
from service.model import network as mobilenetv2
from service.store import keras
from service.store.write import serialize
from tests import reference
from tests.store import keras_model

#: Of the largest logit. Both sides compute in float64; the sum variance + epsilon is stored as float32, which rounds
#: it by 6e-8, and 52 batch norms of random weights magnify that.
ROUNDED = 1e-4
#: The same with that sum left unrounded: the conversion itself is exact.
EXACT = 1e-10

NETWORK = mobilenetv2.build(width_mult=0.1, num_classes=5)


@pytest.fixture(scope="module")
def arrays() -> keras_model.Arrays:
    ends = [1, 3, 6, 10, 13, 16, 17]
    channels = [NETWORK.blocks[end - 1].out_channels for end in ends]
    return keras_model.random_arrays(channels, NETWORK.stem.out_channels, NETWORK.embedding_dim, classes=5)


@pytest.fixture
def checkpoint(arrays: keras_model.Arrays, tmp_path: Path) -> Path:
    keras_model.save(arrays, tmp_path / "keras.h5")
    return tmp_path / "keras.h5"


@pytest.mark.extra
@pytest.mark.parametrize("size", [32, 96, 224])
def test_converted_weights_compute_the_same(arrays: keras_model.Arrays, checkpoint: Path, size: int) -> None:
    import torch

    from tests.store.keras_forward import forward

    image = np.random.default_rng(size).uniform(-1, 1, (3, size, size))
    pooled, logits = forward(arrays, torch.from_numpy(image[None]))
    tensors = keras.convert(checkpoint, NETWORK)
    rotated = image[:, ::-1, ::-1]
    scale = float(logits.abs().max())
    ours = reference.logits(tensors, NETWORK, rotated)
    np.testing.assert_allclose(ours, logits[0], rtol=0, atol=ROUNDED * scale)
    # The test can fail: without the rotation the two padding rules give something else.
    upright = reference.logits(tensors, NETWORK, image)
    assert np.abs(upright - logits[0].numpy()).max() > 100 * ROUNDED * scale

    unrounded = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
    for layer, _, norm in keras.layer_names(NETWORK):
        variance = arrays[f"{norm}/{norm}/moving_variance:0"].astype(np.float64) + (1e-3 - 1e-5)
        np.testing.assert_array_equal(tensors[f"{layer.norm}.running_var"], variance.astype(np.float32))
        unrounded[f"{layer.norm}.running_var"] = variance
    np.testing.assert_allclose(reference.logits(unrounded, NETWORK, rotated), logits[0], rtol=0, atol=EXACT * scale)
    features = reference.features(unrounded, NETWORK, rotated)
    np.testing.assert_allclose(features, pooled[0], rtol=0, atol=EXACT * float(pooled.max()))


def test_every_tensor_is_there(checkpoint: Path) -> None:
    tensors = keras.convert(checkpoint, NETWORK)
    artifact.check_tensors(tensors, NETWORK, "keras")
    assert serialize(tensors) == serialize(keras.convert(checkpoint, NETWORK))


def test_layer_names_are_unique_and_keras(arrays: keras_model.Arrays) -> None:
    names = [name for _, *pair in keras.layer_names(NETWORK) for name in pair]
    assert len(names) == len(set(names)) == 104
    assert {name.split("/")[0] for name in arrays} == {*names, "Logits"}


def test_a_file_that_is_not_hdf5(tmp_path: Path) -> None:
    (tmp_path / "x.h5").write_bytes(b"not HDF5")
    with pytest.raises(PullError, match="not a readable HDF5 file"):
        keras.convert(tmp_path / "x.h5", NETWORK)


def test_a_checkpoint_of_another_width(checkpoint: Path) -> None:
    with pytest.raises(PullError, match=r"has features.* of shape .*, expected "):
        keras.convert(checkpoint, mobilenetv2.build(width_mult=0.5, num_classes=5))


@pytest.mark.parametrize(
    "damage",
    [
        lambda arrays: {name: values for name, values in arrays.items() if "Conv_1_bn" not in name},
        lambda arrays: arrays | {"Conv1/Conv1/kernel:0": arrays["Conv1/Conv1/kernel:0"].reshape(-1)},
    ],
)
def test_a_checkpoint_without_a_layer_or_of_another_layout(
    arrays: keras_model.Arrays, tmp_path: Path, damage: Callable[[keras_model.Arrays], keras_model.Arrays]
) -> None:
    keras_model.save(damage(arrays), tmp_path / "x.h5")
    with pytest.raises(PullError, match="does not hold this network"):
        keras.convert(tmp_path / "x.h5", NETWORK)
