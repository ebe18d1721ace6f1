"""TIFF cases: byte orders, compressions, strips and tiles, pages, pixels of odd kinds, directories that lie."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.hostile.images import tiff_writer as t
from tests.hostile.images.case import ANY, BAD, FRAMES, LOSSY, OK, OK_OR_BAD, TOO_LARGE, UNSUPPORTED, Case, same
from tests.hostile.images.jpeg_parts import END, last_scan
from tests.hostile.images.pictures import grey, in_black_and_white, indexed, plain, plain_image
from tests.hostile.images.tiff_writer import PLAIN, Tag, Writer, longs, shorts, tiff
from tests.hostile.images.variants import flipped, lies_about_size, orientations, overwritten, truncations
from tests.image.samples import encode

_ROWS = longs(t.ROWS_PER_STRIP, 16)


def cases() -> Iterator[Case]:
    yield from _kinds()
    yield from _layouts()
    yield from _pages()
    yield from _metadata()
    yield from _lies()
    yield from _bombs()
    strips = _tagged()
    # The directory is at the end: a cut leaves none.
    yield from truncations("tiff", strips, 60)
    front = _directory_first()
    yield same("tiff: its directory before its pixels", front)
    yield from truncations("tiff with its directory first", front, 200)
    yield from flipped("tiff", strips, 12)
    yield from flipped("tiff with its directory first", front, 12)
    yield from flipped("lzw tiff", encode(plain(), "TIFF", compression="tiff_lzw"), 12)


def _tagged(*tags: Tag) -> bytes:
    """The clean picture in strips of 16 _ROWS, with these tags."""
    return tiff(_strips(plain()), [_ROWS, *tags])


def _strips(samples: NDArray[Any], rows: int = 16) -> list[bytes]:
    return [samples[at : at + rows].tobytes() for at in range(0, len(samples), rows)]


def _directory_first() -> bytes:
    """Uncompressed, one strip, the directory at 8."""
    own = (longs(t.STRIPS, 200), longs(t.STRIP_BYTES, 230_400), Tag(t.BITS, t.SHORT, (), 3, 190))
    tags = {tag.tag: tag for tag in (*PLAIN, *own)}
    writer = Writer()
    first = writer.directory(list(tags.values()))
    writer.add(bytes(190 - writer.position))
    writer.add(struct.pack("<HHH", 8, 8, 8))
    writer.add(bytes(200 - writer.position))
    writer.add(plain().tobytes())
    return writer.finish(first)


def _kinds() -> Iterator[Case]:
    for name in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"):
        yield same(f"tiff: {name}", encode(plain(), "TIFF", compression=name))
    yield same("tiff: JPEG", encode(plain(), "TIFF", compression="jpeg", quality=95), LOSSY)
    yield same("tiff: BigTIFF", encode(plain(), "TIFF", big_tiff=True))
    for fax in ("group3", "group4", "tiff_ccitt"):
        data = encode(in_black_and_white(), "TIFF", compression=fax)
        yield same(f"tiff: {fax}", data, like="1 bits")
    yield same("tiff: palette", encode(indexed(256), "TIFF"), like="256 colours")
    yield same("tiff: CMYK", encode(plain_image().convert("CMYK"), "TIFF"))
    yield same("tiff: YCbCr", encode(plain_image().convert("YCbCr"), "TIFF"), LOSSY)
    yield same("tiff: LAB", encode(plain_image().convert("LAB"), "TIFF"), LOSSY)
    yield same("tiff: RGBA", encode(plain_image().convert("RGBA"), "TIFF"))
    yield same("tiff: grey", encode(grey(), "TIFF"), like="grey")
    yield same("tiff: grey, 16 bits", encode(grey().astype(np.uint16) * 257, "TIFF"), like="grey")
    for mode in ("F", "I"):
        yield Case(f"tiff: pixels of mode {mode}", encode(plain_image().convert(mode), "TIFF"))
    refused = {"LZMA": t.LZMA, "Zstandard": t.ZSTD, "WebP": t.WEBP, "JPEG of 1992": 6, "99": 99}
    for name, compression in refused.items():
        yield Case(f"tiff: compression {name}", _tagged(shorts(t.COMPRESSION, compression)))
    signed = Tag(t.COMPRESSION, t.SIGNED_LONG, (t.LZMA,))
    yield Case("tiff: LZMA behind a signed number", _tagged(signed))


def _layouts() -> Iterator[Case]:
    for order, word in (("<", "little"), (">", "big")):
        for big in (False, True):
            data = tiff(_strips(plain()), [_ROWS], order=order, big=big)
            if big and order == ">":
                yield Case("bigtiff: big-endian", data, UNSUPPORTED)
            else:
                yield same(f"{'bigtiff' if big else 'tiff'}: {word}-endian", data)
    yield same("tiff: a strip a row", tiff(_strips(plain(), 1), [longs(t.ROWS_PER_STRIP, 1)]))
    yield same("tiff: one strip, rows unknown", tiff([plain().tobytes()], []))
    whole = tiff([plain().tobytes()], [longs(t.ROWS_PER_STRIP, 2**32 - 1)])
    yield same("tiff: one strip of four thousand million rows", whole)
    planes = [strip for channel in range(3) for strip in _strips(np.ascontiguousarray(plain()[..., channel]))]
    yield same("tiff: a plane a colour", tiff(planes, [_ROWS, shorts(t.PLANAR, 2)]))
    deep = plain().astype("<u2") * 257
    yield same("tiff: RGB, 16 bits", tiff(_strips(deep), [_ROWS, shorts(t.BITS, 16, 16, 16)]))
    predicted = plain().copy()
    predicted[:, 1:] -= plain()[:, :-1]
    packed = [zlib.compress(strip) for strip in _strips(predicted)]
    deflate = [_ROWS, shorts(t.COMPRESSION, t.DEFLATE), shorts(t.PREDICTOR, 2)]
    yield same("tiff: Deflate with a predictor", tiff(packed, deflate))
    yield Case("tiff: predictor 99", tiff(packed, [*deflate[:2], shorts(t.PREDICTOR, 99)]), OK_OR_BAD)
    for size in (16, 64, 512):
        tags = _tiled(size)
        yield same(f"tiff: tiles of {size}", tiff(_tiles(size), tags, tiled=True))
        packed = [zlib.compress(tile) for tile in _tiles(size)]
        deflated = tiff(packed, [*tags, shorts(t.COMPRESSION, t.DEFLATE)], tiled=True)
        yield same(f"tiff: Deflate, tiles of {size}", deflated)
    yield from orientations("TIFF")
    yield from orientations("TIFF", compression="tiff_lzw")
    yield same("tiff: orientation 9", _tagged(shorts(274, 9)))


def _tiles(size: int) -> list[bytes]:
    height, width = -(-240 // size) * size, -(-320 // size) * size
    padded = np.pad(plain(), ((0, height - 240), (0, width - 320), (0, 0)))
    return [padded[y : y + size, x : x + size].tobytes() for y in range(0, height, size) for x in range(0, width, size)]


def _tiled(size: int) -> list[Tag]:
    return [longs(t.TILE_WIDTH, size), longs(t.TILE_HEIGHT, size)]


def _pages() -> Iterator[Case]:
    page = Image.new("RGB", (50, 40), (250, 0, 0))
    data = encode(plain(), "TIFF", save_all=True, append_images=[page] * 3)
    yield same("tiff: four pages", data, warnings=FRAMES)
    for name, following in (("itself", 8), ("the middle of its pixels", 1_000), ("beyond the file", 2**31)):
        writer = Writer()
        at = writer.add(plain().tobytes())
        tags = [*PLAIN, longs(t.ROWS_PER_STRIP, 240), longs(t.STRIPS, at), longs(t.STRIP_BYTES, 230_400)]
        first = writer.directory(tags, following)
        yield same(f"tiff: followed by {name}", writer.finish(first), warnings=FRAMES)
    single = encode(plain(), "TIFF")
    first = struct.unpack_from("<I", single, 4)[0]
    end = first + 2 + 12 * struct.unpack_from("<H", single, first)[0]
    cyclic = overwritten(single, end, struct.pack("<I", first))
    yield same("tiff: followed by its own directory", cyclic, warnings=FRAMES)


def _metadata() -> Iterator[Case]:
    million = struct.unpack("<200000I", struct.pack("<II", 7, 3) * 100_000)
    yield same("tiff: 100,000 resolutions", _tagged(Tag(t.X_RESOLUTION, t.RATIONAL, million)))
    yield same("tiff: a resolution of 1/0", _tagged(Tag(t.X_RESOLUTION, t.RATIONAL, (1, 0))))
    yield same("tiff: a megabyte of XMP", _tagged(Tag(t.XMP, t.BYTE, bytes(1_000_000))))
    yield same("tiff: XMP of rationals", _tagged(Tag(t.XMP, t.RATIONAL, million)))
    yield same("tiff: EXIF beyond the file", _tagged(longs(t.EXIF_IFD, 2**31)))
    yield same("tiff: EXIF that is its own directory", _tagged(longs(t.EXIF_IFD, 8)))
    yield same("tiff: 4,000 tags nobody knows", _tagged(*(shorts(40_000 + n, n) for n in range(4_000))))
    yield Case("tiff: 5,000 tags", _tagged(*(shorts(40_000 + n, n) for n in range(5_000))))
    yield Case("tiff: 65,535 tags, none of them there", _counted(65_535))
    yield Case("tiff: a count of tags that is too large", _counted(200), OK_OR_BAD)


def _counted(count: int) -> bytes:
    writer = Writer()
    tags = [longs(t.WIDTH, 320), longs(t.HEIGHT, 240)]
    return writer.finish(writer.directory(tags, count=count)) + plain().tobytes()


def _lies() -> Iterator[Case]:
    def sized(width: int, height: int) -> bytes:
        return _tagged(longs(t.WIDTH, width), longs(t.HEIGHT, height))

    huge, bad = [(65_535, 65_535), (2**32 - 1, 2**32 - 1)], [(0, 0), (0, 240), (320, 0), (640, 480), (1, 1)]
    yield from lies_about_size("tiff", sized, (TOO_LARGE, huge), (BAD, bad), (OK_OR_BAD, [(320, 239)]))
    yield Case("tiff: two widths", _tagged(longs(t.WIDTH, 320, 60_000)), OK)
    yield Case("tiff: a width in bytes", _tagged(Tag(t.WIDTH, t.BYTE, (200,))))
    yield Case("tiff: a width as a float", _tagged(Tag(t.WIDTH, t.FLOAT, (320.0,))))
    yield Case("tiff: a negative width", _tagged(Tag(t.WIDTH, t.SIGNED_LONG, (-320,))))
    yield Case("tiff: no rows a strip", tiff(_strips(plain()), [longs(t.ROWS_PER_STRIP, 0)]))
    yield Case("tiff: fewer strips than rows", tiff(_strips(plain())[:7], [_ROWS]))
    yield Case("tiff: one strip listed 60,000 times", _tagged(Tag(t.STRIPS, t.LONG, (8,) * 60_000)))
    yield Case("tiff: 70,000 strips", _tagged(Tag(t.STRIPS, t.LONG, (8,) * 70_000)))
    most = Tag(t.STRIPS, t.LONG, (), 2**31, 8)
    yield Case("tiff: two thousand million strips, which are not there", _tagged(most))
    yield Case("tiff: strips beyond the file", _tagged(Tag(t.STRIPS, t.LONG, (2**31,) * 15)))
    yield Case("tiff: strips of nothing", _tagged(Tag(t.STRIP_BYTES, t.LONG, (0,) * 15)), ANY)
    yield Case("tiff: strips of four gigabytes", _tagged(Tag(t.STRIP_BYTES, t.LONG, (2**32 - 1,) * 15)), ANY)
    yield Case("tiff: its directory twice in one, the second a bomb", _twice(), OK_OR_BAD)
    for samples in (0, 4, 100, 65_535):
        yield Case(f"tiff: {samples} samples a pixel", _tagged(shorts(t.SAMPLES, samples)), OK_OR_BAD)
    for bits in ((0,), (3, 3, 3), (64, 64, 64), (8, 16, 8), (8,) * 5_000):
        yield Case(f"tiff: bits {bits[:3]}, {len(bits)} of them", _tagged(shorts(t.BITS, *bits)), OK_OR_BAD)
    yield Case("tiff: floats of 16 bits", _tagged(shorts(t.SAMPLE_FORMAT, 3, 3, 3)))
    yield Case("tiff: photometric 99", _tagged(shorts(t.PHOTOMETRIC, 99)))
    indexed_only = [shorts(t.PHOTOMETRIC, 3), shorts(t.BITS, 8), shorts(t.SAMPLES, 1)]
    yield Case("tiff: a palette without colours", tiff([bytes(76_800)], indexed_only))
    data = encode(plain(), "TIFF")
    for offset in (0, 7, 2**32 - 1):
        yield Case(f"tiff: its directory at {offset}", overwritten(data, 4, struct.pack("<I", offset)))
    yield Case("bigtiff: its directory at 2^63", b"II+\0\x08\0\0\0" + struct.pack("<Q", 2**63) + bytes(100))
    yield Case("bigtiff: 2^60 tags", b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 2**60) + bytes(100))


def _twice() -> bytes:
    """A tag of a type that does not exist hides a second of the same name, which lists 60,000 strips."""
    writer = Writer()
    at = writer.add(plain().tobytes())
    second = Tag(t.STRIPS, t.LONG, (at,) * 60_000)
    tags = [*PLAIN, longs(t.ROWS_PER_STRIP, 239), longs(t.STRIPS, at, at), second]
    first = writer.directory(tags)
    data = writer.finish(first)
    row = data.index(struct.pack("<HHI", t.STRIPS, t.LONG, 2), first)
    return overwritten(data, row + 2, struct.pack("<H", 99))


def _bombs() -> Iterator[Case]:
    deflate, rows = shorts(t.COMPRESSION, t.DEFLATE), longs(t.ROWS_PER_STRIP, 240)
    bomb = zlib.compress(plain().tobytes() + bytes(100_000_000), 9)
    yield same("tiff: a strip that unpacks to 100 MB", tiff([bomb], [deflate, rows]))
    shared = zlib.compress(bytes(30_000_000), 9)
    for name, width, height in (("10,000 x 10,000", 10_000, 10_000), ("16 x 100,000,000", 16, 100_000_000)):
        tags = [longs(t.WIDTH, 10), longs(t.HEIGHT, 10), longs(t.TILE_WIDTH, width), longs(t.TILE_HEIGHT, height)]
        yield Case(f"tiff: 10 x 10 pixels in a tile of {name}", tiff([shared], [*tags, deflate], tiled=True))
    tags = [longs(t.WIDTH, 1), longs(t.HEIGHT, 1_000_000), *_tiled(512), deflate]
    tags += [longs(t.TILES, *[8] * 1_954), longs(t.TILE_BYTES, *[len(shared)] * 1_954)]
    yield Case("tiff: one pixel wide, in tiles of 512 that are all the same", tiff([shared], tags, tiled=True))
    tall = [longs(t.WIDTH, 1), longs(t.HEIGHT, 1_000_000), longs(t.ROWS_PER_STRIP, 1)]
    yield Case("tiff: a million strips of a pixel", tiff([b"abc"], tall))
    scan = encode(plain(), "JPEG", progressive=True)
    jpeg = [shorts(t.COMPRESSION, t.JPEG), shorts(t.PHOTOMETRIC, 6), rows]
    scans = [scan[:-2] + last_scan(scan) * 300 + END]
    yield Case("tiff: a JPEG of 300 scans", tiff(scans, jpeg), OK_OR_BAD)
    wide = [*jpeg[:2], longs(t.WIDTH, 4_000), longs(t.HEIGHT, 3_000), longs(t.ROWS_PER_STRIP, 3_000)]
    yield Case("tiff: a JPEG of 300 scans for 12 megapixels", tiff(scans, wide), BAD | TOO_LARGE)
    arithmetic = encode(plain(), "JPEG").replace(b"\xff\xc0", b"\xff\xc9")
    yield Case("tiff: an arithmetic JPEG", tiff([arithmetic], jpeg))
    yield Case("tiff: a JPEG of another size", tiff([encode(plain()[:100, :100], "JPEG")], jpeg), OK_OR_BAD)
    yield Case("tiff: pixels that are no zlib stream", tiff([b"no stream" * 100], [deflate, rows]))
