"""GIF cases: screens and frames that disagree, animation, interlacing, endless blocks, damage."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
from PIL import Image

from tests.hostile.images.case import ANY, FRAMES, OK, OK_OR_BAD, TOO_LARGE, Case, same
from tests.hostile.images.pictures import grey, indexed, plain
from tests.hostile.images.variants import flipped, inserted, overwritten, truncations
from tests.image.samples import encode

#: The screen's header and a global palette of 256 colours.
_HEAD = 13 + 768


def first_frame(data: bytes) -> int:
    """Where the first image descriptor is."""
    return data.index(b"\x2c\0\0\0\0", _HEAD)


def cases() -> Iterator[Case]:
    picture = indexed(256)
    data = encode(picture, "GIF", interlace=False)
    yield same("gif", data, like="256 colours")
    yield same("gif: interlaced", encode(picture, "GIF", interlace=True), like="256 colours")
    yield same("gif: grey", encode(grey(), "GIF"), like="grey")
    yield same("gif: version 87a", b"GIF87a" + data[6:], like="256 colours")
    unused = encode(indexed(200), "GIF", transparency=255)
    yield same("gif: a transparent colour that is not used", unused, like="200 colours")
    yield Case("gif: everything transparent", encode(Image.new("P", (320, 240), 3), "GIF", transparency=3), OK)
    yield from _animation(picture)
    yield from _sizes(data)
    yield from _blocks(data)
    yield from truncations("gif", data, _HEAD + 20, OK_OR_BAD)
    yield from flipped("gif", data, 24)


def _animation(picture: Image.Image) -> Iterator[Case]:
    frames = [Image.new("P", (320, 240), colour) for colour in range(3)]
    for disposal in range(4):
        data = encode(picture, "GIF", save_all=True, append_images=frames, disposal=disposal, duration=10, loop=0)
        yield same(f"gif: animated, disposal {disposal}", data, like="256 colours", warnings=FRAMES)
    many = encode(picture, "GIF", save_all=True, append_images=[Image.new("P", (320, 240), n % 7) for n in range(300)])
    yield same("gif: 300 frames", many, like="256 colours", warnings=FRAMES)
    cut = many[: many.index(b"\x21\xf9", _HEAD + 20) + 24]
    yield same("gif: its second frame cut off", cut, like="256 colours", warnings=None)


def _sizes(data: bytes) -> Iterator[Case]:
    for width, height, statuses in ((65_535, 65_535, TOO_LARGE), (0, 0, OK), (1, 1, OK), (640, 480, OK)):
        screen = overwritten(data, 6, struct.pack("<HH", width, height))
        yield Case(f"gif: a screen of {width}x{height}", screen, statuses)
    for name, box, statuses in (
        ("a frame of 65535x65535", (0, 0, 65_535, 65_535), TOO_LARGE),
        ("a frame of 0x0", (0, 0, 0, 0), OK_OR_BAD),
        ("a frame at the far corner", (65_535, 65_535, 320, 240), TOO_LARGE),
        ("a frame of 5000x5000", (0, 0, 5_000, 5_000), OK_OR_BAD | TOO_LARGE),
        ("a frame of one row", (0, 100, 320, 1), OK),
    ):
        yield Case(f"gif: {name}", overwritten(data, first_frame(data) + 1, struct.pack("<4H", *box)), statuses)


def _blocks(data: bytes) -> Iterator[Case]:
    frame = first_frame(data)
    comment = b"\x21\xfe"
    for name, blocks in (
        ("a megabyte of comments", comment + (b"\xff" + bytes(255)) * 4_000 + b"\0"),
        ("30,000 short extensions", b"\x21\x01\1a\0" * 30_000),
        ("30,000 empty extensions", b"\x21\x01\0" * 30_000),
        ("a control block cut short", b"\x21\xf9\1\0\0"),
    ):
        yield same(f"gif: {name}", inserted(data, frame, blocks), like="256 colours")
    yield Case("gif: a comment in 70,000 blocks", inserted(data, frame, comment + b"\1a" * 70_000 + b"\0"))
    yield Case("gif: 70,000 bytes of junk", inserted(data, frame, b"\1" * 70_000))
    yield Case("gif: a comment without an end", data[:frame] + comment + b"\1a" * 1_000)
    yield Case("gif: no frame", data[:frame] + b";")
    yield same("gif: a megabyte behind its end", data + bytes(1_000_000), like="256 colours")
    for bits in (12, 13, 0, 255):
        yield Case(f"gif: codes of {bits} bits", overwritten(data, frame + 10, bytes((bits,))), OK_OR_BAD)
    before_codes = data[: frame + 10] + b"\x08"
    clear = (b"\xff" + b"\x00\x01" * 127 + b"\x00") * 4_000
    yield Case("gif: a megabyte of codes", before_codes + clear + b"\0;", ANY)
    noise = np.random.default_rng(0).integers(0, 256, 200_000, np.uint8).tobytes()
    random = b"".join(b"\xff" + noise[at : at + 255] for at in range(0, 199_000, 255))
    yield Case("gif: codes at random", before_codes + random + b"\0;", OK_OR_BAD)
    yield Case("gif: a palette cut off", data[:100])
    local = data[: frame + 9] + b"\x87" + plain().tobytes()[:768] + data[frame + 10 :]
    yield Case("gif: a palette of its own", local, OK)
