"""AVIF and HEIC: pixels as by the plain decoders, upright; sizes that lie, and work that no size shows, are refused."""

from __future__ import annotations

import importlib
import io
import struct
import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.errors import BadImage, ImageTooLarge, ServiceError, UnsupportedFormat
from service.image import Header, Limits, Transform, inspect, preprocess
from service.image.decode import Findings, load_pixels
from service.image.formats import bmff, coded_units
from service.image.header import DEFAULT_LIMITS
from tests.image.bmff_writer import Coded, Item, av1, box, clap, coded, full, grid, imir, irot, ispe, picture, write
from tests.image.heif_samples import sample
from tests.image.samples import encode, exif, gradient, noise, run, stored

needs_pi_heif = pytest.mark.extra

AVIFS: dict[str, Callable[[], bytes]] = {
    "4:2:0": lambda: encode(noise(48, 48), "AVIF"),
    "4:2:2": lambda: encode(noise(47, 31), "AVIF", subsampling="4:2:2"),
    "4:4:4": lambda: encode(noise(48, 48), "AVIF", subsampling="4:4:4", quality=90),
    "grey": lambda: encode(noise(48, 48)[..., 0], "AVIF"),
    "limited range": lambda: encode(noise(48, 48), "AVIF", range="limited"),
    "alpha": lambda: encode(noise(48, 48, 4), "AVIF"),
    "premultiplied alpha": lambda: encode(noise(48, 48, 4), "AVIF", alpha_premultiplied=True),
    "profile": lambda: encode(noise(48, 48), "AVIF", icc_profile=b"not a profile" * 9, xmp=b"<x/>"),
    **{
        name: partial(sample, f"avif {name}")
        for name in ("10 bits", "12 bits, 4:4:4", "grey, 10 bits", "12 bits, alpha")
    },
}
PLAIN = picture(av1(), ispe(48, 32))
HEVC = coded(sample("heic 4:2:0"))
SLICES = box(b"hvcC", HEVC.configuration[8:30], b"\1\x21", struct.pack(">HH", 1, len(HEVC.data) - 4), HEVC.data[4:])
HEICS = ("4:2:0", "4:2:2", "4:4:4", "47x31", "grey", "grey, 10 bits", "alpha", "10 bits", "12 bits")


def decoded(data: bytes, limits: Limits = DEFAULT_LIMITS) -> NDArray[np.uint8]:
    """(height, width, 3): the canonical image."""
    header = inspect(data, limits)
    image = load_pixels(data, header, limits, None, "warn", Findings())
    assert image.size == header.upright_size
    assert image.mode == "RGB"
    return np.asarray(image)


