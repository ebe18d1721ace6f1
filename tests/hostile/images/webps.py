"""WebP cases: lossy, lossless, alpha, animation, canvases and chunks that lie, damage."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from PIL import Image

from tests.hostile.images import vp8l
from tests.hostile.images.case import ANY, BAD, EXIF, FRAMES, LOSSY, OK, OK_OR_BAD, TOO_LARGE, UNSUPPORTED, Case, same
from tests.hostile.images.pictures import opaque, plain
from tests.hostile.images.variants import flipped, orientations, overwritten, truncations
from tests.image.samples import encode


def cases() -> Iterator[Case]:
    lossy, lossless = encode(plain(), "WEBP", quality=95), _lossless()
    yield same("webp: lossy", lossy, LOSSY)
    yield same("webp: lossless", lossless)
    # An encoder drops alpha that is everywhere opaque.
    nearly = opaque().copy()
    nearly[0, 0, 3] = 254
    yield same("webp: lossy with alpha", encode(nearly, "WEBP", quality=95), LOSSY)
    yield same("webp: lossless with alpha", encode(nearly, "WEBP", lossless=True))
    yield from orientations("WEBP", lossless=True)
    yield same("webp: EXIF that is text", _lossless(exif=b"not a directory"), warnings=EXIF)
    yield same("webp: a megabyte of profile", _lossless(icc_profile=bytes(1_000_000)))
    yield same("webp: a megabyte of XMP", _lossless(xmp=bytes(1_000_000)))
    yield from _animation()
    yield from _lies(lossy, lossless)
    yield from truncations("lossy webp", lossy, 40)
    yield from truncations("lossless webp", lossless, 40)
    yield from flipped("lossy webp", lossy, 12)
    yield from flipped("lossless webp", lossless, 12)


def _lossless(**options: Any) -> bytes:
    return encode(plain(), "WEBP", lossless=True, **options)


def _animation() -> Iterator[Case]:
    frames = [Image.new("RGB", (320, 240), (value, 255 - value, 0)) for value in range(0, 250, 10)]
    lossy = ("lossy", {"quality": 95}, {"cosine": LOSSY})
    for name, options, tolerance in (lossy, ("lossless", {"lossless": True}, {})):
        data = encode(plain(), "WEBP", save_all=True, append_images=frames, duration=10, **options)
        yield same(f"webp: animated, {name}", data, warnings=FRAMES, **tolerance)
        canvas = data.index(b"VP8X") + 12
        huge = overwritten(data, canvas, b"\xff" * 6)
        yield Case(f"webp: animated, {name}, a canvas of 16,777,216 squared", huge, TOO_LARGE)
        yield Case(f"webp: animated, {name}, frames larger than the canvas", overwritten(data, canvas, bytes(6)))
    yield from truncations("animated webp", data, 60, OK_OR_BAD)


def _lies(lossy: bytes, lossless: bytes) -> Iterator[Case]:
    for width, height, statuses in ((16_383, 16_383, TOO_LARGE), (0, 0, BAD), (640, 480, OK_OR_BAD), (1, 1, OK_OR_BAD)):
        data = overwritten(lossy, 26, struct.pack("<HH", width, height))
        yield Case(f"webp: lossy, says that it is {width}x{height}", data, statuses)
    for width, height, statuses in ((16_384, 16_384, TOO_LARGE), (640, 480, BAD), (1, 1, OK_OR_BAD)):
        data = overwritten(lossless, 21, struct.pack("<I", (width - 1) | (height - 1) << 14))
        yield Case(f"webp: lossless, says that it is {width}x{height}", data, statuses)
    for side in (300, 1_000):
        flat = encode(Image.new("RGB", (side, side), (120, 60, 200)), "WEBP", lossless=True)
        yield Case(f"webp: one colour, {side} squared", flat, OK)
    yield Case("webp: 4,000 groups of codes", vp8l.many_groups(256, 4_000), OK)
    yield Case("webp: its length is 0", overwritten(lossy, 4, bytes(4)), OK_OR_BAD)
    yield Case("webp: its length is four gigabytes", overwritten(lossy, 4, b"\xff\xff\xff\xff"), OK_OR_BAD)
    yield Case("webp: a chunk longer than the file", overwritten(lossy, 16, b"\xff\xff\xff\x7f"), OK_OR_BAD)
    yield Case("webp: a kind nobody knows", overwritten(lossy, 12, b"VP9 "))
    yield Case("webp: a canvas and nothing else", vp8l.riff((b"VP8X", bytes(10)), (b"junk", bytes(20))))
    yield Case("webp: 70,000 empty chunks", lossy + b"junk\0\0\0\0" * 70_000)
    yield Case("webp: a megabyte behind its end", lossy + bytes(1_000_000), ANY)
    alpha = vp8l.riff(
        (b"VP8X", bytes((0x10, 0, 0, 0)) + struct.pack("<I", 319)[:3] + struct.pack("<I", 239)[:3]),
        (b"ALPH", b"\x01" + b"junk" * 50),
        (b"VP8 ", lossy[20:]),
    )
    yield Case("webp: alpha that is junk", alpha, OK_OR_BAD)
    yield Case("webp: WAVE instead", b"RIFF\x24\0\0\0WAVEfmt " + bytes(100), UNSUPPORTED)
