"""Modes, transparency, orientation. Expected pixels come from arithmetic on the samples that were written."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from service.errors import BadImage
from service.image import WARN_EXIF, WARN_FRAMES, inspect
from tests.hostile.images import png_writer as png
from tests.image.samples import SMALL, encode, exif, gradient, noise, run


def over_white(rgb: NDArray[Any], alpha: NDArray[Any]) -> NDArray[np.uint8]:
    weight = alpha.astype(float)[..., None] / 255
    return np.round(rgb * weight + 255 * (1 - weight)).astype(np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_rgb_and_grey_are_kept(kind: str) -> None:
    pixels = noise(*SMALL)
    np.testing.assert_array_equal(run(encode(pixels, kind)).image, pixels)
    np.testing.assert_array_equal(run(encode(pixels[..., 0], kind)).image, np.dstack([pixels[..., 0]] * 3))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_alpha_is_composited_on_white(kind: str) -> None:
    pixels = noise(*SMALL, channels=4)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    image = run(encode(pixels, kind, **options)).image
    np.testing.assert_array_equal(image, over_white(pixels[..., :3], pixels[..., 3]))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_with_alpha(kind: str) -> None:
    pixels = noise(*SMALL, channels=2)
    image = run(encode(Image.fromarray(pixels, "LA"), kind)).image
    np.testing.assert_array_equal(image, over_white(np.dstack([pixels[..., 0]] * 3), pixels[..., 1]))


#: Of 256 colours.
PALETTE = noise(256, 1, seed=1)[0]


def with_palette(indices: NDArray[np.uint8]) -> Image.Image:
    image = Image.fromarray(indices, "P")
    image.putpalette(PALETTE.tobytes())
    return image


def test_palette() -> None:
    indices = noise(*SMALL, channels=1)[..., 0]
    image = with_palette(indices)
    for kind in ("PNG", "GIF", "BMP", "TIFF"):
        np.testing.assert_array_equal(run(encode(image, kind)).image, PALETTE[indices], err_msg=kind)


def test_palette_with_transparency() -> None:
    indices = noise(*SMALL, channels=1)[..., 0] % 16
    image = with_palette(indices)
    alpha = np.full(256, 255, np.uint8)
    alpha[5] = 0
    for kind in ("PNG", "GIF"):
        data = encode(image, kind, transparency=5)
        np.testing.assert_array_equal(run(data).image, over_white(PALETTE[indices], alpha[indices]), err_msg=kind)
    alpha[:16] = np.arange(16) * 17
    data = encode(image, "PNG", transparency=alpha.tobytes())
    np.testing.assert_array_equal(run(data).image, over_white(PALETTE[indices], alpha[indices]))


def test_one_bit() -> None:
    bits = noise(*SMALL, channels=1)[..., 0] > 127
    for kind in ("PNG", "BMP", "TIFF"):
        image = run(encode(Image.fromarray(bits), kind)).image
        np.testing.assert_array_equal(image, np.dstack([bits * 255] * 3), err_msg=kind)


@pytest.mark.parametrize(("bits", "factor"), [(2, 85), (4, 17), (8, 1)])
def test_a_transparent_grey_of_a_png_at_its_own_depth(bits: int, factor: int) -> None:
    samples = noise(*SMALL, channels=1)[..., 0] >> (8 - bits)
    data = png.write(samples, bits, png.GREY, before=[png.chunk(b"tRNS", struct.pack(">H", 2))])
    expected = np.where(samples == 2, 255, samples * factor)
    np.testing.assert_array_equal(run(data).image, np.dstack([expected] * 3))


def test_a_transparent_colour_of_a_png() -> None:
    pixels = noise(*SMALL) // 128 * 255  # eight colours
    clear = (255, 0, 255)
    expected = np.where((pixels == clear).all(axis=-1)[..., None], 255, pixels)
    data = png.write(pixels, 8, png.RGB, before=[png.chunk(b"tRNS", struct.pack(">HHH", *clear))])
    np.testing.assert_array_equal(run(data).image, expected)
    deep_clear = png.chunk(b"tRNS", struct.pack(">HHH", *(257 * sample for sample in clear)))
    data = png.write(pixels.astype(np.uint16) * 257, 16, png.RGB, before=[deep_clear])
    np.testing.assert_array_equal(run(data).image, expected)


def test_sixteen_bit_grey_is_its_high_byte() -> None:
    deep = np.random.default_rng(0).integers(0, 65536, SMALL[::-1], dtype=np.uint16)
    expected = np.dstack([deep >> 8] * 3)
    for kind in ("PNG", "TIFF"):
        np.testing.assert_array_equal(run(encode(deep, kind)).image, expected, err_msg=kind)
    big_endian = Image.frombytes("I;16B", SMALL, deep.astype(">u2").tobytes())
    np.testing.assert_array_equal(run(encode(big_endian, "TIFF")).image, expected)


def test_sixteen_bit_colour_is_its_high_byte() -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (*SMALL[::-1], 4), dtype=np.uint16)
    np.testing.assert_array_equal(run(png.write(deep[..., :3], 16, png.RGB)).image, deep[..., :3] >> 8)
    np.testing.assert_array_equal(
        run(png.write(deep, 16, png.RGBA)).image, over_white(deep[..., :3] >> 8, deep[..., 3] >> 8)
    )


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_of_unknown_range_are_refused(mode: str) -> None:
    data = encode(Image.new(mode, SMALL), "TIFF")
    with pytest.raises(BadImage, match="send 8 or 16 bits"):
        run(data)


def test_cmyk() -> None:
    pixels = noise(*SMALL, channels=4).astype(float)
    expected = (255 - pixels[..., :3]) * (255 - pixels[..., 3:]) / 255
    image = run(encode(Image.fromarray(pixels.astype(np.uint8), "CMYK"), "TIFF")).image
    np.testing.assert_allclose(image, expected, atol=1)


def test_cmyk_jpeg_is_read_with_adobes_inversion() -> None:
    cmyk = Image.new("CMYK", SMALL, (0, 255, 255, 0))  # red
    image = run(encode(cmyk, "JPEG", quality=95)).image
    np.testing.assert_allclose(image, np.broadcast_to([255, 0, 0], image.shape), atol=4)


@pytest.mark.parametrize("mode", ["LAB", "YCbCr"])
def test_other_colour_spaces(mode: str) -> None:
    colour = Image.new("RGB", SMALL, (200, 60, 30))
    image = run(encode(colour.convert(mode), "TIFF")).image
    np.testing.assert_allclose(image, np.broadcast_to([200, 60, 30], image.shape), atol=4)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(kind: str, orientation: int) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(gradient(*SMALL), kind, exif=exif(orientation), **options)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        # Pillow's TIFF reader turns the picture while loading it.
        upright = image if kind == "TIFF" else ImageOps.exif_transpose(image)
        expected = np.asarray(upright.convert("RGB"))
    result = run(data)
    np.testing.assert_array_equal(result.image, expected)
    assert result.warnings == (() if orientation == 1 else (f"EXIF orientation {orientation} applied",))


def test_orientation_6_brings_the_left_edge_to_the_top() -> None:
    """Independent of Pillow's own reading: EXIF 2.32 says of 6 that row 0 is the right side, column 0 the top."""
    pixels = noise(*SMALL)
    data = encode(pixels, "PNG", exif=exif(6))
    np.testing.assert_array_equal(run(data).image, np.rot90(pixels, k=-1))


