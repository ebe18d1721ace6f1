"""Decoders get the image and nothing else, and no header asks them for more than its pixels are worth (ADR 10)."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin, TiffImagePlugin

from service.errors import BadImage, ImageTooLarge
from service.image import Limits, inspect
from service.image.formats.gif import first_frame
from service.image.formats.png import pixel_chunks
from service.image.formats.tiff_directory import read_first
from service.image.formats.tiff_pixels import PIXEL_TAGS, first_page, pixel_kind
from tests.hostile.images import tiff_writer as t
from tests.hostile.images.png_writer import chunk
from tests.hostile.images.tiff_writer import Tag, longs, shorts
from tests.image.samples import encode, exif, noise, patched, run, seeds


def forbidden(*_: Any, **__: Any) -> Any:
    raise AssertionError("Pillow looks at what it should not see")


def test_pillow_reads_no_jpeg_markers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its reader copies all EXIF so far for each segment of it, and takes apart Photoshop's blocks and all tables."""
    readers = [getattr(JpegImagePlugin, name) for name in ("APP", "COM", "DQT", "SOF")]
    for marker, row in JpegImagePlugin.MARKER.copy().items():
        if row[2] in readers:
            monkeypatch.setitem(JpegImagePlugin.MARKER, marker, (*row[:2], forbidden))
    with pytest.raises(AssertionError):
        Image.open(io.BytesIO(seeds()["jpeg"]))
    assert run(seeds()["jpeg"]).warnings == ("EXIF orientation 6 applied",)


def test_pillow_sees_no_metadata_of_a_png() -> None:
    data = encode(noise(48, 48), "PNG", exif=exif(6), icc_profile=b"profile")
    text = chunk(b"zTXt", b"text\0\0" + zlib.compress(bytes(1_000_000)))
    chunks = pixel_chunks(data[:33] + text * 10 + data[33:] + b"behind its end")
    assert all(kind not in chunks for kind in (b"iCCP", b"eXIf", b"zTXt", b"behind"))
    np.testing.assert_array_equal(run(chunks).image, np.rot90(run(data).image))


def test_pillow_sees_no_blocks_before_a_gifs_frame() -> None:
    data = encode(Image.new("P", (48, 48), 3), "GIF", transparency=3, comment=b"c" * 200)
    frame = data.index(b"\x2c\0\0\0\0", 13)
    palette = 13 + (3 << (data[10] & 7) + 1)
    surrounded = data[:palette] + b"\x21\1\0" * 100 + b"\x21\xfe" + b"\1a" * 100 + b"\0" + data[palette:]
    bare, _ = first_frame(surrounded, Limits())
    clear = data[data.index(b"\x21\xf9\4") + 6]
    assert bare == data[:palette] + bytes((0x21, 0xF9, 4, 1, 0, 0, clear, 0)) + data[frame:]
    assert (run(surrounded).image == 255).all()


def test_pillow_sees_no_metadata_of_a_tiff(monkeypatch: pytest.MonkeyPatch) -> None:
    """It makes a Python object of each rational, and walks every entry of an EXIF directory."""
    data = encode(
        noise(48, 48), "TIFF", exif=exif(6), dpi=(72, 72), save_all=True, append_images=[Image.new("L", (9, 9))]
    )
    monkeypatch.setattr(TiffImagePlugin, "IFDRational", forbidden)
    assert run(data).warnings == ("several frames or pages: only the first was used", "EXIF orientation 6 applied")
    directory = read_first(data, PIXEL_TAGS)
    with Image.open(io.BytesIO(first_page(directory, pixel_kind(directory)))) as image:
        assert isinstance(image, TiffImagePlugin.TiffImageFile)
        assert set(image.tag_v2) == {256, 257, 258, 259, 262, 273, 277, 278, 279, 284}
        assert image.n_frames == 1


def striped(*tags: Tag) -> bytes:
    made = [longs(t.WIDTH, 48), longs(t.HEIGHT, 48), longs(t.ROWS_PER_STRIP, 16)]
    return t.tiff([bytes(48 * 16 * 3)] * 3, [*made, *tags])


