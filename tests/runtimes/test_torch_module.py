"""The module that CUDA captures, on the CPU, beside the reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from service.errors import ArtifactError
from service.model.artifact import Artifact
from service.runtimes.torch.network import load_classifier
from service.runtimes.torch.replay import Lane
from service.runtimes.torch.runtime import EagerLane
from tests.runtimes.conftest import ArtifactOf, images_for, relative_error

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["tiny-rotated", "width-0.5-two-classes", "paper", "own-table-odd-size"])
def test_the_folded_graph_answers_as_torchvisions(artifact_of: ArtifactOf, name: str) -> None:
    """What a GPU runs in fp32, on the CPU; test_parity holds the reference to torchvision."""
    artifact = artifact_of(name)
    images, size = images_for(artifact, 2), artifact.manifest.preprocessing.crop_size
    folded, reference = load_classifier(artifact, folded_to="fp32"), load_classifier(artifact)
    norms = [sum(isinstance(layer, nn.BatchNorm2d) for layer in module.modules()) for module in (folded, reference)]
    assert norms == [0, len(list(artifact.network.convs()))]
    actual, expected = Lane(folded, (2,), size, CPU).run(images), EagerLane(reference, size).run(images)
    for field in ("logits", "embeddings", "maps"):
        assert relative_error(getattr(actual, field), getattr(expected, field)) < 1e-4


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.1), ("fp16", 0.01)])
def test_half_precision_is_close(artifact_of: ArtifactOf, precision: str, tolerance: float) -> None:
    """On the CPU, where the runtime refuses it, for want of a GPU; the module is the one that CUDA captures."""
    artifact = artifact_of("tiny-rotated")
    images = images_for(artifact, 3)
    exact, coarse = (
        Lane(load_classifier(artifact, folded_to=name), (3,), 64, CPU).run(images) for name in ("fp32", precision)
    )
    assert coarse.logits.dtype == coarse.maps.dtype == np.float32
    assert 1e-6 < relative_error(coarse.embeddings, exact.embeddings) < tolerance


def test_weights_that_are_not_torchvisions(tiny: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tiny.load_weights()
    last = weights.pop("classifier.1.bias")
    monkeypatch.setattr(Artifact, "load_weights", lambda self: weights)
    with pytest.raises(ArtifactError, match=r"classifier\.1\.bias"):
        load_classifier(tiny)
    weights["classifier.1.bias"] = np.append(last, np.float32(0))
    with pytest.raises(ArtifactError, match="do not fit"):
        load_classifier(tiny)
