"""Pictures made in code, and their encodings; shared by the tests of this package."""

from __future__ import annotations

import io
import struct
from functools import cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.image import Pixels, Transform, inspect, preprocess

#: Leaves the pixels of a SMALL picture as they are: its shorter side is already 48, and the crop takes nothing off.
IDENTITY = Transform(resize_size=48, crop_size=48)
SMALL = (48, 48)


def noise(width: int, height: int, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    """(height, width, channels) uint8; every resampling error shows in it."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def gradient(width: int, height: int) -> NDArray[np.uint8]:
    """(height, width, 3) uint8; smooth, so that JPEG keeps it, and different in every corner and channel."""
    y, x = np.mgrid[0:height, 0:width]
    planes = (255 * x / max(1, width - 1), 255 * y / max(1, height - 1), 255 * (x + y) / max(1, width + height - 2))
    return np.stack(planes, axis=-1).astype(np.uint8)


def encode(image: Image.Image | NDArray[Any], kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def patched(data: bytes, at: int, layout: str, *values: int) -> bytes:
    """``data`` with other numbers at a place: a header that lies. ``layout`` is that of ``struct``."""
    changed = bytearray(data)
    struct.pack_into(layout, changed, at, *values)
    return bytes(changed)


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[274] = orientation
    tags[271] = "a maker with a name that does not fit into four bytes"
    return tags.tobytes()


#: What to do to the picture so that EXIF's orientation puts it upright again.
STORED: Final = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def stored(image: Image.Image, orientation: int) -> Image.Image:
    """``image`` as a camera held that way would store it."""
    method = STORED[orientation]
    return image if method is None else image.transpose(method)


class Decoded(NamedTuple):
    """What a request learns of an image: its pixels for the model, and the facts that its header gives."""

    image: Pixels
    format: str
    warnings: tuple[str, ...]
    size: tuple[int, int]


def run(data: bytes, transform: Transform = IDENTITY) -> Decoded:
    header = inspect(data)
    return Decoded(preprocess(data, header, transform), header.format, header.warnings, header.upright_size)


@cache
def seeds() -> dict[str, bytes]:
    """A small intact picture of each kind, by name; to be damaged."""
    return {
        "jpeg": encode(noise(48, 48), "JPEG", exif=exif(6)),
        "progressive": encode(noise(48, 48), "JPEG", progressive=True, icc_profile=b"p" * 300),
        "cmyk": encode(Image.fromarray(noise(48, 48, 4), "CMYK"), "JPEG"),
        "mpo": encode(noise(48, 48), "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))]),
        "png": encode(noise(48, 48, 4), "PNG", exif=exif(6), icc_profile=b"profile"),
        "palette": encode(Image.fromarray(noise(48, 48)).convert("P"), "PNG", transparency=bytes(range(90))),
        "deep": encode(noise(48, 48)[..., 0].astype(np.uint16) * 257, "PNG"),
        "webp": encode(noise(48, 48, 4), "WEBP", exif=exif(6)),
        "gif": encode(Image.new("P", (48, 48)), "GIF", save_all=True, append_images=[Image.new("P", (48, 48), 9)]),
        "bmp": encode(noise(48, 48), "BMP"),
        "tiff": encode(noise(48, 48), "TIFF"),
        "lzw": encode(noise(48, 48), "TIFF", compression="tiff_lzw"),
        "avif": encode(noise(48, 48, 4), "AVIF", exif=exif(6)),
        "jpeg_in_tiff": encode(noise(48, 48), "TIFF", compression="jpeg"),
    }
