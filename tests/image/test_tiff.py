"""TIFF: kinds of pixels, camera raw, JPEG scans. Expected pixels come from arithmetic on the samples."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.errors import BadImage, ImageTooLarge, UnsupportedFormat
from service.image import WARN_FRAMES, Findings, Limits, inspect, preprocess
from service.image.decode import WARN_DARK
from service.image.formats.tiff_pixels import WARN_CHANNELS
from tests.hostile.images import png_writer as png
from tests.hostile.images import tiff_writer as t
from tests.hostile.images.tiff_writer import Tag, Writer, longs, shorts
from tests.image.samples import IDENTITY, SMALL, encode, gradient, noise, run
from tests.image.tiff_pages import (
    ALPHA,
    BLACK_IS_ZERO,
    CMYK,
    COLOURS,
    LAB,
    PREMULTIPLIED,
    RGB,
    UNSPECIFIED,
    WHITE_IS_ZERO,
    Samples,
    on_white,
    page,
)

NEW_SUBFILE_TYPE, MAKE, SUB_IFDS, DNG_VERSION = 254, 271, 330, 50706

LAYOUTS: dict[str, dict[str, Any]] = {
    "raw": {},
    "raw tiles": {"tile": 16},
    "raw planes": {"planar": True},
    "reversed bits": {"reverse": True},
    "Deflate": {"deflate": True},
    "Deflate tiles": {"deflate": True, "tile": 32},
    "Deflate planes": {"deflate": True, "planar": True},
    "predictor": {"deflate": True, "predictor": True},
    "predictor, tiles": {"deflate": True, "predictor": True, "tile": 32},
    "predictor, planes": {"deflate": True, "predictor": True, "planar": True},
}

#: Photometric interpretation, bits, meanings of the channels beside the colours.
KINDS = [
    *((grey, bits, ()) for grey in (WHITE_IS_ZERO, BLACK_IS_ZERO) for bits in (1, 2, 4, 8, 12, 16)),
    *(
        (grey, bits, extras)
        for grey in (WHITE_IS_ZERO, BLACK_IS_ZERO)
        for bits in (8, 16)
        for extras in ((0,), (1,), (2,))
    ),
    *((RGB, bits, ()) for bits in (8, 12, 16)),
    *((RGB, bits, extras) for bits in (8, 16) for extras in ((0,), (1,), (2,), (0, 0), (2, 0), (0, 0, 0))),
    *((CMYK, bits, extras) for bits in (8, 16) for extras in ((), (0,), (1,), (2,))),
]


def samples_of(photometric: int, bits: int, extras: tuple[int, ...]) -> Samples:
    colours = COLOURS[photometric]
    samples = np.random.default_rng(bits).integers(0, 2**bits, (*SMALL[::-1], colours + len(extras)))
    if extras[:1] == (PREMULTIPLIED,):
        samples[..., :colours] = samples[..., :colours] * samples[..., colours, None] // (2**bits - 1)
    return samples


def decoded(data: bytes) -> tuple[Any, list[str]]:
    findings = Findings()
    return preprocess(data, inspect(data), IDENTITY, findings=findings), findings.warnings


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("photometric", "bits", "extras", "layout"),
    [(*kind, layout) for kind in KINDS for layout in LAYOUTS if kind[1] in (8, 16) or "predictor" not in layout],
)
def test_pixels(photometric: int, bits: int, extras: tuple[int, ...], layout: str, order: str) -> None:
    options = LAYOUTS[layout]
    samples = samples_of(photometric, bits, extras)
    more = [shorts(t.EXTRA_SAMPLES, *extras)] if extras else []
    image, warnings = decoded(page(samples, bits, photometric, *more, order=order, **options))
    expected = on_white(samples, bits, photometric, *extras[:1])
    # Pillow rounds premultiplied colours and CMYK twice.
    np.testing.assert_allclose(image, expected, atol=2 if photometric == CMYK or PREMULTIPLIED in extras else 1)
    assert warnings == []


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("photometric", "more"), [(RGB, 1), (RGB, 2), (BLACK_IS_ZERO, 1), (CMYK, 1)])
def test_channels_that_the_directory_does_not_explain(photometric: int, more: int, order: str, bits: int) -> None:
    """Near infrared, for example: as alpha it would make the picture blank."""
    samples = samples_of(photometric, bits, (UNSPECIFIED,) * more)
    image, warnings = decoded(page(samples, bits, photometric, order=order))
    np.testing.assert_allclose(image, on_white(samples, bits, photometric), atol=2)
    assert warnings == [WARN_CHANNELS]


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_bigtiff(bits: int) -> None:
    samples = samples_of(RGB, bits, (UNSPECIFIED, UNSPECIFIED))
    for planar in (False, True):
        image = run(page(samples, bits, RGB, big=True, planar=planar)).image
        np.testing.assert_array_equal(image, on_white(samples, bits, RGB))


def test_alpha_need_not_be_the_first_extra_channel() -> None:
    samples = samples_of(RGB, 8, (UNSPECIFIED, ALPHA))
    image, warnings = decoded(page(samples, 8, RGB, shorts(t.EXTRA_SAMPLES, UNSPECIFIED, ALPHA)))
    np.testing.assert_allclose(image, on_white(samples[..., [0, 1, 2, 4]], 8, RGB, ALPHA), atol=1)
    assert warnings == []


@pytest.mark.parametrize("order", ["<", ">"])
def test_lab_of_sixteen_bits(order: str) -> None:
    lab = np.asarray(Image.new("RGB", SMALL, (200, 60, 30)).convert("LAB")).astype(int)
    np.testing.assert_allclose(run(page(lab * 256, 16, LAB, order=order)).image, [[[200, 60, 30]] * 48] * 48, atol=4)


@pytest.mark.parametrize(
    ("bits", "photometric", "channels", "more", "words"),
    [
        (32, BLACK_IS_ZERO, 1, [], "signed or 32-bit integer pixels"),
        (32, RGB, 3, [], "signed or 32-bit integer pixels"),
        (16, RGB, 3, [shorts(t.SAMPLE_FORMAT, 3, 3, 3)], "floating-point pixels"),
        (32, RGB, 3, [shorts(t.SAMPLE_FORMAT, 3, 3, 3)], "floating-point pixels"),
        (8, BLACK_IS_ZERO, 1, [shorts(t.SAMPLE_FORMAT, 2)], "signed or 32-bit integer pixels"),
        (8, RGB, 3, [shorts(t.SAMPLE_FORMAT, 2, 2, 2)], "signed or 32-bit integer pixels"),
        (16, BLACK_IS_ZERO, 1, [shorts(t.SAMPLE_FORMAT, 5)], "pixels of this kind"),
        (4, RGB, 3, [], "pixels of this kind"),
        (10, BLACK_IS_ZERO, 1, [], "pixels of this kind"),
        (8, 9, 3, [], "pixels of this kind"),  # ICC Lab
        (8, RGB, 3, [shorts(t.BITS, 8, 16, 8)], "pixels of this kind"),
        (16, 3, 1, [], "pixels of this kind"),
        (8, RGB, 2, [], "pixels of this kind"),
        (8, 6, 3, [shorts(t.SUBSAMPLING, 2, 2)], "pixels of this kind"),
        (8, 6, 3, [shorts(t.PLANAR, 2), Tag(t.STRIPS, t.LONG, (8,) * 9)], "pixels of this kind"),
    ],
)
def test_intact_kinds_that_are_not_decoded(
    bits: int, photometric: int, channels: int, more: list[Tag], words: str
) -> None:
    samples = np.zeros((*SMALL[::-1], channels), np.int64)
    with pytest.raises(BadImage, match=f"^{words} are not supported; send .*8 or 16 bits per sample"):
        inspect(page(samples, bits, photometric, *more))


def test_more_channels_than_memory_is_promised_for() -> None:
    samples = np.zeros((*SMALL[::-1], 9), np.int64)
    data = page(samples, 8, BLACK_IS_ZERO)
    inspect(data)
    with pytest.raises(ImageTooLarge, match="too many channels for its size: 9 of 8 bits"):
        inspect(data, Limits(max_pixels=48 * 48))
    with pytest.raises(BadImage, match="this kind"):
        inspect(page(samples, 8, BLACK_IS_ZERO, longs(t.SAMPLES, 2**31), longs(t.BITS, 8)))


def test_twelve_bits_in_sixteen_are_nearly_black() -> None:
    samples = np.random.default_rng(0).integers(0, 4096, (*SMALL[::-1], 3))
    for data in (page(samples, 16, RGB), page(samples[..., :1], 16, BLACK_IS_ZERO)):
        assert decoded(data)[1] == [WARN_DARK]
    for pixels, colour in ((samples, png.RGB), (samples[..., 0], png.GREY)):
        assert decoded(png.write(pixels.astype(np.uint16), 16, colour))[1] == [WARN_DARK]


def preview(*tags: Tag, sensor: list[Tag] | None = None) -> bytes:
    """A small RGB page; ``sensor``: tags of a directory in SubIFDs."""
    writer = Writer()
    more = list(tags)
    if sensor is not None:
        more.append(longs(SUB_IFDS, writer.directory([longs(t.WIDTH, 4000), longs(t.HEIGHT, 3000), *sensor])))
    at = writer.add(bytes(48 * 48 * 3))
    made = [longs(t.WIDTH, 48), longs(t.HEIGHT, 48), shorts(t.BITS, 8, 8, 8), shorts(t.COMPRESSION, 1)]
    made += [shorts(t.PHOTOMETRIC, RGB), shorts(t.SAMPLES, 3), longs(t.STRIPS, at), longs(t.STRIP_BYTES, 48 * 48 * 3)]
    return writer.finish(writer.directory(list({tag.tag: tag for tag in (*made, *more)}.values())))


THUMBNAIL, MAKER = longs(NEW_SUBFILE_TYPE, 1), Tag(MAKE, t.ASCII, b"NIKON CORPORATION\0")


@pytest.mark.parametrize(
    "make",
    [
        lambda: preview(THUMBNAIL, MAKER, sensor=[shorts(t.PHOTOMETRIC, 32803), shorts(t.COMPRESSION, 34713)]),
        lambda: preview(THUMBNAIL, sensor=[]),
        lambda: preview(MAKER, sensor=[shorts(t.PHOTOMETRIC, 32803)]),
        lambda: preview(MAKER, sensor=[shorts(t.COMPRESSION, 32767)]),
        lambda: preview(Tag(DNG_VERSION, t.BYTE, (1, 4, 0, 0))),
        lambda: preview(shorts(t.PHOTOMETRIC, 34892)),
        lambda: preview(shorts(t.COMPRESSION, 65535)),
        lambda: preview(MAKER, shorts(t.COMPRESSION, 6)),
        lambda: b"II*\0\x10\0\0\0CR\2\0\0\0\0\0" + struct.pack("<H12xI", 1, 0),
    ],
    ids=["nef", "thumbnail", "cfa", "arw", "dng", "linear", "pef", "old jpeg", "cr2"],
)
def test_camera_raw_is_refused_by_name(make: Callable[[], bytes]) -> None:
    with pytest.raises(UnsupportedFormat, match=r"camera raw file .* send the JPEG"):
        inspect(make())


@pytest.mark.parametrize(
    ("make", "warnings"),
    [
        (lambda: preview(MAKER), ()),
        (lambda: preview(MAKER, longs(NEW_SUBFILE_TYPE, 0), sensor=[shorts(t.PHOTOMETRIC, RGB)]), ()),
        (lambda: preview(longs(SUB_IFDS, 2**31, 0, 7)), ()),
        (lambda: encode(noise(*SMALL), "TIFF", tiffinfo={NEW_SUBFILE_TYPE: 1, MAKE: "NIKON"}), ()),
        (lambda: encode(noise(*SMALL), "TIFF", save_all=True, append_images=[Image.new("L", (9, 9))],
                        tiffinfo={NEW_SUBFILE_TYPE: 1}), (WARN_FRAMES,)),
    ],
    ids=["scanner", "pyramid", "damaged", "thumbnail alone", "thumbnail first"],
)  # fmt: skip
def test_ordinary_files_with_tags_of_cameras(make: Callable[[], bytes], warnings: tuple[str, ...]) -> None:
    assert run(make()).warnings == warnings


def test_pixels_that_begin_with_canons_mark() -> None:
    """Pillow writes the directory first, others the pixels."""
    data = bytearray(preview())
    data[8:12] = b"CR\2\0"
    assert run(bytes(data)).format == "tiff"


def jpeg_tiles(side: int, tile: int, scans: int = 1, *more: Tag) -> bytes:
    """A square of JPEG tiles; ``scans``: how many are added to the last tile."""
    one = encode(gradient(tile, tile), "JPEG", quality=30, progressive=scans > 1)
    last = one[:-2] + one[one.rindex(b"\xff\xda") : -2] * (scans - 1) + one[-2:]
    count = (side // tile) ** 2
    tags = [longs(t.WIDTH, side), longs(t.HEIGHT, side), longs(t.TILE_WIDTH, tile), longs(t.TILE_HEIGHT, tile)]
    tags += [shorts(t.COMPRESSION, t.JPEG), shorts(t.PHOTOMETRIC, 6), shorts(t.SUBSAMPLING, 2, 2)]
    return t.tiff([*[one] * (count - 1), last], [*tags, *more], tiled=True)


def large_scans() -> Iterator[bytes]:
    yield encode(gradient(4000, 3000), "TIFF", compression="jpeg", quality=30)
    yield encode(gradient(4000, 3000), "TIFF", compression="jpeg", quality=30, tiffinfo={t.ROWS_PER_STRIP: 8})
    yield jpeg_tiles(3584, 256)


@pytest.mark.slow
def test_jpeg_compressed_scans_of_twelve_megapixels() -> None:
    for data in large_scans():
        assert data.count(b"\xff\xda") > 16
        assert inspect(data).scans == 1
        assert run(data).warnings == ()


def test_scans_of_a_tiff_are_counted_in_each_tile() -> None:
    assert inspect(jpeg_tiles(512, 256)).scans == 1
    assert inspect(jpeg_tiles(512, 256, scans=50)).scans == pytest.approx((3 * 10 + 60) / 4, abs=5)
    assert inspect(jpeg_tiles(256, 256, scans=1000)).scans == 100  # libtiff reads no more
    with pytest.raises(BadImage, match=r"^the JPEG data inside the TIFF has too many scans"):
        inspect(jpeg_tiles(512, 256, scans=400), Limits(max_scan_pixels=512 * 512 * 16))


@pytest.mark.parametrize(
    "sizes", [[2**32 - 1] * 4, [0] * 4, [100]], ids=["all of the file in each", "nothing", "too few"]
)
def test_tiles_that_share_bytes_are_searched_once(sizes: list[int]) -> None:
    """Each may have as many scans as the file."""
    data = jpeg_tiles(512, 256, 1, longs(t.TILE_BYTES, *sizes))
    assert inspect(data).scans == data.count(b"\xff\xda") == 4