def test_an_oriented_image_is_resized_after_it_is_turned() -> None:
    data = encode(gradient(96, 48), "PNG", exif=exif(8))
    assert inspect(data).width == 96
    np.testing.assert_array_equal(run(data).image, np.rot90(gradient(96, 48))[24:72])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "damaged",
    [b"Exif\0\0not a directory at all", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"],
    ids=["text", "offset", "count"],
)
def test_damaged_exif_around_intact_pixels_is_a_warning(kind: str, damaged: bytes) -> None:
    pixels = np.full((*SMALL, 3), 96, np.uint8)
    result = run(encode(pixels, kind, exif=damaged))
    np.testing.assert_allclose(result.image, pixels, atol=1)
    assert result.warnings == (WARN_EXIF,)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_orientation_survives_damage_to_another_tag(kind: str) -> None:
    block = exif(3)
    at = block.index(b"\x01\x0f\x00\x02") + 4  # the maker's length
    data = encode(noise(*SMALL), kind, exif=block[:at] + b"\xff\xff\xff\xff" + block[at + 4 :])
    assert run(data).warnings == ("EXIF orientation 3 applied",)


def test_an_orientation_out_of_range() -> None:
    assert run(encode(noise(*SMALL), "PNG", exif=exif(9))).warnings == (WARN_EXIF,)
    assert run(encode(noise(*SMALL), "PNG", exif=exif(0))).warnings == ()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_damaged_colour_profile_is_ignored(kind: str) -> None:
    pixels = np.full((*SMALL, 3), 96, np.uint8)
    np.testing.assert_allclose(run(encode(pixels, kind, icc_profile=b"damaged")).image, pixels, atol=1)


