"""AVIF and HEIC: the pixels, for ``decode``. The decoder gets a file that ``inspect_bmff`` has accepted.

Both decoders could use as many threads as the machine has cores; a decode thread of the service is one.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from PIL import Image

from service.errors import BadImage
from service.image.formats.bmff import still
from service.image.header import CORRUPT, Header


def decode_avif(data: bytes, header: Header) -> Image.Image:
    """The image in mode L, RGB or RGBA, as stored: not turned. Raises what libavif's binding raises.

    Pillow's plugin copies all pixels twice more, and reads the metadata.
    """
    decoder = importlib.import_module("PIL._avif").AvifDecoder(still(data) if header.animated else data, "auto", 1)
    size, _, mode, *_ = decoder.get_info()
    if size != (header.width, header.height):
        raise BadImage(CORRUPT)
    return Image.frombuffer(mode, size, decoder.get_frame(0)[0], "raw", mode, 0, 1)


def decode_heic(data: bytes, header: Header) -> Image.Image:
    """The image in mode L, RGB, RGBA, RGBa or I;16, upright. Raises what pi_heif raises."""
    file = _pi_heif().open_heif(still(data) if header.animated else data, convert_hdr_to_8bit=True)
    image = file[file.primary_index]
    if image.size != header.upright_size:
        raise BadImage(CORRUPT)
    pixels, mode = image.data, image.mode
    if image.size != header.upright_size:  # the size of what was decoded
        raise BadImage(CORRUPT)
    # A copy: of pi_heif 1.4 the memory is freed with ``image``, even if ``pixels`` lives on.
    return Image.frombytes(mode, image.size, pixels, "raw", mode, image.stride)


@cache
def _pi_heif() -> Any:
    """Imported only when the first HEIC arrives: 30 ms."""
    module = importlib.import_module("pi_heif")
    options = module.options
    options.DECODE_THREADS = 0
    options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False
    return module
