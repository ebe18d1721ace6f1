"""Artifacts of many architectures, made once per run, and the answers that torchvision gives for them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.model.artifact import Artifact
from tests.artifacts import make_artifact

KERAS = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}

#: Arguments of ``make_artifact`` (ImageNet's mean and std unless it says otherwise).
ARTIFACTS: dict[str, dict[str, Any]] = {
    "tiny": {"crop_size": 64},
    "tiny-rotated": {"crop_size": 64, "rotate_180": True, **KERAS},
    "width-0.5-two-classes": {"width_mult": 0.5, "num_classes": 2, "crop_size": 96, "rotate_180": True},
    "width-0.75-nearest-4": {"width_mult": 0.75, "round_nearest": 4, "crop_size": 96, **KERAS},
    "paper": {"width_mult": 1.0, "num_classes": 1000},
    "paper-rotated": {"width_mult": 1.0, "num_classes": 1000, "rotate_180": True, **KERAS},
    "width-1.4": {"width_mult": 1.4, "num_classes": 100, "crop_size": 96, "rotate_180": True},
    "own-table-odd-size": {
        "inverted_residual_setting": [(1, 8, 2, 2), (4, 16, 2, 1), (3, 24, 1, 2)],
        "crop_size": 75,  # odd at 75, even at 38, odd at 19: both paddings of a rotated network
        "rotate_180": True,
    },
    "one-class": {"num_classes": 1, "crop_size": 32},
}

#: Makes the artifact of a name in ``ARTIFACTS``.
ArtifactOf = Callable[[str], Artifact]

#: Parameters of tests that ask both.
RUNTIMES = ["openvino", pytest.param("torch", marks=pytest.mark.extra)]


@pytest.fixture(scope="session")
def artifact_of(tmp_path_factory: pytest.TempPathFactory) -> ArtifactOf:
    store = tmp_path_factory.mktemp("store")
    made: dict[str, Artifact] = {}

    def get(name: str) -> Artifact:
        if name not in made:
            made[name] = make_artifact(store, name=name, **ARTIFACTS[name])
        return made[name]

    return get


@pytest.fixture(scope="session")
def tiny(artifact_of: ArtifactOf) -> Artifact:
    return artifact_of("tiny")


def images_for(artifact: Artifact, count: int, seed: int = 0) -> NDArray[np.uint8]:
    """(count, S, S, 3): coarse patches under fine noise, no two alike, with both ends of uint8."""
    size = artifact.manifest.preprocessing.crop_size
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 5, 5, 3)).repeat(-(-size // 5), 1).repeat(-(-size // 5), 2)
    noise = rng.integers(-40, 41, (count, size, size, 3))
    result: NDArray[np.uint8] = np.clip(coarse[:, :size, :size] + noise, 0, 255).astype(np.uint8)
    return result


def python(code: str, *arguments: str) -> str:
    """What ``code`` prints in a process of its own."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass(frozen=True)
class Expected:
    """What torchvision answers; float32."""

    logits: NDArray[np.float32]  # (B, num_classes)
    embeddings: NDArray[np.float32]  # (B, embedding_dim)
    features: NDArray[np.float32]  # (B, embedding_dim, S, S), in the frame of the image as sent


def torchvision_answers(artifact: Artifact, images: NDArray[np.uint8]) -> Expected:
    """torchvision's model in eager mode, fed as its documentation says; shares no code with a runtime."""
    import torch
    from torchvision.models import mobilenetv2

    architecture, preprocessing = artifact.manifest.architecture, artifact.manifest.preprocessing
    rows = architecture.inverted_residual_setting
    model = mobilenetv2.MobileNetV2(
        num_classes=architecture.num_classes,
        width_mult=architecture.width_mult,
        inverted_residual_setting=None if rows is None else [list(row) for row in rows],
        round_nearest=architecture.round_nearest,
    )
    state = {name: torch.tensor(value) for name, value in artifact.load_weights().items()}
    state |= {name: value for name, value in model.state_dict().items() if name.endswith("num_batches_tracked")}
    model.load_state_dict(state, strict=True)
    model.eval()
    pixels = torch.tensor(images.transpose(0, 3, 1, 2) / np.float32(255), dtype=torch.float32)
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (preprocessing.mean, preprocessing.std))
    normalized = (pixels - mean) / std
    with torch.inference_mode():
        if preprocessing.rotate_180:
            normalized = torch.rot90(normalized, 2, (2, 3))
        features = model.features(normalized)
        logits = model(normalized)
        if preprocessing.rotate_180:
            features = torch.rot90(features, 2, (2, 3))
    return Expected(logits.numpy(), features.mean((2, 3)).numpy(), features.numpy())


def least_cosine(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    """Of two arrays' rows."""
    lengths = np.linalg.norm(actual, axis=1) * np.linalg.norm(expected, axis=1)
    return float(((actual * expected).sum(axis=1) / lengths).min())


def relative_error(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    """Largest difference over largest magnitude."""
    assert actual.shape == expected.shape
    return float(np.abs(actual - expected).max() / np.abs(expected).max())