def test_metadata_that_pillow_chokes_on_is_not_looked_at() -> None:
    pixels = noise(*SMALL)
    unknown_compression = png.chunk(b"iCCP", b"profile\0\x07data")
    bomb = png.chunk(b"zTXt", b"text\0\0" + zlib.compress(bytes(80_000_000)))
    for chunk in (unknown_compression, bomb):
        result = run(png.write(pixels, 8, png.RGB, before=[chunk]))
        np.testing.assert_array_equal(result.image, pixels)
        assert result.warnings == ()
    plain = encode(pixels, "JPEG")
    short_profile = b"\xff\xe2\x00\x0eICC_PROFILE\0"
    result = run(plain[:2] + short_profile + plain[2:])
    np.testing.assert_array_equal(result.image, run(plain).image)
    assert result.warnings == ()


@pytest.mark.parametrize("own_palette", [False, True])
@pytest.mark.parametrize("interlace", [False, True])
@pytest.mark.parametrize("transparency", [{}, {"transparency": 5}])
@pytest.mark.parametrize("corner", [(0, 0), (9, 20), (28, 0)])
def test_a_gif_frame_smaller_than_its_screen_is_on_white(
    corner: tuple[int, int], transparency: dict[str, int], interlace: bool, own_palette: bool
) -> None:
    """As browsers show it, whatever the palette's colour of the background is."""
    indices = noise(20, 28, channels=1)[..., 0] % 16
    data = encode(with_palette(indices), "GIF", interlace=interlace, **transparency)
    frame = data.index(b",\0\0\0\0\x14\0\x1c\0")
    palette = data[13 : 13 + (3 << (data[10] & 7) + 1)]
    box = struct.pack("<HHHH", *corner, 20, 28)
    own = bytes((data[frame + 9] | 0x80 | data[10] & 7,)) + palette
    descriptor = data[frame : frame + 1] + box + (own if own_palette else data[frame + 9 : frame + 10])
    data = (
        data[:6] + struct.pack("<HH", *SMALL) + data[10:11] + b"\3" + data[12:frame] + descriptor + data[frame + 10 :]
    )
    if own_palette:
        data = data.replace(palette, bytes(len(palette)), 1)
    expected = np.full((*SMALL[::-1], 3), 255, np.uint8)
    left, top = corner
    expected[top : top + 28, left : left + 20] = PALETTE[indices]
    if transparency:
        expected[top : top + 28, left : left + 20][indices == 5] = 255
    np.testing.assert_array_equal(run(data).image, expected)


@pytest.mark.parametrize(
    ("frames", "hidden", "warnings"),
    [(1, False, ()), (2, False, (WARN_FRAMES,)), (1, True, (WARN_FRAMES,)), (2, True, (WARN_FRAMES,)), (0, True, ())],
)
def test_an_animated_png_is_its_default_picture(frames: int, hidden: bool, warnings: tuple[str, ...]) -> None:
    """Hidden: no part of the animation. The animation itself is never decoded."""
    pixels = noise(*SMALL)
    control = png.chunk(b"acTL", struct.pack(">II", frames, 0))
    frame = png.chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, *SMALL, 0, 0, 1, 10, 0, 0))
    data = png.write(pixels, 8, png.RGB, before=[control] if hidden else [control, frame])
    end = data.index(b"\0\0\0\0IEND")
    result = run(data[:end] + frame + png.chunk(b"fdAT", bytes(4) + b"not decoded") + data[end:])
    np.testing.assert_array_equal(result.image, pixels)
    assert result.warnings == warnings


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_of_several(kind: str) -> None:
    first, second = (Image.new("RGB", SMALL, colour) for colour in ((250, 0, 0), (0, 0, 250)))
    options = {"lossless": True} if kind == "WEBP" else {}
    result = run(encode(first, kind, save_all=True, append_images=[second], **options))
    np.testing.assert_array_equal(result.image, np.asarray(first))
    assert result.warnings == (WARN_FRAMES,)


def test_a_phones_mpo_is_a_jpeg() -> None:
    first = gradient(*SMALL)
    data = encode(first, "MPO", save_all=True, append_images=[Image.new("RGB", (20, 20))])
    result = run(data)
    np.testing.assert_allclose(result.image, first, atol=40)
    np.testing.assert_array_equal(result.image, run(encode(first, "JPEG")).image)
    assert (result.format, result.warnings) == ("jpeg", ())
    broken = bytearray(data)
    at = data.index(b"MPF\0")
    broken[at + 4 : at + 40] = b"\xff" * 36
    np.testing.assert_array_equal(run(bytes(broken)).image, result.image)
