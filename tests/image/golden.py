"""Inputs of which torchvision's squares are committed as digests, so that torch need not be there to compare with.

``torchvision.json``: the name of each case → SHA-256 over the pixels of its photo and of the squares that torchvision
makes of it. ``test_torchvision.py`` proves it; ``python -m tests.image.golden`` writes the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.image import Transform
from tests.image.samples import noise

PATH = Path(__file__).parent / "torchvision.json"

#: (width, height) of the photo.
SIZES = [
    (1, 1), (1, 2), (2, 1), (2, 2), (3, 5), (7, 4), (31, 32), (57, 44),
    (223, 223), (224, 224), (225, 225), (224, 225), (225, 224), (256, 256), (255, 257), (232, 300), (300, 232),
    (500, 375), (375, 500), (333, 500), (500, 334), (640, 427), (427, 640), (301, 225), (300, 225), (225, 300),
    (999, 1000), (1300, 900), (257, 513), (513, 257), (512, 1025), (350, 701),
]  # fmt: skip

#: Thin enough for the numpy pass, and for torchvision's intermediate image to fit a test.
THIN = [
    (1, 4), (4, 1), (1, 300), (300, 1), (3, 700), (700, 3), (2, 9), (64, 256), (256, 64),
    (57, 400), (400, 57), (260, 1400), (1400, 260), (300, 2999), (2999, 300), (225, 1000), (1000, 225),
]  # fmt: skip

PRESETS = [Transform(size, 224, mode) for size in (256, 232) for mode in ("bilinear", "bicubic")]

#: Smaller than the crop, which pads them.
SMALL = [(40, 30), (30, 41), (33, 400), (400, 33), (30, 60), (1, 9)]
PADDED = [Transform(35, crop) for crop in (35, 36, 50, 61, 300)]

CASES: dict[str, tuple[tuple[int, int], list[Transform]]] = {
    **{f"{width}x{height}": ((width, height), PRESETS) for width, height in SIZES + THIN},
    **{f"{width}x{height}, padded": ((width, height), PADDED) for width, height in SMALL},
}

#: (photo, transform) → uint8[crop, crop, 3]
Preset = Callable[[Image.Image, Transform], NDArray[np.uint8]]


def digest(case: str, preset: Preset) -> str:
    """Of the case's input and of what ``preset`` makes of it with each of the case's transforms."""
    size, transforms = CASES[case]
    pixels = noise(*size)
    hashed = hashlib.sha256(pixels.tobytes())
    for transform in transforms:
        hashed.update(preset(Image.fromarray(pixels), transform).tobytes())
    return hashed.hexdigest()


def committed() -> dict[str, str]:
    digests: dict[str, str] = json.loads(PATH.read_text())
    return digests


def main() -> None:
    from tests.image.test_torchvision import torchvision_preset

    PATH.write_text(json.dumps({case: digest(case, torchvision_preset) for case in CASES}, indent=0) + "\n")


if __name__ == "__main__":
    main()
