"""Cases exactly at, and one over, each limit of a server: pixels, bytes of a body, scans, blocks."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from service.image import Limits
from tests.hostile.images.bmps import bmp
from tests.hostile.images.case import LOSSY, OK, OK_OR_BAD, TOO_LARGE, Case, encode, indexed, plain, same
from tests.hostile.images.jpeg_parts import segment
from tests.hostile.images.png_writer import GREY, RGB, RGBA, SIGNATURE, chunk, header, rows, write
from tests.hostile.images.tiff_writer import RATIONAL, ROWS_PER_STRIP, STRIPS, X_RESOLUTION, Tag, longs, shorts, tiff

_GREY = (shorts(258, 8), shorts(262, 1), shorts(277, 1))


def cases(limits: Limits, max_body_bytes: int) -> Iterator[Case]:
    yield from _pixels(limits)
    yield from _bytes(max_body_bytes)
    yield from _work(limits)
    yield from _full(max_body_bytes - 4_096)


def _pixels(limits: Limits) -> Iterator[Case]:
    """The most pixels must be a multiple of 10,000."""
    most = limits.max_pixels
    width, height = 10_000, most // 10_000
    for extra, statuses in ((0, OK), (1, TOO_LARGE)):
        word = "at the limit" if extra == 0 else "over the limit"
        yield Case(f"pixels {word}: png", _blank_png(width, height + extra), statuses)
        row = bytes(-(-width // 32) * 4)
        bits = bmp(1, row * (height + extra), width=width, height=height + extra, palette=b"\0\0\0\0\xff\xff\xff\0")
        yield Case(f"pixels {word}: bmp", bits, statuses)
        image = Image.new("L", (width, height + extra), 90)
        for kind, options in (("JPEG", {}), ("GIF", {}), ("AVIF", {"speed": 10}), ("WEBP", {"lossless": True})):
            yield Case(f"pixels {word}: {kind.lower()}", encode(image, kind, **options), statuses)
        yield Case(f"pixels {word}: tiff", encode(image, "TIFF", compression="tiff_lzw"), statuses)
    yield Case("pixels over the limit: one row", _blank_png(most + 1, 1), TOO_LARGE)
    for extra, statuses in ((0, OK), (1, TOO_LARGE)):
        word = "over" if extra else "at"
        yield Case(f"side {word} the limit: one row", _blank_png(limits.max_side + extra, 1), statuses)
        yield Case(f"side {word} the limit: one column", _blank_png(1, limits.max_side + extra), statuses)
    deep = rows(np.zeros((1, 1, 4), np.uint16), 16)
    wide = header(2**31 // 64, 1, 16, RGBA)
    yield Case(
        "a row of 2 GiB", b"".join((SIGNATURE, wide, chunk(b"IDAT", zlib.compress(deep)), chunk(b"IEND"))), TOO_LARGE
    )


def _blank_png(width: int, height: int) -> bytes:
    blank = zlib.compress(bytes(height * (1 + -(-width // 8))), 9)
    return b"".join((SIGNATURE, header(width, height, 1, GREY), chunk(b"IDAT", blank), chunk(b"IEND")))


def _bytes(most: int) -> Iterator[Case]:
    data = encode(plain(), "JPEG", quality=95)
    yield same("bytes at the limit", data + bytes(most - len(data)), LOSSY)
    yield Case("bytes over the limit", data + bytes(most + 1 - len(data)), TOO_LARGE)


def _work(limits: Limits) -> Iterator[Case]:
    data = encode(plain(), "JPEG", quality=95)
    # Its own segments, and the one step that finds the scan.
    own = data[2 : data.index(b"\xff\xda")].count(b"\xff") + 1
    spare = limits.max_segments - own
    comments = [segment(0xFE, b"")]
    yield same("segments at the limit: jpeg", data[:2] + b"".join(comments * spare) + data[2:], LOSSY)
    yield Case("segments over the limit: jpeg", data[:2] + b"".join(comments * (spare + 1)) + data[2:])
    own = 2  # IHDR and IDAT; IEND ends the count
    chunks = [chunk(b"teXt")] * (limits.max_blocks - own)
    yield same("blocks at the limit: png", write(plain(), 8, RGB, before=chunks))
    yield Case("blocks over the limit: png", write(plain(), 8, RGB, before=[*chunks, chunks[0]]))
    strips = [b"abc"] * limits.max_blocks
    tags = [longs(256, 1), longs(ROWS_PER_STRIP, 1)]
    yield Case("blocks at the limit: tiff", tiff(strips, [*tags, longs(257, len(strips))]), OK)
    more = [*strips, b"abc"]
    yield Case("blocks over the limit: tiff", tiff(more, [*tags, longs(257, len(more))]))
    yield from _scans(limits)
    yield from _run_lengths(limits)


def _scans(limits: Limits) -> Iterator[Case]:
    # As many scans as the pixels allow, of a picture that is large enough for more than the free ones to be few.
    side = 1_000
    picture = encode(Image.new("L", (side, side), 90), "JPEG", progressive=True)
    own = picture.count(b"\xff\xda")
    scan = picture[picture.rindex(b"\xff\xda") : -2]
    most = limits.max_scan_pixels // side**2
    for extra, statuses in ((0, OK), (1, frozenset({422}))):
        data = picture[:-2] + scan * (most - own + extra) + picture[-2:]
        yield Case(f"scans {'over' if extra else 'at'} the limit", data, statuses)


def _run_lengths(limits: Limits) -> Iterator[Case]:
    width, height = 1_000, limits.max_rle_pixels // 1_000
    ramp = np.repeat(np.arange(256, dtype=np.uint8), 4).tobytes()
    for extra, statuses in ((0, OK_OR_BAD), (1, frozenset({422}))):
        runs = (b"\xfa\1" * 4 + b"\0\0") * (height + extra) + b"\0\1"
        data = bmp(8, runs, width=width, height=height + extra, compression=1, palette=ramp)
        yield Case(f"run lengths {'over' if extra else 'at'} the limit", data, statuses)


def _full(most: int) -> Iterator[Case]:
    """Bodies full of what Pillow would unpack, copy or walk; each costs seconds or minutes if it is allowed to."""
    profile = chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(1_000_000), 9))
    text = chunk(b"zTXt", b"\0\0" + zlib.compress(bytes(1_000_000), 9))
    pixels = write(plain(), 8, RGB)
    for name, part in (("profiles", profile), ("texts", text)):
        count = (most - len(pixels)) // len(part)
        yield same(f"full of {name}: png", pixels[:33] + part * count + pixels[33:])
    data = encode(plain(), "JPEG", quality=95)
    exif = segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\0\0" + bytes(54))
    count = (most - len(data)) // len(exif)
    yield Case("full of EXIF: jpeg", data[:2] + exif * count + data[2:])
    yield Case("full of fill bytes: jpeg", data[:2] + b"\xff" * (most - len(data)) + data[2:])
    progressive = encode(plain(), "JPEG", progressive=True)
    scan = progressive[progressive.rindex(b"\xff\xda") : -2] + segment(0xFE, b"") * ((most - 200_000) // 80)
    yield Case("full of comments between scans: jpeg", progressive[:-2] + scan * 20 + progressive[-2:])
    rational = b"\7\0\0\0\3\0\0\0" * ((most - plain().size) // 8 - 100)
    yield same(
        "full of rationals: tiff",
        tiff([plain().tobytes()], [Tag(X_RESOLUTION, RATIONAL, memoryview(rational).cast("I"))]),
    )
    side = 1_400  # larger strips would be worse, but the picture must be within its limit
    strips = [*(longs(tag, side) for tag in (256, 257)), longs(ROWS_PER_STRIP, side - 1), *_GREY]
    block = bytes(side * side)
    yield Case("one strip listed 60,000 times: tiff", tiff([block], [*strips, longs(STRIPS, *[8] * 60_000)]))
    codes = bmp(8, b"\xff\1" * ((most - 2_000) // 2), width=1_000, height=1_000, compression=1)
    yield Case("full of runs beyond the row: bmp", codes)
    palette = encode(indexed(256), "GIF")
    frame = palette.index(b"\x2c\0\0\0\0", 781)
    hidden = b"\x21\1\0\x21\xfe" + (b"\xff" + b"\1" * 255) * ((most - len(palette)) // 256 - 100) + b"\0"
    yield Case("full of blocks, if an empty one is misread: gif", palette[:frame] + hidden + palette[frame:], OK_OR_BAD)
    fax = [longs(256, 16), longs(257, 1_000_000), shorts(258, 1), shorts(259, 3), shorts(262, 0), shorts(277, 1)]
    noise = np.random.default_rng(0).integers(0, 256, most - 1_000, np.uint8).tobytes()
    yield Case("full of codes that libtiff complains of: tiff", tiff([noise], fax), OK | TOO_LARGE)
