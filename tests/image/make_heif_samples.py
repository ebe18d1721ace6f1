"""Writes ``heif_samples.py``. It needs encoders that the project does not: ``pip install pillow-heif imagecodecs``.

    python -m tests.image.make_heif_samples

Small pictures, and large ones of one colour, which cost a decoder memory but a file hardly any bytes.
"""

from __future__ import annotations

import base64
import importlib
import io
import textwrap
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

_HEADER = '''"""HEIC and AVIF files that nothing in the test environment can encode, made by ``make_heif_samples``.

Compressed by zlib and in base64.
"""

from __future__ import annotations

import base64
import zlib
from functools import cache


@cache
def sample(name: str) -> bytes:
    return zlib.decompress(base64.b64decode(_SAMPLES[name]))


'''


_NAMES = """#: Of the small ones.
NAMES = tuple(name for name in _SAMPLES if "megapixels" not in name)
"""


def _gradient(width: int, height: int, channels: int) -> Any:
    y, x = np.mgrid[0:height, 0:width]
    planes = (x * 255 // (width - 1), y * 255 // (height - 1), (x + y) * 255 // (width + height - 2), 255 - x)
    return np.stack(planes[:channels], axis=-1).astype(np.uint8)


def _heics() -> Iterator[tuple[str, bytes]]:
    heif = importlib.import_module("pillow_heif")

    def encode(mode: str, pixels: Any, **options: Any) -> bytes:
        file = heif.from_bytes(mode=mode, size=pixels.shape[1::-1], data=pixels.tobytes())
        file.save(buffer := io.BytesIO(), quality=80, **options)
        return buffer.getvalue()

    rgb = _gradient(48, 32, 3)
    deep = rgb.astype(np.uint16) * 257
    yield "heic 4:2:0", encode("RGB", rgb)
    yield "heic 4:2:2", encode("RGB", rgb, chroma=422)
    yield "heic 4:4:4", encode("RGB", rgb, chroma=444)
    yield "heic 47x31", encode("RGB", rgb[:31, :47].copy())  # coded as 48x32, with a clean aperture
    yield "heic grey", encode("L", rgb[..., 0].copy())
    yield "heic grey, 10 bits", encode("I;16", deep[..., 0].copy())
    yield "heic alpha", encode("RGBA", _gradient(48, 32, 4))
    yield "heic 10 bits", encode("RGB;16", deep)
    heif.options.SAVE_HDR_TO_12_BIT = True
    yield "heic 12 bits", encode("RGB;16", deep)
    large = np.full((7_070, 7_070, 4), 32_768, np.uint16)
    yield "heic 12 bits, alpha, 50 megapixels", encode("RGBA;16", large, chroma=444, enc_params={"preset": "ultrafast"})


def _avifs() -> Iterator[tuple[str, bytes]]:
    codecs = importlib.import_module("imagecodecs")

    def encode(pixels: Any, bits: int, layout: str) -> bytes:
        pixels = np.ascontiguousarray(pixels)
        data: bytes = codecs.avif_encode(pixels, level=80, speed=8, bitspersample=bits, pixelformat=layout)
        return data

    deep = _gradient(48, 32, 4).astype(np.uint16) * 257
    yield "avif 10 bits", encode(deep[..., :3] >> 6, 10, "420")
    yield "avif 12 bits, 4:4:4", encode(deep[..., :3] >> 4, 12, "444")
    yield "avif grey, 10 bits", encode(deep[..., 0] >> 6, 10, "400")
    yield "avif 12 bits, alpha", encode(deep >> 4, 12, "422")
    yield "avif 12 bits, alpha, 50 megapixels", encode(np.full((7_071, 7_071, 4), 2_048, np.uint16), 12, "444")


def main() -> None:
    lines = ["_SAMPLES = {"]
    for name, data in (*_heics(), *_avifs()):
        text = base64.b64encode(zlib.compress(data, 9)).decode()
        lines += [f'    "{name}": (', *(f'        "{line}"' for line in textwrap.wrap(text, 108)), "    ),"]
    Path(__file__).with_name("heif_samples.py").write_text(_HEADER + "\n".join([*lines, "}", "", _NAMES]))


if __name__ == "__main__":
    main()
