"""What tests compare runtimes with: random artifacts that tell images apart, and a forward pass in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests import reference
from tests.artifacts import make_artifact


def test_different_images_get_different_logits(tmp_path: Path) -> None:
    """What makes the artifacts of ``tests/artifacts.py`` fit to compare runtimes with."""
    found = make_artifact(tmp_path, width_mult=0.35)
    rng = np.random.default_rng(1)
    rows = [
        reference.logits(
            found.load_weights(), found.network, rng.uniform(-2, 2, (3, 64 // n, 64 // n)).repeat(n, 1).repeat(n, 2)
        )
        for n in (1, 8, 32)
    ]
    assert np.std(rows, axis=0).mean() > 0.5
    assert np.abs(rows).max() < 50


@pytest.mark.extra
def test_the_reference_forward_is_torchvisions(tmp_path: Path) -> None:
    """float32 against float64 through 17 blocks: 1e-4 of the largest logit."""
    import torch
    from torchvision.models import MobileNetV2

    tiny = make_artifact(tmp_path, width_mult=0.1, num_classes=3)
    theirs = MobileNetV2(3, 0.1).eval()
    weights = tiny.load_weights()
    theirs.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in weights.items()}, strict=False)
    image = np.random.default_rng(2).uniform(-2, 2, (3, 64, 64))
    with torch.no_grad():
        expected = theirs(torch.from_numpy(image[None]).float())[0].numpy()
    ours = reference.logits(weights, tiny.network, image)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
