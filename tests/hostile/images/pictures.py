"""The clean picture behind all cases, its variations, and those that an answer is compared with."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tests.image.samples import encode

UInt8 = NDArray[np.uint8]


@cache
def plain() -> UInt8:
    """(240, 320, 3): a landscape with a house, different in every corner and in every direction."""
    y, x = np.mgrid[0:240, 0:320]
    sky = np.stack((90 + y / 3, 140 + y / 3, 235 - x / 8), axis=-1)
    image = Image.fromarray(sky.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.ellipse((236, 18, 290, 72), fill=(250, 225, 90))
    draw.polygon([(0, 190), (90, 70), (190, 190)], fill=(110, 105, 120))
    draw.polygon([(66, 102), (90, 70), (116, 102), (92, 96)], fill=(245, 245, 250))
    draw.rectangle((0, 186, 320, 240), fill=(80, 150, 60))
    draw.rectangle((190, 130, 280, 205), fill=(200, 90, 60))
    draw.polygon([(178, 132), (235, 92), (292, 132)], fill=(90, 40, 35))
    draw.rectangle((205, 150, 228, 172), fill=(240, 230, 170))
    draw.rectangle((246, 160, 268, 205), fill=(70, 45, 30))
    draw.ellipse((20, 150, 74, 206), fill=(30, 95, 40))
    draw.rectangle((43, 200, 51, 226), fill=(95, 60, 30))
    grain = np.random.default_rng(4).integers(-4, 5, (240, 320, 1))
    return (np.asarray(image) + grain).clip(0, 255).astype(np.uint8)


def plain_image() -> Image.Image:
    return Image.fromarray(plain())


@cache
def opaque() -> UInt8:
    """(240, 320, 4)."""
    return np.asarray(plain_image().convert("RGBA"))


@cache
def grey() -> UInt8:
    """(240, 320)."""
    return np.asarray(plain_image().convert("L"))


def in_black_and_white() -> Image.Image:
    return Image.fromarray(grey() > 127)


@cache
def indexed(colours: int) -> Image.Image:
    """The clean picture with a palette."""
    return plain_image().quantize(colours)


def palette(colours: int) -> bytes:
    """Of ``indexed``: red, green and blue of each colour."""
    entries = indexed(colours).getpalette()
    assert entries is not None
    return bytes(entries[: 3 * colours])


@cache
def references() -> dict[str, bytes]:
    """The pictures that ``Case.like`` names, without loss."""
    found: dict[str, UInt8 | Image.Image] = {
        "plain": plain(),
        "grey": grey(),
        "grey in pairs": np.repeat(grey()[:, ::2], 2, axis=1),
    }
    for bits in (1, 2, 4):
        found[f"{bits} bits"] = ((grey() >> (8 - bits)) * (255 // ((1 << bits) - 1))).astype(np.uint8)
    for colours in (2, 4, 16, 200, 255, 256):
        found[f"{colours} colours"] = indexed(colours).convert("RGB")
    return {name: encode(picture, "PNG") for name, picture in found.items()}
