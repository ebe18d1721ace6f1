"""Converts a decoded Pillow image of any mode to the canonical form: RGB, 8 bits, opaque, upright.

Images come from ``decode`` and go to ``transform``. Embedded colour profiles are not applied: torchvision does not
apply them either, and the weights were trained without.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from PIL import Image

from service.errors import BadImage

_TRANSPOSITIONS: Final[dict[int, Image.Transpose]] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_WHITE: Final = (255, 255, 255)


def opaque_rgb(image: Image.Image, grey_bits: int = 16) -> Image.Image:
    """``image`` in mode RGB: transparency over white, the high byte of deep grey, Pillow's conversion otherwise.

    ``grey_bits`` is the depth of the samples in the I;16 modes. Returns ``image`` itself if nothing has to be done.
    Raises BadImage for 32-bit integers and floats, whose range is unknown.
    """
    mode = image.mode
    if mode in ("I", "F"):
        kind = "floating-point" if mode == "F" else "signed or 32-bit integer"
        raise BadImage(f"{kind} pixels are not supported; send 8 or 16 bits per sample")
    if mode.startswith("I;16"):
        return _from_deep_grey(image, grey_bits)
    if mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        return _over_white(image)
    return image if mode == "RGB" else image.convert("RGB")


def apply_orientation(image: Image.Image, orientation: int) -> Image.Image:
    """``image`` rotated and mirrored as EXIF's ``orientation`` (1 to 8) says; itself for 1."""
    method = _TRANSPOSITIONS.get(orientation)
    return image if method is None else image.transpose(method)


def _over_white(image: Image.Image) -> Image.Image:
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode != "RGBA":
        image = image.convert("RGBA")
    canvas = Image.new("RGB", image.size, _WHITE)
    # The image is its own mask, which saves a separate alpha plane: at most two images are in memory.
    canvas.paste(image, (0, 0), image)
    return canvas


def _from_deep_grey(image: Image.Image, bits: int) -> Image.Image:
    deep = np.asarray(image)
    grey = (deep >> (bits - 8)).astype(np.uint8)
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey[deep == clear] = 255
    return Image.fromarray(grey).convert("RGB")
