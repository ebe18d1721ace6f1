"""PNG cases: depths, colour types, interlacing, animation, chunks that are bombs, lies and damage."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from functools import cache

import numpy as np
from PIL import Image

from tests.hostile.images.case import (
    BAD,
    EXIF,
    FRAMES,
    OK,
    OK_OR_BAD,
    TOO_LARGE,
    Case,
    encode,
    exif,
    flipped,
    grey,
    indexed,
    lies_about_size,
    orientations,
    plain,
    same,
    truncations,
)
from tests.hostile.images.png_writer import GREY, GREY_ALPHA, PALETTE, RGB, RGBA, SIGNATURE, chunk, header, rows, write


def cases() -> Iterator[Case]:
    yield from _depths(interlaced=False)
    yield from _depths(interlaced=True)
    yield from _palettes()
    yield from _metadata()
    yield from _bombs()
    yield from _animation()
    yield from _lies()
    yield from truncations("png", encode(plain(), "PNG"), 45)
    yield from truncations("interlaced png", write(plain(), 8, RGB, interlaced=True), 45)
    yield from flipped("png", encode(plain(), "PNG", exif=exif(6), icc_profile=b"profile"), 24)


def _depths(interlaced: bool) -> Iterator[Case]:
    kind = "interlaced png" if interlaced else "png"

    def case(name: str, samples: object, bits: int, colour: int, like: str = "plain") -> Case:
        data = write(np.asarray(samples), bits, colour, interlaced=interlaced)
        return same(f"{kind}: {name}", data, like=like)

    opaque = np.full((240, 320, 1), 255, np.uint8)
    yield case("RGB, 8 bits", plain(), 8, RGB)
    yield case("RGB, 16 bits", plain().astype(np.uint16) * 257, 16, RGB)
    yield case("RGBA, 8 bits", np.dstack([plain(), opaque]), 8, RGBA)
    yield case("RGBA, 16 bits", np.dstack([plain(), opaque]).astype(np.uint16) * 257, 16, RGBA)
    for bits in (1, 2, 4):
        yield case(f"grey, {bits} bits", grey() >> (8 - bits), bits, GREY, f"{bits} bits")
    yield case("grey, 8 bits", grey(), 8, GREY, "grey")
    yield case("grey, 16 bits", grey().astype(np.uint16) * 257, 16, GREY, "grey")
    yield case("grey with alpha, 8 bits", np.dstack([grey(), opaque]), 8, GREY_ALPHA, "grey")
    deep = np.dstack([grey(), opaque]).astype(np.uint16) * 257
    yield case("grey with alpha, 16 bits", deep, 16, GREY_ALPHA, "grey")


@cache
def _indexed(colours: int) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.uint8]], bytes]:
    image = indexed(colours)
    palette = image.getpalette()
    assert palette is not None
    return np.asarray(image), bytes(palette[: 3 * colours])


def _palettes() -> Iterator[Case]:
    for bits in (8, 4, 2, 1):
        indices, palette = _indexed(1 << bits)
        for interlaced in (False, True):
            kind = "interlaced png" if interlaced else "png"
            data = write(indices, bits, PALETTE, interlaced=interlaced, before=[chunk(b"PLTE", palette)])
            yield same(f"{kind}: palette, {bits} bits", data, like=f"{1 << bits} colours")
    indices, palette = _indexed(255)
    for name, alpha in (("every colour opaque", b"\xff" * 255), ("one unused colour clear", b"\xff" * 255 + b"\0")):
        before = [chunk(b"PLTE", palette + b"\0\0\0"), chunk(b"tRNS", alpha)]
        yield same(f"png: palette, {name}", write(indices, 8, PALETTE, before=before), like="255 colours")
    clear = [chunk(b"PLTE", palette), chunk(b"tRNS", bytes(255))]
    yield Case("png: palette, every colour clear", write(indices, 8, PALETTE, before=clear), OK)
    long_alpha = [chunk(b"PLTE", palette), chunk(b"tRNS", bytes(70_000))]
    yield Case("png: more alpha values than colours", write(indices, 8, PALETTE, before=long_alpha), OK_OR_BAD)
    yield Case("png: palette missing", write(indices, 8, PALETTE), OK_OR_BAD)
    palettes = {
        "empty": b"",
        "of one and a half colours": b"abcde",
        "too short": palette[:30],
        "too long": bytes(300_000),
    }
    for name, entries in palettes.items():
        data = write(indices, 8, PALETTE, before=[chunk(b"PLTE", entries)])
        yield Case(f"png: palette {name}", data, OK_OR_BAD)
    yield Case("png: a transparent colour cut short", write(plain(), 8, RGB, before=[chunk(b"tRNS", b"\0")]), OK_OR_BAD)


def _metadata() -> Iterator[Case]:
    yield from orientations("PNG")
    damaged = write(plain(), 8, RGB, before=[chunk(b"eXIf", b"not a directory")])
    yield same("png: EXIF that is text", damaged, warnings=EXIF)
    for kind in (b"iCCP", b"tEXt", b"zTXt", b"iTXt", b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"acTL", b"fcTL", b"sBIT"):
        name = kind.decode()
        yield same(f"png: {name} empty", write(plain(), 8, RGB, before=[chunk(kind)]))
        frames = FRAMES if kind == b"acTL" else ()
        wrong = chunk(kind, b"damage\0\x07" + bytes(40))
        yield same(
            f"png: {name} damaged", write(plain(), 8, RGB, before=[wrong[:-1] + b"!"], after=[wrong]), warnings=frames
        )
    yield same("png: a chunk nobody knows", write(plain(), 8, RGB, before=[chunk(b"abCd", bytes(1_000))]))
    yield same("png: pixels in pieces of 16 bytes", write(plain(), 8, RGB, piece=16))
    yield same("png: two megabytes behind its end", write(plain(), 8, RGB) + bytes(2_000_000))
    yield Case("png: 70,000 empty chunks", write(plain(), 8, RGB, before=[chunk(b"tEXt")] * 70_000))
    yield Case("png: pixels in 70,000 pieces", write(plain(), 8, RGB, after=[chunk(b"IDAT")] * 70_000))


def _bombs() -> Iterator[Case]:
    kilobyte = zlib.compress(bytes(1_000_000), 9)
    for kind, prefix in (
        (b"iCCP", b"profile\0\0"),
        (b"zTXt", b"text\0\0"),
        (b"zTXt", b"\0\0"),
        (b"iTXt", b"text\0\1\0\0\0"),
    ):
        name = f"{kind.decode()} without a name" if prefix[0] == 0 else kind.decode()
        large = chunk(kind, prefix + zlib.compress(bytes(80_000_000), 9))
        yield same(f"png: 80 MB in one {name}", write(plain(), 8, RGB, before=[large]))
        many = [chunk(kind, prefix + kilobyte)] * 1_000
        yield same(f"png: 1 GB in 1,000 {name}", write(plain(), 8, RGB, before=many[:500], after=many[500:]))
    packed = zlib.compress(rows(plain(), 8) + bytes(200_000_000), 9)
    data = b"".join((SIGNATURE, header(320, 240, 8, RGB), chunk(b"IDAT", packed), chunk(b"IEND")))
    yield same("png: 200 MB of pixels too many", data)
    after = [chunk(b"IDAT", zlib.compress(bytes(50_000_000)))]
    yield same("png: a second stream of pixels, 50 MB", write(plain(), 8, RGB, after=after))
    wide = b"".join((SIGNATURE, header(60_000, 60_000, 8, RGB), chunk(b"IDAT", kilobyte), chunk(b"IEND")))
    yield Case("png: 3.6 gigapixels", wide, TOO_LARGE)


def _animation() -> Iterator[Case]:
    frames = [Image.new("RGB", (320, 240), colour) for colour in ((250, 0, 0), (0, 250, 0))]
    data = encode(plain(), "PNG", save_all=True, append_images=frames, duration=100)
    yield same("apng: three frames", data, warnings=FRAMES)
    hidden = encode(plain(), "PNG", save_all=True, append_images=frames, default_image=True)
    yield same("apng: a picture that is not part of the animation", hidden, warnings=FRAMES)
    many = data.replace(struct.pack(">I", 3), struct.pack(">I", 2**31 - 1), 1)
    yield same("apng: says that it has two thousand million frames", many, warnings=FRAMES)
    yield from truncations("apng", data, 60, OK_OR_BAD)


def _lies() -> Iterator[Case]:
    def sized(width: int, height: int) -> bytes:
        packed = zlib.compress(rows(plain(), 8))
        return b"".join((SIGNATURE, header(width, height, 8, RGB), chunk(b"IDAT", packed), chunk(b"IEND")))

    huge, bad = (
        [(65_535, 65_535), (2**32 - 1, 2**32 - 1), (2**31, 1)],
        [(0, 0), (0, 240), (320, 0), (640, 480), (321, 240)],
    )
    yield from lies_about_size("png", sized, (TOO_LARGE, huge), (BAD, bad), (OK_OR_BAD, [(1, 1)]))
    data = write(plain(), 8, RGB)
    for name, at, value in (
        ("3 bits a sample", 24, 3),
        ("32 bits a sample", 24, 32),
        ("colour type 1", 25, 1),
        ("colour type 7", 25, 7),
        ("compression 1", 26, 1),
        ("filter method 1", 27, 1),
        ("interlacing 9", 28, 9),
    ):
        changed = bytearray(data)
        changed[at] = value
        changed[29:33] = struct.pack(">I", zlib.crc32(changed[12:29]))
        yield Case(f"png: {name}", bytes(changed), OK_OR_BAD)
    yield Case("png: a header with a wrong checksum", data[:29] + b"\0\0\0\0" + data[33:])
    yield Case(
        "png: a palette with a wrong checksum",
        write(plain(), 8, RGB, before=[chunk(b"PLTE", bytes(9))[:-1] + b"!"]),
        OK_OR_BAD,
    )
    pixels = data.index(b"IDAT")
    length = int.from_bytes(data[pixels - 4 : pixels], "big")
    crc = pixels + 4 + length
    yield Case("png: pixels with a wrong checksum", data[:crc] + b"\0\0\0\0" + data[crc + 4 :], OK_OR_BAD)
    yield Case("png: no pixels", SIGNATURE + header(320, 240, 8, RGB) + chunk(b"IEND"))
    yield Case("png: its header is missing", SIGNATURE + data[33:])
    yield Case("png: its header comes twice", data[:33] + header(60_000, 60_000, 8, RGB) + data[33:], BAD | TOO_LARGE)
    yield Case(
        "png: pixels that are no zlib stream",
        SIGNATURE + header(320, 240, 8, RGB) + chunk(b"IDAT", b"no stream" * 50) + chunk(b"IEND"),
    )
    bad_filter = zlib.compress(bytes((9,)) * (961 * 240))
    yield Case("png: filter 9", SIGNATURE + header(320, 240, 8, RGB) + chunk(b"IDAT", bad_filter) + chunk(b"IEND"))
    yield Case("png: a chunk longer than the file", data[:33] + b"\x7f\xff\xff\xfftEXt" + data[33:])
    yield Case("png: a chunk of negative length", data[:33] + b"\xff\xff\xff\xfftEXt" + data[33:])
    yield Case("png: a chunk whose name is no name", write(plain(), 8, RGB, before=[chunk(b"\0\xff\0\xff", b"x")]), OK)