def over_white(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    layers = Image.new("RGBA", image.size, (255, 255, 255, 255))
    layers.alpha_composite(image.convert("RGBA"))
    return np.asarray(layers.convert("RGB"))


@pytest.mark.parametrize("name", AVIFS)
def test_avif_has_the_pixels_of_pillows_plain_decoder(name: str) -> None:
    data = AVIFS[name]()
    with Image.open(io.BytesIO(data)) as plain:
        expected = over_white(plain)
    difference = np.abs(decoded(data).astype(int) - expected).max()
    assert difference <= (1 if "alpha" in name else 0)  # two formulas for a mixture round differently
    assert inspect(data).format == "avif"


@needs_pi_heif
@pytest.mark.parametrize("name", HEICS)
def test_heic_has_the_pixels_of_pi_heifs_plain_decoder(name: str) -> None:
    data = sample(f"heic {name}")
    expected = importlib.import_module("pi_heif").open_heif(data).to_pillow()
    assert np.abs(decoded(data).astype(int) - over_white(expected)).max() <= (1 if "alpha" in name else 0)
    assert inspect(data).format == "heic"
    original = gradient(48, 32)[..., :1] if "grey" in name else gradient(48, 32)
    if "alpha" not in name and "x" not in name:
        assert np.abs(decoded(data).astype(int) - original).mean() < 8  # and they are the picture's


def turned(pixels: NDArray[np.uint8], steps: tuple[tuple[str, int], ...]) -> NDArray[np.uint8]:
    for kind, value in steps:
        pixels = np.rot90(pixels, value) if kind == "irot" else np.flip(pixels, value)
    return pixels


def transformed(source: Coded, width: int, height: int, steps: tuple[tuple[str, int], ...]) -> bytes:
    """``crop``, for HEIC: to 48 × 32."""
    crop = clap(48, 32, 64, 64)
    boxes = [{"irot": irot, "imir": imir}[kind](value) if kind != "crop" else crop for kind, value in steps]
    return write([picture(source, ispe(width, height), *boxes)])


STEPS: list[tuple[tuple[str, int], ...]] = [
    *(((kind, value),) for kind, values in (("irot", range(4)), ("imir", range(2))) for value in values),
    *((("irot", angle), ("imir", axis)) for angle in range(4) for axis in range(2)),
]
#: MIAF demands the order above; libheif applies what is written.
MORE_STEPS = [order for steps in STEPS if len(steps) > 1 for order in permutations(steps)]


@pytest.mark.parametrize("steps", STEPS)
def test_avif_is_turned_and_mirrored_once(steps: tuple[tuple[str, int], ...]) -> None:
    source = coded(encode(gradient(48, 32), "AVIF", quality=90))
    data = transformed(source, 48, 32, steps)
    assert (decoded(data) == turned(decoded(transformed(source, 48, 32, ())), steps)).all()
    assert bool(inspect(data).warnings) == (steps != (("irot", 0),))


@needs_pi_heif
@pytest.mark.parametrize("steps", [*STEPS, *MORE_STEPS])
def test_heic_is_turned_and_mirrored_once(steps: tuple[tuple[str, int], ...]) -> None:
    source = coded(sample("heic 4:4:4"))
    data = transformed(source, 64, 64, (("crop", 0), *steps))
    assert (decoded(data) == turned(decoded(transformed(source, 64, 64, (("crop", 0),))), steps)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_as_pillow_writes_them(orientation: int) -> None:
    upright = Image.fromarray(gradient(48, 32))
    data = encode(stored(upright, orientation), "AVIF", quality=95, exif=exif(orientation))
    assert inspect(data).orientation == orientation
    assert np.abs(decoded(data).astype(int) - gradient(48, 32)).mean() < 3


def test_exif_in_avif_turns_nothing() -> None:
    described = {b"iref": full(b"iref", box(b"cdsc", struct.pack(">HHH", 2, 1, 1)))}
    data = write([PLAIN, Item(b"Exif", bytes(4) + exif(6).removeprefix(b"Exif\0\0"))], replace=described)
    with Image.open(io.BytesIO(data)) as plain:
        assert "exif" in plain.info
    assert inspect(data).orientation == 1
    assert decoded(data).shape == (32, 48, 3)


@pytest.mark.parametrize(
    "make", [lambda: sample("avif 10 bits"), pytest.param(lambda: sample("heic 4:2:0"), marks=needs_pi_heif)]
)
def test_every_cut_is_truncated(make: Callable[[], bytes]) -> None:
    data = make()
    for length in range(12, len(data)):
        with pytest.raises(BadImage, match=r"truncated|no still image"):
            decoded(data[:length])


def test_the_first_frame_of_a_sequence() -> None:
    frames = [Image.new("RGB", (48, 48), (value, 0, 0)) for value in (10, 200)]
    data = encode(noise(48, 48), "AVIF", save_all=True, append_images=frames)
    with Image.open(io.BytesIO(data)) as plain:
        assert plain.n_frames == 3  # type: ignore[attr-defined]
        assert (decoded(data) == np.asarray(plain.convert("RGB"))).all()
    assert inspect(data).warnings == ("several frames or pages: only the first was used",)


def test_a_grid() -> None:
    tile = av1(64, 64, 120)
    tiles = [picture(tile, ispe(64, 64)) for _ in range(4)]
    data = write([Item(b"grid", grid(2, 2, 128, 100), (ispe(128, 100), tile.configuration), (2, 3, 4, 5)), *tiles])
    assert decoded(data).shape == (100, 128, 3)
    assert np.ptp(decoded(data), axis=(0, 1)).max() == 0


@needs_pi_heif
def test_a_heic_grid() -> None:
    tile = picture(coded(sample("heic 4:4:4")), ispe(64, 64))
    data = write([Item(b"grid", grid(2, 2, 128, 100), (ispe(128, 100),), (2, 3, 4, 5)), *[tile] * 4])
    pixels = decoded(data)
    assert pixels.shape == (100, 128, 3)
    assert (pixels[:, :64] == pixels[:, 64:]).all()
    assert (pixels[:36] == pixels[64:]).all()


SMALL = Limits(max_pixels=4_000)
FRAMES = av1().data + av1().data[2:]  # without the second temporal delimiter
GRID = Item(b"grid", grid(1, 3, 144, 32), (ispe(144, 32),), (2, 3, 4))


@pytest.mark.parametrize(
    ("items", "limits", "match"),
    [
        pytest.param([picture(av1(), ispe(65, 65))], SMALL, r"65 × 65", id="the picture itself"),
        pytest.param([picture(av1(65, 65), ispe(48, 32))], SMALL, r"65 × 65", id="a frame larger than declared"),
        pytest.param([picture(av1(), ispe(48, 32)), picture(av1(), ispe(65, 65))], SMALL, r"65 × 65", id="hidden"),
        pytest.param([picture(av1(), ispe(48, 32))] * 7, SMALL, r"10\.8 megapixels together|together", id="many items"),
        pytest.param([picture(av1()._replace(data=av1().data * 7), ispe(48, 32))], SMALL, "together", id="many frames"),
        pytest.param([GRID, *[picture(av1(), ispe(48, 32))] * 3], Limits(max_pixels=3_000), r"144 × 32", id="a grid"),
        pytest.param([picture(av1(), ispe(1, 32_769))], Limits(), "a side may have at most 32768", id="a side"),
    ],
)  # fmt: skip
def test_too_large(items: list[Item], limits: Limits, match: str) -> None:
    with pytest.raises(ImageTooLarge, match=match):
        inspect(write(items), limits)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(write([Item(b"grid", grid(1, 1, 48, 31), (ispe(48, 32),), (2,)), PLAIN]), id="a grid's two sizes"),
        pytest.param(write([Item(b"grid", grid(1, 1, 48, 32), (ispe(48, 32),), (2,)),
                            Item(b"grid", grid(1, 1, 48, 32), (ispe(48, 32),), (3,)), PLAIN]), id="a grid of grids"),
        pytest.param(write([Item(b"grid", grid(1, 2, 96, 32), (ispe(96, 32),), (2, 2)), PLAIN]), id="a tile twice"),
        pytest.param(write([Item(b"iovl", b"", (ispe(48, 32),), (2,) * 9), PLAIN]), id="an overlay"),
        pytest.param(write([Item(b"jpeg", b"\xff\xd8\xff", (ispe(48, 32),))], brands=b"mif1"), id="another codec"),
        pytest.param(write([PLAIN], replace={b"pitm": full(b"pitm", b"\0\x09")}), id="no such item"),
        pytest.param(write([PLAIN], replace={b"pitm": b""}), id="no primary item"),
        pytest.param(write([PLAIN], replace={b"iprp": b""}), id="no properties"),
        pytest.param(write([PLAIN], replace={b"more": full(b"pitm", b"\0\1")}), id="two primary items"),
        pytest.param(write([PLAIN], replace={b"iloc": full(b"iloc", b"\xff\xff\xff\xff" * 9)}), id="wide numbers"),
        pytest.param(write([PLAIN], replace={b"iloc": full(b"iloc", b"\0\0", b"\xff" * 4, b"\0" * 9, version=2)}),
                     id="four thousand million items"),
        pytest.param(write([PLAIN], before=box(b"meta") + box(b"meta")), id="two metas"),
        pytest.param(write([PLAIN], before=b"\0\0\0\3free"), id="a box of three bytes"),
        pytest.param(write([PLAIN], before=box(b"free") * 70_000), id="70,000 boxes"),
        pytest.param(write([Item(b"av01", b"\x22\0" * 90_000, PLAIN.properties)]), id="90,000 empty units"),
        pytest.param(write([picture(HEVC._replace(configuration=SLICES), ispe(64, 64))]), id="slices among parameters"),
        pytest.param(write([picture(av1(), ispe(0, 32))]), id="no width"),
        pytest.param(write([picture(av1(), ispe(48, 32), box(b"pixi"))], replace={b"idat": box(b"idat")}), id="pixi"),
    ],
)  # fmt: skip
def test_damage_is_refused_quickly_and_in_our_words(data: bytes) -> None:
    started = time.thread_time()
    with pytest.raises(ServiceError) as caught:
        run(data)
    assert time.thread_time() - started < 1
    assert caught.value.status in (415, 422)
    assert "av" not in caught.value.detail.lower().replace("avif", "").replace("have", "")


