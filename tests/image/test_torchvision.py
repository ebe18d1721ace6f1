"""``exact`` is bit-equal to torchvision on the same PIL image: the digests that ``test_exact.py`` compares with are
torchvision's, and at random sizes the pixels are compared themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torchvision.transforms.functional as F  # noqa: N812
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import InterpolationMode

from service.image import Transform
from service.image.transform import resize_and_crop
from tests.image import golden
from tests.image.samples import noise

V1 = Transform(256, 224)
V2 = Transform(232, 224)


def torchvision_preset(image: Image.Image, transform: Transform) -> NDArray[Any]:
    mode = InterpolationMode(transform.interpolation)
    resized = F.resize(image, [transform.resize_size], interpolation=mode)
    return np.asarray(F.center_crop(resized, [transform.crop_size]))


@pytest.mark.parametrize("case", golden.CASES)
def test_the_committed_digests_are_torchvisions(case: str) -> None:
    assert golden.digest(case, torchvision_preset) == golden.committed()[case]


def test_equals_torchvision_at_random_sizes() -> None:
    sizes = np.random.default_rng(7).integers(1, 700, (60, 2)).tolist()
    for width, height in [*sizes, (4000, 3000), (3000, 4000)]:
        image = Image.fromarray(noise(width, height))
        for transform in (V1, V2, Transform(224, 224), Transform(96, 64)):
            if max(width, height) > 300 * min(width, height):
                continue
            expected = torchvision_preset(image, transform)
            assert np.array_equal(resize_and_crop(image, transform), expected), (width, height, transform)
