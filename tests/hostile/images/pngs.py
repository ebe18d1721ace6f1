"""PNG cases: depths, colour types, interlacing, animation, chunks that are bombs, lies and damage."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image

from tests.hostile.images import png_writer as png
from tests.hostile.images.case import BAD, EXIF, FRAMES, OK, OK_OR_BAD, TOO_LARGE, Case, same
from tests.hostile.images.pictures import grey, indexed, opaque, palette, plain
from tests.hostile.images.png_writer import chunk
from tests.hostile.images.variants import flipped, inserted, lies_about_size, orientations, overwritten, truncations
from tests.image.samples import encode, exif

_HEADER = png.header(320, 240, 8, png.RGB)


def cases() -> Iterator[Case]:
    yield from _depths("png", interlaced=False)
    yield from _depths("interlaced png", interlaced=True)
    yield from _palettes()
    yield from _metadata()
    yield from _bombs()
    yield from _animation()
    yield from _lies()
    yield from truncations("png", encode(plain(), "PNG"), 45)
    yield from truncations("interlaced png", png.write(plain(), 8, png.RGB, interlaced=True), 45)
    yield from flipped("png", encode(plain(), "PNG", exif=exif(6), icc_profile=b"profile"), 24)


def _with(*before: bytes, after: Iterable[bytes] = ()) -> bytes:
    """The clean picture with these chunks before and after its pixels."""
    return png.write(plain(), 8, png.RGB, before=before, after=after)


def _depths(kind: str, interlaced: bool) -> Iterator[Case]:
    def case(name: str, samples: object, bits: int, colour: int, like: str = "plain") -> Case:
        data = png.write(np.asarray(samples), bits, colour, interlaced=interlaced)
        return same(f"{kind}: {name}", data, like=like)

    yield case("RGB, 8 bits", plain(), 8, png.RGB)
    yield case("RGB, 16 bits", plain().astype(np.uint16) * 257, 16, png.RGB)
    yield case("RGBA, 8 bits", opaque(), 8, png.RGBA)
    yield case("RGBA, 16 bits", opaque().astype(np.uint16) * 257, 16, png.RGBA)
    for bits in (1, 2, 4):
        yield case(f"grey, {bits} bits", grey() >> (8 - bits), bits, png.GREY, f"{bits} bits")
    yield case("grey, 8 bits", grey(), 8, png.GREY, "grey")
    yield case("grey, 16 bits", grey().astype(np.uint16) * 257, 16, png.GREY, "grey")
    with_alpha = np.dstack([grey(), opaque()[..., 3]])
    yield case("grey with alpha, 8 bits", with_alpha, 8, png.GREY_ALPHA, "grey")
    yield case("grey with alpha, 16 bits", with_alpha.astype(np.uint16) * 257, 16, png.GREY_ALPHA, "grey")


def _indexed(colours: int, *before: bytes, bits: int = 8, interlaced: bool = False) -> bytes:
    return png.write(np.asarray(indexed(colours)), bits, png.PALETTE, interlaced=interlaced, before=before)


def _palettes() -> Iterator[Case]:
    for bits in (8, 4, 2, 1):
        count = 1 << bits
        for interlaced in (False, True):
            kind = "interlaced png" if interlaced else "png"
            data = _indexed(count, chunk(b"PLTE", palette(count)), bits=bits, interlaced=interlaced)
            yield same(f"{kind}: palette, {bits} bits", data, like=f"{count} colours")
    colours = palette(255)
    for name, alpha in (("every colour opaque", b"\xff" * 255), ("one unused colour clear", b"\xff" * 255 + b"\0")):
        data = _indexed(255, chunk(b"PLTE", colours + b"\0\0\0"), chunk(b"tRNS", alpha))
        yield same(f"png: palette, {name}", data, like="255 colours")
    entries = chunk(b"PLTE", colours)
    yield Case("png: palette, every colour clear", _indexed(255, entries, chunk(b"tRNS", bytes(255))), OK)
    yield Case("png: more alpha values than colours", _indexed(255, entries, chunk(b"tRNS", bytes(70_000))), OK_OR_BAD)
    yield Case("png: palette missing", _indexed(255), OK_OR_BAD)
    for name, wrong in (
        ("empty", b""),
        ("of one and a half colours", b"abcde"),
        ("too short", colours[:30]),
        ("too long", bytes(300_000)),
    ):
        yield Case(f"png: palette {name}", _indexed(255, chunk(b"PLTE", wrong)), OK_OR_BAD)
    yield Case("png: a transparent colour cut short", _with(chunk(b"tRNS", b"\0")), OK_OR_BAD)


def _metadata() -> Iterator[Case]:
    yield from orientations("PNG")
    yield same("png: EXIF that is text", _with(chunk(b"eXIf", b"not a directory")), warnings=EXIF)
    for kind in (b"iCCP", b"tEXt", b"zTXt", b"iTXt", b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"acTL", b"fcTL", b"sBIT"):
        name = kind.decode()
        yield same(f"png: {name} empty", _with(chunk(kind)))
        frames = FRAMES if kind == b"acTL" else ()
        wrong = chunk(kind, b"damage\0\x07" + bytes(40))
        yield same(f"png: {name} damaged", _with(wrong[:-1] + b"!", after=[wrong]), warnings=frames)
    yield same("png: a chunk nobody knows", _with(chunk(b"abCd", bytes(1_000))))
    packed = zlib.compress(png.rows(plain(), 8))
    pieces = [packed[at : at + 16] for at in range(0, len(packed), 16)]
    yield same("png: pixels in pieces of 16 bytes", png.assembled(_HEADER, *pieces))
    yield same("png: two megabytes behind its end", _with() + bytes(2_000_000))
    yield Case("png: 70,000 empty chunks", _with(*[chunk(b"tEXt")] * 70_000))
    yield Case("png: pixels in 70,000 pieces", _with(after=[chunk(b"IDAT")] * 70_000))


def _bombs() -> Iterator[Case]:
    kilobyte = zlib.compress(bytes(1_000_000), 9)
    for name, kind, prefix in (
        ("iCCP", b"iCCP", b"profile\0\0"),
        ("zTXt", b"zTXt", b"text\0\0"),
        ("zTXt without a name", b"zTXt", b"\0\0"),
        ("iTXt", b"iTXt", b"text\0\1\0\0\0"),
    ):
        yield same(f"png: 80 MB in one {name}", _with(chunk(kind, prefix + zlib.compress(bytes(80_000_000), 9))))
        half = [chunk(kind, prefix + kilobyte)] * 500
        yield same(f"png: 1 GB in 1,000 {name}", _with(*half, after=half))
    packed = zlib.compress(png.rows(plain(), 8) + bytes(200_000_000), 9)
    yield same("png: 200 MB of pixels too many", png.assembled(_HEADER, packed))
    second = chunk(b"IDAT", zlib.compress(bytes(50_000_000)))
    yield same("png: a second stream of pixels, 50 MB", _with(after=[second]))
    yield Case("png: 3.6 gigapixels", png.assembled(png.header(60_000, 60_000, 8, png.RGB), kilobyte), TOO_LARGE)


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
    packed = zlib.compress(png.rows(plain(), 8))

    def sized(width: int, height: int) -> bytes:
        return png.assembled(png.header(width, height, 8, png.RGB), packed)

    huge, bad = (
        [(65_535, 65_535), (2**32 - 1, 2**32 - 1), (2**31, 1)],
        [(0, 0), (0, 240), (320, 0), (640, 480), (321, 240)],
    )
    yield from lies_about_size("png", sized, (TOO_LARGE, huge), (BAD, bad), (OK_OR_BAD, [(1, 1)]))
    data = _with()
    for name, at, value in (
        ("3 bits a sample", 24, 3),
        ("32 bits a sample", 24, 32),
        ("colour type 1", 25, 1),
        ("colour type 7", 25, 7),
        ("compression 1", 26, 1),
        ("filter method 1", 27, 1),
        ("interlacing 9", 28, 9),
    ):
        changed = overwritten(data, at, bytes((value,)))
        checksum = struct.pack(">I", zlib.crc32(changed[12:29]))
        yield Case(f"png: {name}", overwritten(changed, 29, checksum), OK_OR_BAD)
    yield Case("png: a header with a wrong checksum", overwritten(data, 29, bytes(4)))
    wrong = chunk(b"PLTE", bytes(9))[:-1] + b"!"
    yield Case("png: a palette with a wrong checksum", _with(wrong), OK_OR_BAD)
    end_of_pixels = len(data) - len(chunk(b"IEND"))
    yield Case("png: pixels with a wrong checksum", overwritten(data, end_of_pixels - 4, bytes(4)), OK_OR_BAD)
    yield Case("png: no pixels", png.assembled(_HEADER))
    yield Case("png: its header is missing", png.SIGNATURE + data[png.BODY :])
    second = png.header(60_000, 60_000, 8, png.RGB)
    yield Case("png: its header comes twice", inserted(data, png.BODY, second), BAD | TOO_LARGE)
    yield Case("png: pixels that are no zlib stream", png.assembled(_HEADER, b"no stream" * 50))
    yield Case("png: filter 9", png.assembled(_HEADER, zlib.compress(bytes((9,)) * (961 * 240))))
    yield Case("png: a chunk longer than the file", inserted(data, png.BODY, b"\x7f\xff\xff\xfftEXt"))
    yield Case("png: a chunk of negative length", inserted(data, png.BODY, b"\xff\xff\xff\xfftEXt"))
    yield Case("png: a chunk whose name is no name", _with(chunk(b"\0\xff\0\xff", b"x")), OK)
