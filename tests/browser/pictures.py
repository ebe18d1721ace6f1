"""Pictures for the browser, drawn: what is asked of them is a shape, a format or a size, not a class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from tests.image.samples import encode, exif, stored


@dataclass(frozen=True)
class File:
    """A file as a browser hands it over."""

    name: str
    kind: str
    data: bytes


def drawn(seed: int, width: int = 480, height: int = 360) -> Image.Image:
    """A gradient with a disc and a bar, different for every ``seed``."""
    generator = np.random.default_rng(seed)
    low, high = generator.integers(0, 256, (2, 3))
    ramp = np.linspace(0, 1, width)[None, :, None]
    pixels = (low + (high - low) * ramp).repeat(height, 0).astype(np.uint8)
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    x, y = generator.uniform(0.2, 0.8, 2)
    radius = height * generator.uniform(0.1, 0.3)
    box = (x * width - radius, y * height - radius, x * width + radius, y * height + radius)
    draw.ellipse(box, fill=tuple(generator.integers(0, 256, 3).tolist()))
    draw.rectangle((0, height * y, width, height * y + 12), fill=tuple(generator.integers(0, 256, 3).tolist()))
    return image


def encoded(image: Image.Image, name: str, **options: object) -> File:
    """``image`` in the format that the ending of ``name`` names."""
    ending = name.rpartition(".")[2]
    ending = {"jpg": "jpeg", "tif": "tiff"}.get(ending, ending)
    return File(name, f"image/{ending}", encode(image, ending, **options))


def picture(seed: int, name: str = "", width: int = 480, height: int = 360) -> File:
    return encoded(drawn(seed, width, height), name or f"drawn-{seed}.jpg")


def turned(orientation: int) -> File:
    """Upright it is 600 × 400 with its left half red and its right half blue, whatever way it is stored."""
    image = Image.new("RGB", (600, 400), (200, 30, 30))
    ImageDraw.Draw(image).rectangle((300, 0, 600, 400), fill=(30, 30, 200))
    return encoded(stored(image, orientation), f"turned-{orientation}.jpg", exif=exif(orientation), quality=95)


def animated() -> File:
    frames = [drawn(seed, 160, 120) for seed in (1, 2)]
    return encoded(frames[0], "moving.gif", save_all=True, append_images=frames[1:])


TEXT = File("notes.txt", "text/plain", b"no picture, only words\n" * 20)