def tiled(width: int, height: int, count: int, *, image: tuple[int, int] = (48, 48)) -> bytes:
    tags = [longs(t.WIDTH, image[0]), longs(t.HEIGHT, image[1])]
    tags += [longs(t.TILE_WIDTH, width), longs(t.TILE_HEIGHT, height), longs(t.TILES, *[8] * count)]
    return t.tiff([bytes(100)], tags, tiled=True)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: striped(longs(t.STRIPS, *[8] * 4)), "more strips or tiles"),
        (lambda: striped(longs(t.STRIPS, *[8] * 1_000)), "more strips or tiles"),
        (lambda: striped(longs(t.STRIPS, 8, 8)), "truncated"),
        (lambda: striped(longs(t.ROWS_PER_STRIP, 0)), "corrupt"),
        (lambda: striped(shorts(t.COMPRESSION, t.LZMA)), "compression"),
        (lambda: striped(Tag(t.COMPRESSION, t.SIGNED_LONG, (t.LZMA,))), "compression"),
        (lambda: tiled(16, 16, 10), "more strips or tiles"),
        (lambda: tiled(16, 16, 8), "truncated"),
        (lambda: tiled(4_000, 4_000, 1), "much larger"),
        (lambda: tiled(0, 16, 1), "corrupt"),
        (lambda: tiled(16, 16, 62_500, image=(1, 1_000_000)), "much larger"),
    ],
)
def test_strips_and_tiles_fit_the_image(make: Callable[[], bytes], words: str) -> None:
    with pytest.raises(BadImage, match=words):
        inspect(make())


def test_tiles_may_exceed_a_small_image() -> None:
    assert inspect(tiled(2_048, 2_048, 1)).scans > 1
    inspect(tiled(16, 16, 9))
    inspect(striped(shorts(t.PLANAR, 2), longs(t.STRIPS, *[8] * 9)))


def test_an_arithmetic_jpeg_in_a_tiff() -> None:
    data = seeds()["jpeg_in_tiff"]
    inspect(data)
    with pytest.raises(BadImage, match="arithmetic"):
        inspect(data.replace(b"\xff\xc0\0", b"\xff\xc9\0"))


@pytest.mark.parametrize("marker", [0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF])
def test_jpegs_that_are_neither_baseline_nor_progressive(marker: int) -> None:
    data = encode(noise(48, 48), "JPEG").replace(b"\xff\xc0\0", bytes((0xFF, marker, 0)))
    with pytest.raises(BadImage, match="send baseline or progressive"):
        inspect(data)


def test_every_step_through_a_jpeg_counts() -> None:
    """Fill bytes, stuffed zeros, lone markers, and the segments between scans: a step each, on the event loop."""
    data = encode(noise(48, 48), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    limits = Limits(max_segments=1_000)
    for junk in (b"\xff" * 2_000, b"\xff\0" * 2_000, b"\xff\xd0" * 2_000):
        with pytest.raises(BadImage, match="blocks"):
            inspect(data[:2] + b"\xff" + junk + data[2:], limits)
    with pytest.raises(BadImage, match="blocks"):
        inspect(data[:-2] + scan * 20 + b"\xff\xfe\0\2" * 2_000 + data[-2:], limits)
    assert inspect(data[:-2] + scan * 20 + b"\xff\xfe\0\2" * 900 + data[-2:], limits).scans > 20


def test_fill_bytes_without_end_are_looked_at_once() -> None:
    """From each of them again, these two megabytes would take hours."""
    progressive = encode(noise(48, 48), "JPEG", progressive=True).removesuffix(b"\xff\xd9")
    scan = progressive[progressive.rindex(b"\xff\xda") :]
    data = progressive + scan * (Limits().free_scans + 1) + b"\xff" * 2_000_000
    assert inspect(data, Limits(max_scan_pixels=10**9)).scans > Limits().free_scans


@pytest.mark.parametrize("size", [(2**31 // 64, 1), (1, 1_000_001)])
def test_a_row_that_no_decoder_holds(size: tuple[int, int]) -> None:
    """Pillow raises MemoryError for it, which would be our fault and a 500."""
    with pytest.raises(ImageTooLarge, match="a side"):
        inspect(patched(encode(noise(4, 4), "PNG"), 16, ">II", *size))


def test_run_lengths_that_lead_nowhere() -> None:
    """Pillow reads codes until the image is full, which these never do."""
    data = patched(encode(Image.new("P", (20, 20)), "BMP"), 30, "<I", 1)
    inspect(data + b"\xff\1" * 100)
    with pytest.raises(BadImage, match="longer than its pixels"):
        inspect(data + b"\xff\1" * 2_000)
