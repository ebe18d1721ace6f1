"""Where fuzzing starts: small intact pictures of every kind, so that a mutation is likely to hit what matters."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from service.image import Limits
from tests.hostile.fuzz.regressions import REGRESSIONS
from tests.hostile.images import png_writer, tiff_writer, vp8l
from tests.hostile.images.corpus import corpus
from tests.hostile.images.jpeg_parts import Plane, baseline
from tests.image.heif_samples import NAMES, sample
from tests.image.samples import encode, exif, gradient, seeds

#: Bytes of an input: the directory, tables and a few rows of each format fit.
MAX_LENGTH = 16_384


def all_seeds() -> Iterator[bytes]:
    """Also those cases of the corpus that are small, and what was found before."""
    candidates = [
        *_small(),
        *seeds().values(),
        *REGRESSIONS.values(),
        *(case.data for case in corpus(Limits(), 2**20)),
    ]
    yield from (data for data in candidates if len(data) <= MAX_LENGTH)


def _small() -> Iterator[bytes]:
    colour = Image.fromarray(gradient(24, 17))
    grey, palette, bits = colour.convert("L"), colour.quantize(16), colour.convert("1")
    clear = Image.fromarray(np.dstack([gradient(24, 17), np.arange(24 * 17).reshape(17, 24, 1) % 256]).astype(np.uint8))
    for orientation in range(1, 9):
        for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
            yield encode(colour, kind, exif=exif(orientation))
    for options in ({}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_blocks": 1}, {"optimize": True}):
        for picture in (colour, grey, colour.convert("CMYK")):
            yield encode(picture, "JPEG", quality=60, **options)
    yield baseline(Plane(np.asarray(grey), 4, 1), Plane(np.asarray(grey)), Plane(np.asarray(grey)))
    for picture in (colour, grey, palette, bits, clear, clear.convert("LA")):
        yield encode(picture, "PNG")
        for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
            yield encode(picture, "TIFF", compression=name)
        yield encode(picture.convert("RGB") if picture.mode == "LA" else picture, "BMP")
    yield encode(palette, "PNG", transparency=bytes(range(16)), icc_profile=b"profile")
    yield encode(palette, "GIF", transparency=3, interlace=True, comment=b"comment")
    for kind in ("PNG", "GIF", "WEBP", "TIFF"):
        yield encode(palette, kind, save_all=True, append_images=[grey, bits], lossless=True)
    for samples, colours in ((colour, png_writer.RGB), (grey, png_writer.GREY), (clear, png_writer.RGBA)):
        for depth in (8, 16):
            yield png_writer.write(np.asarray(samples), depth, colours, interlaced=True)
    for name in ("group3", "group4", "tiff_ccitt"):
        yield encode(bits, "TIFF", compression=name)
    yield encode(colour, "TIFF", compression="jpeg")
    yield encode(colour, "TIFF", big_tiff=True)
    yield from (encode(colour.convert(mode), "TIFF") for mode in ("YCbCr", "LAB", "CMYK", "F", "I"))
    yield encode(clear, "WEBP", quality=50)
    yield encode(clear, "WEBP", lossless=True)
    yield encode(Image.new("RGB", (24, 17), (120, 60, 200)), "WEBP", lossless=True)
    yield vp8l.many_groups(32, 20)
    yield from _tiled()
    for picture in (colour, grey, clear):
        yield encode(picture, "AVIF", subsampling="4:4:4")
    yield encode(colour, "AVIF", save_all=True, append_images=[grey.convert("RGB")])
    yield from map(sample, NAMES)


def _tiled() -> Iterator[bytes]:
    size = [tiff_writer.longs(256, 24), tiff_writer.longs(257, 17)]
    tags = [*size, tiff_writer.longs(322, 16), tiff_writer.longs(323, 16)]
    yield tiff_writer.tiff([bytes(range(256)) * 3] * 4, tags, tiled=True, order=">")
    packed = [*tags, tiff_writer.shorts(259, 8), tiff_writer.shorts(317, 2)]
    yield tiff_writer.tiff([zlib.compress(bytes(768))] * 4, packed, tiled=True)
    planes = [*size, tiff_writer.shorts(284, 2), tiff_writer.longs(278, 17)]
    yield tiff_writer.tiff([bytes(24 * 17)] * 3, planes)