@pytest.mark.parametrize("extent", [(10**9, 5), (40, 10**9), (0, 0xFFFFFFFF)])
def test_data_beyond_the_file(extent: tuple[int, int]) -> None:
    with pytest.raises(BadImage, match="truncated"):
        inspect(write([Item(PLAIN.kind, PLAIN.data, PLAIN.properties, extent=extent)]))


def test_a_frame_smaller_than_declared_is_no_way_around_the_size() -> None:
    data = write([picture(av1(), ispe(96, 64))])
    assert decoded(data).shape == (64, 96, 3)  # libavif scales


@needs_pi_heif
@pytest.mark.parametrize("size", [(8, 8), (300, 300)])
def test_a_heic_frame_of_another_size_than_declared(size: tuple[int, int]) -> None:
    data = write([picture(HEVC, ispe(*size))])
    with pytest.raises(BadImage, match="corrupt"):
        run(data)


@needs_pi_heif
def test_heic_slices_are_counted() -> None:
    many = HEVC._replace(data=HEVC.data * 9)
    with pytest.raises(ImageTooLarge, match="together"):
        inspect(write([picture(many, ispe(48, 32))]), SMALL)


def test_without_its_decoder_a_format_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bmff, "can_decode", lambda _: False)
    with pytest.raises(UnsupportedFormat, match=r"HEIC.*JPEG.*mobilenet-service\[heif\]"):
        inspect(sample("heic 4:2:0"))
    with pytest.raises(UnsupportedFormat, match=r"AVIF.*JPEG"):
        inspect(sample("avif 10 bits"))


