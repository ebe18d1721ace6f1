"""Cases exactly at, and one over, each limit of a server: pixels, bytes of a body, scans, blocks."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from service.image import Limits
from tests.hostile.images import png_writer as png
from tests.hostile.images.bmps import bmp
from tests.hostile.images.case import BAD, LOSSY, OK, OK_OR_BAD, TOO_LARGE, Case, same
from tests.hostile.images.gifs import first_frame
from tests.hostile.images.jpeg_parts import SCAN, jpeg, last_scan, segment
from tests.hostile.images.pictures import indexed, plain
from tests.hostile.images.png_writer import chunk
from tests.hostile.images.tiff_writer import RATIONAL, ROWS_PER_STRIP, STRIPS, X_RESOLUTION, Tag, longs, shorts, tiff
from tests.hostile.images.variants import inserted
from tests.image.samples import encode

#: By how much a case is over its limit, and how its name says so.
_AT_AND_OVER = ((0, "at"), (1, "over"))


def cases(limits: Limits, max_body_bytes: int) -> Iterator[Case]:
    photo = jpeg()
    yield from _pixels(limits)
    yield same("bytes at the limit", photo + bytes(max_body_bytes - len(photo)), LOSSY)
    yield Case("bytes over the limit", photo + bytes(max_body_bytes + 1 - len(photo)), TOO_LARGE)
    yield from _work(limits, photo)
    yield from _full(max_body_bytes - 4_096, photo)


def _pixels(limits: Limits) -> Iterator[Case]:
    """The most pixels must be a multiple of 10,000."""
    most = limits.max_pixels
    width = 10_000
    for extra, word in _AT_AND_OVER:
        height, statuses = most // width + extra, TOO_LARGE if extra else OK
        yield Case(f"pixels {word} the limit: png", _blank_png(width, height), statuses)
        row = bytes(-(-width // 32) * 4)
        bits = bmp(1, row * height, width=width, height=height, table=b"\0\0\0\0\xff\xff\xff\0")
        yield Case(f"pixels {word} the limit: bmp", bits, statuses)
        image = Image.new("L", (width, height), 90)
        for kind, options in (
            ("JPEG", {}),
            ("GIF", {}),
            ("AVIF", {"speed": 10}),
            ("WEBP", {"lossless": True}),
            ("TIFF", {"compression": "tiff_lzw"}),
        ):
            yield Case(f"pixels {word} the limit: {kind.lower()}", encode(image, kind, **options), statuses)
    yield Case("pixels over the limit: one row", _blank_png(most + 1, 1), TOO_LARGE)
    for extra, word in _AT_AND_OVER:
        side, statuses = limits.max_side + extra, TOO_LARGE if extra else OK
        yield Case(f"side {word} the limit: one row", _blank_png(side, 1), statuses)
        yield Case(f"side {word} the limit: one column", _blank_png(1, side), statuses)
    deep = zlib.compress(png.rows(np.zeros((1, 1, 4), np.uint16), 16))
    yield Case("a row of 2 GiB", png.assembled(png.header(2**31 // 64, 1, 16, png.RGBA), deep), TOO_LARGE)


def _blank_png(width: int, height: int) -> bytes:
    blank = zlib.compress(bytes(height * (1 + -(-width // 8))), 9)
    return png.assembled(png.header(width, height, 1, png.GREY), blank)


def _work(limits: Limits, photo: bytes) -> Iterator[Case]:
    # Its own segments, and the one step that finds the scan.
    own = photo[2 : photo.index(SCAN)].count(b"\xff") + 1
    spare = limits.max_segments - own
    comment = segment(0xFE, b"")
    yield same("segments at the limit: jpeg", inserted(photo, 2, comment * spare), LOSSY)
    yield Case("segments over the limit: jpeg", inserted(photo, 2, comment * (spare + 1)))
    spare = limits.max_blocks - 2  # IHDR and IDAT are blocks, too; IEND ends the count
    picture, text = png.write(plain(), 8, png.RGB), chunk(b"teXt")
    yield same("blocks at the limit: png", inserted(picture, png.BODY, text * spare))
    yield Case("blocks over the limit: png", inserted(picture, png.BODY, text * (spare + 1)))
    for extra, word in _AT_AND_OVER:
        strips = [b"abc"] * (limits.max_blocks + extra)
        data = tiff(strips, [longs(256, 1), longs(ROWS_PER_STRIP, 1), longs(257, len(strips))])
        yield Case(f"blocks {word} the limit: tiff", data, BAD if extra else OK)
    # As many scans as the pixels allow, of a picture that is large enough for more than the free ones to be few.
    side = 1_000
    progressive = encode(Image.new("L", (side, side), 90), "JPEG", progressive=True)
    spare = limits.max_scan_pixels // side**2 - progressive.count(SCAN)
    for extra, word in _AT_AND_OVER:
        data = progressive[:-2] + last_scan(progressive) * (spare + extra) + progressive[-2:]
        yield Case(f"scans {word} the limit", data, BAD if extra else OK)
    ramp = np.repeat(np.arange(256, dtype=np.uint8), 4).tobytes()
    for extra, word in _AT_AND_OVER:
        height = limits.max_rle_pixels // 1_000 + extra
        runs = (b"\xfa\1" * 4 + b"\0\0") * height + b"\0\1"
        data = bmp(8, runs, width=1_000, height=height, compression=1, table=ramp)
        yield Case(f"run lengths {word} the limit", data, BAD if extra else OK_OR_BAD)


def _full(most: int, photo: bytes) -> Iterator[Case]:
    """Bodies full of what Pillow would unpack, copy or walk; each costs seconds or minutes if it is allowed to."""
    profile = chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(1_000_000), 9))
    text = chunk(b"zTXt", b"\0\0" + zlib.compress(bytes(1_000_000), 9))
    pixels = png.write(plain(), 8, png.RGB)
    for name, part in (("profiles", profile), ("texts", text)):
        count = (most - len(pixels)) // len(part)
        yield same(f"full of {name}: png", inserted(pixels, png.BODY, part * count))
    exif = segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\0\0" + bytes(54))
    yield Case("full of EXIF: jpeg", inserted(photo, 2, exif * ((most - len(photo)) // len(exif))))
    yield Case("full of fill bytes: jpeg", inserted(photo, 2, b"\xff" * (most - len(photo))))
    progressive = encode(plain(), "JPEG", progressive=True)
    scan = last_scan(progressive) + segment(0xFE, b"") * ((most - 200_000) // 80)
    yield Case("full of comments between scans: jpeg", progressive[:-2] + scan * 20 + progressive[-2:])
    pairs = memoryview(b"\7\0\0\0\3\0\0\0" * ((most - plain().size) // 8 - 100)).cast("I")
    yield same("full of rationals: tiff", tiff([plain().tobytes()], [Tag(X_RESOLUTION, RATIONAL, pairs)]))
    side = 1_400  # larger strips would be worse, but the picture must be within its limit
    strips = [longs(256, side), longs(257, side), longs(ROWS_PER_STRIP, side - 1)]
    strips += [shorts(258, 8), shorts(262, 1), shorts(277, 1)]
    block = bytes(side * side)
    yield Case("one strip listed 60,000 times: tiff", tiff([block], [*strips, longs(STRIPS, *[8] * 60_000)]))
    codes = bmp(8, b"\xff\1" * ((most - 2_000) // 2), width=1_000, height=1_000, compression=1)
    yield Case("full of runs beyond the row: bmp", codes)
    gif = encode(indexed(256), "GIF")
    hidden = b"\x21\1\0\x21\xfe" + (b"\xff" + b"\1" * 255) * ((most - len(gif)) // 256 - 100) + b"\0"
    misread = inserted(gif, first_frame(gif), hidden)
    yield Case("full of blocks, if an empty one is misread: gif", misread, OK_OR_BAD)
    fax = [longs(256, 16), longs(257, 1_000_000), shorts(258, 1), shorts(259, 3), shorts(262, 0), shorts(277, 1)]
    noise = np.random.default_rng(0).integers(0, 256, most - 1_000, np.uint8).tobytes()
    yield Case("full of codes that libtiff complains of: tiff", tiff([noise], fax), OK | TOO_LARGE)
