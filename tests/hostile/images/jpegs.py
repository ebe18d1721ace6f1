"""JPEG cases: kinds of compression and colour, orientation, metadata, scans, lies and damage."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
from PIL import Image

from service.image.formats.jpeg import WARN_ENDLESS
from tests.hostile.images.case import ANY, BAD, COARSE, EXIF, LOSSY, OK, OK_OR_BAD, TOO_LARGE, Case, same
from tests.hostile.images.jpeg_parts import END, SCAN, Plane, baseline, jpeg, last_scan, segment
from tests.hostile.images.pictures import grey, plain, plain_image
from tests.hostile.images.variants import flipped, inserted, lies_about_size, orientations, overwritten, truncations
from tests.image.samples import encode, exif


def cases() -> Iterator[Case]:
    data, progressive = jpeg(), jpeg(progressive=True)
    yield from _kinds()
    yield from _written()
    yield from _orientations()
    yield from _metadata(data)
    yield from _lies(data)
    yield from _scans(progressive)
    yield from truncations("jpeg", data, data.index(SCAN) + 14)
    yield from truncations("progressive jpeg", progressive, progressive.index(SCAN) + 14)
    yield from flipped("jpeg", encode(plain(), "JPEG", exif=exif(6)), 24)
    yield from flipped("progressive jpeg", progressive, 12)


def _after_soi(data: bytes, *segments: bytes) -> bytes:
    return inserted(data, 2, b"".join(segments))


def _kinds() -> Iterator[Case]:
    for name, subsampling in (("4:4:4", 0), ("4:2:2", 1), ("4:2:0", 2)):
        yield same(f"jpeg: {name}", jpeg(subsampling=subsampling), LOSSY)
    yield same("jpeg: progressive", jpeg(progressive=True), LOSSY)
    yield same("jpeg: optimised tables", jpeg(optimize=True), LOSSY)
    yield same("jpeg: RGB without a transform", jpeg(keep_rgb=True), LOSSY)
    yield same("jpeg: grey", jpeg(grey()), LOSSY, like="grey")
    yield same("jpeg: grey, progressive", jpeg(grey(), progressive=True), LOSSY, like="grey")
    cmyk = plain_image().convert("CMYK")
    yield same("jpeg: CMYK", jpeg(cmyk), LOSSY)
    yield same("jpeg: CMYK, progressive", jpeg(cmyk, progressive=True), LOSSY)
    yield same("jpeg: restart markers", jpeg(restart_marker_rows=1), LOSSY)
    several = encode(plain(), "MPO", quality=95, save_all=True, append_images=[Image.new("RGB", (20, 20))])
    yield same("jpeg: MPO of a phone", several, LOSSY)
    yield Case("jpeg: quality 1", jpeg(quality=1), OK)


def _written() -> Iterator[Case]:
    y, cb, cr = (np.asarray(plain_image().convert("YCbCr"))[..., index] for index in range(3))
    for name, across, down, cosine in (("4:1:1", 4, 1, COARSE), ("4:4:0", 1, 2, LOSSY), ("4:1:0", 4, 2, COARSE)):
        yield same(f"jpeg: {name}", baseline(Plane(y, across, down), Plane(cb), Plane(cr)), cosine)
    yield Case("jpeg: chroma finer than luma", baseline(Plane(y), Plane(cb, 2, 2), Plane(cr, 2, 2)), OK_OR_BAD)
    restarts = jpeg(grey(), restart_marker_blocks=1)
    yield same("jpeg: a restart marker after every block", restarts, LOSSY, like="grey")
    # Pillow and Adobe invert CMYK: these four planes are stored as Y, Cb and Cr of the inverted picture, and no black.
    inverted = Image.fromarray(255 - plain()).convert("YCbCr")
    four = [*(channel.point(lambda value: 255 - value) for channel in inverted.split()), Image.new("L", (320, 240), 0)]
    ycck = jpeg(Image.merge("CMYK", four))
    yield same("jpeg: Adobe YCCK", overwritten(ycck, ycck.index(b"Adobe") + 11, b"\2"), LOSSY)  # the transform
    yield Case("jpeg: two components", baseline(Plane(y), Plane(cb)))
    yield Case("jpeg: five components", baseline(*[Plane(y)] * 5))
    data = jpeg(subsampling=0)
    kinds = {0xC3: "lossless", 0xC5: "hierarchical", 0xC9: "arithmetic", 0xCA: "arithmetic, progressive"}
    for marker, name in kinds.items():
        yield Case(f"jpeg: {name}", data.replace(b"\xff\xc0", bytes((0xFF, marker))))
    yield Case("jpeg: 12 bits a sample", data.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc1\0\x11\x0c"))
    quantisation, frame, huffman, scan = (data.index(bytes((0xFF, marker))) for marker in (0xDB, 0xC0, 0xC4, 0xDA))
    # libjpeg-turbo assumes the standard's tables, which motion JPEG leaves out.
    yield Case("jpeg: no Huffman tables", data[:huffman] + data[scan:], OK_OR_BAD)
    yield Case("jpeg: no quantisation tables", data[:quantisation] + data[frame:])
    for name, at, value, statuses in (
        ("a sampling factor of 0", 11, 0x00, BAD),
        ("a sampling factor of 15", 11, 0xFF, BAD),
        ("a quantisation table that is not there", 12, 3, BAD),
        ("components that share a name", 13, 1, OK_OR_BAD),
        ("a length that hides a component", 3, 14, BAD),
    ):
        yield Case(f"jpeg: {name}", overwritten(data, frame + at, bytes((value,))), statuses)


def _orientations() -> Iterator[Case]:
    yield from orientations("JPEG", LOSSY, quality=95)
    for name, block in (
        ("that is text", b"Exif\0\0not a directory at all"),
        ("with an offset far outside", b"Exif\0\0II*\0\xff\xff\xff\x7f"),
        ("with a count far too large", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"),
        ("with an orientation of 9", exif(9)),
        ("that is nothing", b"Exif\0\0"),
    ):
        yield same(f"jpeg: EXIF {name}", jpeg(exif=block), LOSSY, warnings=EXIF)
    cyclic = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 34665, 4, 1, 8, 8)
    yield same("jpeg: EXIF whose directories point to each other", jpeg(exif=cyclic), LOSSY)


def _metadata(data: bytes) -> Iterator[Case]:
    large = segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\0\0" + bytes(65_000))
    yield same("jpeg: a megabyte of EXIF", _after_soi(data, *[large] * 16), LOSSY)
    small = segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\0\0" + bytes(40))
    yield same("jpeg: EXIF in 4,000 segments", _after_soi(data, *[small] * 4_000), LOSSY)
    yield Case("jpeg: EXIF in 60,000 segments", _after_soi(data, *[small] * 60_000))
    yield same("jpeg: two megabytes of profile", jpeg(icc_profile=bytes(2_000_000)), LOSSY)
    yield same("jpeg: a profile cut short", _after_soi(data, b"\xff\xe2\x00\x0eICC_PROFILE\0"), LOSSY)
    yield same("jpeg: a megabyte of comments", _after_soi(data, *[segment(0xFE, bytes(65_000))] * 16), LOSSY)
    yield same("jpeg: 4,000 empty comments", _after_soi(data, *[segment(0xFE, b"")] * 4_000), LOSSY)
    yield Case("jpeg: 60,000 empty comments", _after_soi(data, *[segment(0xFE, b"")] * 60_000))
    blocks = segment(0xED, b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0\0\0\0\0" * 5_000)
    yield same("jpeg: 80,000 Photoshop blocks", _after_soi(data, *[blocks] * 16), LOSSY)
    tables = segment(0xDB, (b"\x03" + bytes(range(1, 65))) * 1_000)
    yield same("jpeg: 16,000 quantisation tables", _after_soi(data, *[tables] * 16), LOSSY)
    yield Case("jpeg: a megabyte of fill bytes", _after_soi(data, b"\xff" * 1_000_000))
    yield Case("jpeg: a megabyte of stuffed zeros between segments", _after_soi(data, b"\xff\0" * 500_000))
    yield same("jpeg: junk between segments", inserted(data, data.index(b"\xff\xdb"), b"junk" * 1_000), LOSSY)
    yield same("jpeg: a megabyte behind the picture", data + bytes(1_000_000), LOSSY)
    yield same("jpeg: many scans behind the picture", data + SCAN * 100_000, LOSSY)
    damaged = segment(0xE2, b"MPF\0" + b"\xff" * 40)
    yield same("jpeg: a damaged MPO directory", _after_soi(data, damaged), LOSSY)


def _lies(data: bytes) -> Iterator[Case]:
    frame, scan = data.index(b"\xff\xc0"), data.index(SCAN)

    def sized(width: int, height: int) -> bytes:
        return overwritten(data, frame + 5, struct.pack(">HH", height, width))

    yield from lies_about_size(
        "jpeg",
        sized,
        (TOO_LARGE, [(65_535, 65_535)]),
        (BAD, [(0, 0), (0, 240), (320, 0)]),
        (OK_OR_BAD, [(640, 480), (1, 1), (65_535, 1)]),
        (OK_OR_BAD | TOO_LARGE, [(7_000, 7_000)]),
    )
    second = inserted(data, frame, segment(0xC0, struct.pack(">BHHB", 8, 8, 8, 1) + b"\1\x11\0"))
    yield Case("jpeg: two frame headers", second)
    hidden = _after_soi(data, segment(0xFE, second[2:]))
    yield Case("jpeg: a small frame header in a comment, a large one behind", hidden, OK, LOSSY)
    yield Case("jpeg: no scan", data[:scan] + END)
    yield Case("jpeg: no picture data in its scan", data[: scan + 14] + END, OK_OR_BAD)
    yield Case("jpeg: nothing but a beginning and an end", b"\xff\xd8\xff\xd9")
    yield Case("jpeg: tables alone", data[:frame] + END)
    for marker in (0x02, 0xBF, 0xC8, 0xDE, 0xDF, 0xF0, 0xFD):
        yield Case(f"jpeg: a marker 0x{marker:X}", _after_soi(data, segment(marker, b"unknown")))
    yield Case("jpeg: begins twice", b"\xff\xd8" + data)
    yield Case("jpeg: a segment of length 0", _after_soi(data, b"\xff\xe0\0\0"))
    yield Case("jpeg: a segment longer than the file", _after_soi(data, b"\xff\xe0\xff\xff")[:60_000], ANY)
    yield same("jpeg: no end marker", data[:-2], LOSSY, warnings=(WARN_ENDLESS,))


def _scans(progressive: bytes) -> Iterator[Case]:
    last = last_scan(progressive)
    yield same("jpeg: 300 scans", progressive[:-2] + last * 300 + END, COARSE)
    empty = encode(Image.new("RGB", (4_000, 3_000), (90, 140, 30)), "JPEG", progressive=True)
    yield Case("jpeg: 500 scans of 12 megapixels", empty[:-2] + last_scan(empty) * 500 + END, BAD | TOO_LARGE)
    comment = segment(0xFE, b"")
    few, many = last + comment * 190, last + comment * 5_000
    yield same("jpeg: 3,800 comments between scans", progressive[:-2] + few * 20 + END, COARSE)
    yield Case("jpeg: 100,000 comments between scans", progressive[:-2] + many * 20 + END)
    first = progressive.index(SCAN)
    yield Case("jpeg: its first scan alone", progressive[: progressive.index(SCAN, first + 2)] + END, OK)
    yield Case("jpeg: its last scan first", inserted(progressive, first, last), OK_OR_BAD)
