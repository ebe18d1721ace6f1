"""AVIF and HEIC cases: kinds of pixels, orientations, sequences, grids, boxes that lie, repeat or nest, damage.

HEIC's answers depend on whether its decoder is installed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
from PIL import Image

from service.image.formats.bmff import can_decode
from tests.hostile.images.case import ANY, BAD, FRAMES, LOSSY, OK, OK_OR_BAD, TOO_LARGE, UNSUPPORTED, Case, same
from tests.hostile.images.pictures import plain, plain_image
from tests.hostile.images.variants import flipped, lies_about_size, truncations
from tests.image.bmff_writer import Item, av1, box, coded, full, grid, imir, irot, ispe, picture, write
from tests.image.heif_samples import NAMES, sample
from tests.image.samples import STORED, encode, exif, stored

_ALPHA = np.dstack([plain(), np.full((240, 320, 1), 255, np.uint8)])


def cases() -> Iterator[Case]:
    data = encode(plain(), "AVIF", quality=90)
    yield same("avif: plain", data, LOSSY)
    yield same("avif: 4:4:4", encode(plain(), "AVIF", quality=90, subsampling="4:4:4"), LOSSY)
    yield same("avif: alpha", encode(_ALPHA, "AVIF", quality=90), LOSSY)
    yield same("avif: grey", encode(plain_image().convert("L"), "AVIF", quality=90), LOSSY, like="grey")
    yield same("avif: a megabyte of profile", encode(plain(), "AVIF", quality=90, icc_profile=bytes(1_000_000)), LOSSY)
    for orientation in STORED:
        turned = encode(stored(plain_image(), orientation), "AVIF", quality=90, exif=exif(orientation))
        warnings = () if orientation == 1 else (f"orientation {orientation} applied",)
        yield same(f"avif: orientation {orientation}", turned, LOSSY, warnings=warnings)
    frames = [Image.new("RGB", (320, 240), (value, 0, 0)) for value in range(0, 250, 50)]
    sequence = encode(plain(), "AVIF", quality=90, save_all=True, append_images=frames)
    yield same("avif: a sequence", sequence, LOSSY, warnings=FRAMES)
    yield from truncations("avif sequence", sequence, 60, OK_OR_BAD)
    yield from truncations("avif", data, 200)
    yield from flipped("avif", data, 24)
    yield from flipped("avif sequence", sequence, 24)
    yield from _lies()
    yield from _structure(data)
    yield from _heics()


def _lies() -> Iterator[Case]:
    frame = av1(320, 240)
    yield from lies_about_size(
        "avif",
        lambda width, height: write([picture(frame, ispe(width, height))]),
        (TOO_LARGE, ((40_000, 10), (30_000, 30_000), (2**32 - 1, 2**32 - 1))),
        (BAD, ((0, 0), (0, 9))),
        (OK_OR_BAD, ((1, 1), (640, 480), (32_768, 1))),
    )
    huge = av1(9_000, 9_000)
    for name, sides in (("small", (16, 16)), ("true", (9_000, 9_000))):
        yield Case(f"avif: 81 megapixels, declared size {name}", write([picture(huge, ispe(*sides))]), TOO_LARGE)
    many = frame._replace(data=frame.data * 2_000)
    yield Case("avif: 2,000 frames in one image", write([picture(many, ispe(320, 240))]), TOO_LARGE)
    hidden = [picture(frame, ispe(320, 240)), picture(frame, ispe(30_000, 30_000))]
    yield Case("avif: a hidden image that is huge", write(hidden), TOO_LARGE)
    tiles = [picture(frame, ispe(320, 240))] * 9
    for columns, width, statuses in ((9, 2_880, OK), (9, 2_881, BAD), (8, 2_880, BAD), (9, 25, OK_OR_BAD)):
        numbers = tuple(range(2, 11))
        whole = Item(b"grid", grid(1, columns, width, 240), (ispe(width, 240), frame.configuration), numbers)
        yield Case(f"avif: a grid of {columns} tiles, {width} wide", write([whole, *tiles]), statuses)
    whole = Item(b"grid", grid(1, 9, 60_000, 60_000), (ispe(2_880, 240),), tuple(range(2, 11)))
    yield Case("avif: a grid whose own size is huge", write([whole, *tiles]))
    itself = Item(b"grid", grid(1, 1, 320, 240), (ispe(320, 240),), (1,))
    yield Case("avif: a grid of itself", write([itself, *tiles]), BAD | UNSUPPORTED)
    overlay = Item(b"iovl", bytes(20), (ispe(320, 240),), (2,) * 5_000)
    yield Case("avif: an overlay of 5,000 images", write([overlay, *tiles]), BAD | UNSUPPORTED)


def _structure(data: bytes) -> Iterator[Case]:
    image = picture(av1(320, 240), ispe(320, 240))
    good = write([image])
    yield Case("avif: written by hand", good, OK)
    yield Case(
        "avif: mirrored after it is turned", write([picture(av1(320, 240), ispe(320, 240), irot(1), imir(0))]), OK
    )
    for name in (b"pitm", b"iinf", b"iloc", b"iprp"):
        yield Case(f"avif: no {name.decode()}", write([image], replace={name: b""}))
        yield Case(f"avif: an empty {name.decode()}", write([image], replace={name: box(name)}))
        twice = good.index(name) - 4
        size = int.from_bytes(good[twice : twice + 4], "big")
        yield Case(
            f"avif: {name.decode()} twice", write([image], replace={b"more": good[twice : twice + size]}), OK_OR_BAD
        )
    for size, word in ((0, "to the end"), (7, "of seven bytes"), (2**31, "of two gigabytes")):
        for name in (b"meta", b"iinf", b"ipco", b"ispe", b"mdat"):
            at = good.index(name) - 4
            lying = good[:at] + struct.pack(">I", size) + good[at + 4 :]
            yield Case(f"avif: {name.decode()} {word}", lying, OK_OR_BAD | UNSUPPORTED | TOO_LARGE)
    nested = b""
    for _ in range(3_000):
        nested = box(b"meta", bytes(4), nested)
    yield Case("avif: 3,000 metas, one in the other", write([image], before=nested))
    yield Case("avif: 3,000 property boxes", write([image], replace={b"iprp": box(b"iprp", box(b"ipco") * 3_000)}))
    for boxes, statuses in ((20_000, OK_OR_BAD), (600_000, BAD)):
        yield Case(f"avif: {boxes} empty boxes", write([image], before=box(b"free") * boxes), statuses)
    counts = b"\xff\xff\xff\xff"
    for name, start in ((b"iloc", b"\2\0\0\0\x44\0"), (b"iloc", b"\2\0\0\0\0\0"), (b"iinf", b"\1\0\0\0")):
        lying = write([image], replace={name: box(name, start, counts, bytes(500_000))})
        yield Case(f"avif: {name.decode()} of 2^32 - 1 entries, {start.hex()}", lying, BAD | UNSUPPORTED)
    lying = write([image], replace={b"iprp": box(b"iprp", box(b"ipco"), full(b"ipma", counts, b"\0\1\xff" * 90_000))})
    yield Case("avif: ipma of 2^32 - 1 entries", lying)
    for extent in ((2**32 - 1, 9), (9, 2**32 - 1), (0, 0), (len(good) - 1, 1)):
        lying = write([Item(image.kind, image.data, image.properties, extent=extent)])
        yield Case(f"avif: {extent[1]} bytes from {extent[0]} on", lying)
    shared = [Item(image.kind, b"", image.properties, extent=(0, 5 * 10**5)) for _ in range(600)]
    yield Case("avif: 600 images in the same half megabyte", write([*shared, Item(b"free", bytes(500_000))]))
    units = Item(b"av01", b"\x22\0" * 500_000, image.properties)
    yield Case("avif: half a million empty units", write([units]))
    yield Case("avif: a megabyte behind its end", data + bytes(1_000_000), ANY)
    yield Case("avif: another codec", write([Item(b"jpeg", encode(plain(), "JPEG"), (ispe(320, 240),))]), UNSUPPORTED)
    yield Case("avif: nothing but its type", box(b"ftyp", b"avif", bytes(4), b"avifmif1miaf"))


def _heics() -> Iterator[Case]:
    here = can_decode("heic")
    for name in NAMES:
        yield Case(name, sample(name), OK if here or "avif" in name else UNSUPPORTED)
    data = sample("heic 4:2:0")
    for case in (
        *truncations("heic", data, 200),
        *flipped("heic", data, 60),
        *flipped("heic grey", sample("heic grey"), 24),
    ):
        yield Case(case.name, case.data, ANY if "overwritten" in case.name else case.statuses | UNSUPPORTED)
    frame = coded(data)
    for width, height, statuses in ((64, 64, OK), (16, 16, BAD), (640, 480, BAD), (30_000, 30_000, TOO_LARGE)):
        lying = write([picture(frame, ispe(width, height))])
        yield Case(f"heic: says that it is {width}x{height}", lying, statuses if here else statuses - OK | UNSUPPORTED)
    many = frame._replace(data=frame.data * 40_000)
    yield Case("heic: 40,000 slices", write([picture(many, ispe(64, 64))]), TOO_LARGE | BAD | UNSUPPORTED)