@pytest.mark.parametrize("name", ["avif 12 bits, 4:4:4", pytest.param("heic 4:2:0", marks=needs_pi_heif)])
def test_damaged_pixels_are_refused_in_our_words(name: str) -> None:
    data = sample(name)
    at = data.index(b"mdat") + 4
    for junk in (bytes(len(data) - at), b"\xff" * (len(data) - at), bytes(range(9)) + data[at + 9 :]):
        with pytest.raises(BadImage) as caught:
            run(data[:at] + junk)
        assert caught.value.detail == "the image is corrupt and cannot be decoded"


@pytest.mark.parametrize("name", ["avif", pytest.param("heic", marks=needs_pi_heif)])
def test_one_decode_uses_one_core(name: str) -> None:
    """libde265 starts a thread of its own, for which the caller waits."""
    data = sample("heic 4:2:0") if name == "heic" else encode(noise(1_500, 1_500), "AVIF", tile_cols=2, speed=10)
    header = inspect(data)
    most, stop = [0], threading.Event()

    def threads() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    def watch() -> None:
        while not stop.is_set():
            most[0] = max(most[0], threads())

    watching = threading.Thread(target=watch)
    watching.start()
    before = threads()
    preprocess(data, header, Transform(256, 224))
    stop.set()
    watching.join()
    assert most[0] <= before + (name == "heic")


def test_the_header_says_what_is_needed() -> None:
    assert inspect(encode(noise(48, 32), "AVIF")) == Header("avif", 48, 32)


def test_numbers_of_a_sequence_header() -> None:
    """A full header with timing, a model of the decoder and delays: the fields before the size."""

    def bits(*fields: tuple[int, int]) -> Any:
        text = "".join(f"{value:0{width}b}" for value, width in fields)
        return int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big")

    timing = ((1, 1), (1, 32), (25, 32), (1, 1), (1, 2), (0, 1))  # equal intervals: 2 in Elias's code, "010"
    model = ((1, 1), (9, 5), (1, 32), (3, 5), (3, 5))
    points = ((1, 1), (1, 5), (0, 12), (8, 5), (1, 1), (1, 1), (0, 21), (1, 1), (3, 4), (0, 12), (1, 5), (0, 1), (0, 1))
    size = ((10, 4), (9, 4), (1_919, 11), (1_000, 10))
    header = bits((0, 3), (0, 1), (0, 1), *timing, *model, *points, *size)
    assert coded_units._frame_size(header) == (1_920, 1_001)
    with pytest.raises(BadImage):
        coded_units._frame_size(header[:8])
