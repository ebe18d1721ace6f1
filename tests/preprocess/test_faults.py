"""Hostile bytes: only ServiceErrors leave, with our words, without a Python warning, from any number of threads."""

from __future__ import annotations

import io
import random
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.errors import BadImage, ServiceError
from service.preprocess import Limits, Prepared, decode, inspect, prepare
from tests.preprocess.pictures import IDENTITY, encode, exif, noise, run

SEEDS: dict[str, bytes] = {
    "jpeg": encode(noise(48, 48), "JPEG", exif=exif(6)),
    "progressive": encode(noise(48, 48), "JPEG", progressive=True, icc_profile=b"p" * 300),
    "cmyk": encode(Image.fromarray(noise(48, 48, 4), "CMYK"), "JPEG"),
    "mpo": encode(noise(48, 48), "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))]),
    "png": encode(noise(48, 48, 4), "PNG", exif=exif(6), icc_profile=b"profile"),
    "palette": encode(Image.fromarray(noise(48, 48)).convert("P"), "PNG", transparency=bytes(range(90))),
    "deep": encode(noise(48, 48)[..., 0].astype(np.uint16) * 257, "PNG"),
    "webp": encode(noise(48, 48, 4), "WEBP", exif=exif(6)),
    "gif": encode(Image.new("P", (48, 48)), "GIF", save_all=True, append_images=[Image.new("P", (48, 48), 9)]),
    "bmp": encode(noise(48, 48), "BMP"),
    "tiff": encode(noise(48, 48), "TIFF"),
    "lzw": encode(noise(48, 48), "TIFF", compression="tiff_lzw"),
    "jpeg_in_tiff": encode(noise(48, 48), "TIFF", compression="jpeg"),
}


def attempt(data: bytes) -> Prepared | ServiceError:
    try:
        return run(data)
    except ServiceError as error:
        return error


@pytest.mark.parametrize("name", SEEDS)
def test_truncated_anywhere(name: str) -> None:
    data = SEEDS[name]
    for length in random.Random(name).sample(range(len(data)), 60):
        outcome = attempt(data[:length])
        if isinstance(outcome, ServiceError):
            assert outcome.status in (415, 422)


@pytest.mark.parametrize("name", ["jpeg", "progressive", "png", "webp", "bmp", "tiff", "deep"])
def test_a_cut_picture_is_called_truncated(name: str) -> None:
    data = SEEDS[name]
    cut = data[: len(data) * 3 // 4] if name != "tiff" else data[: len(data) - 48 * 3 * 12]
    inspect(cut)  # its header is whole
    with pytest.raises(BadImage, match="truncated"):
        run(cut)


@pytest.mark.parametrize("name", SEEDS)
def test_flipped_bytes(name: str) -> None:
    randomness = random.Random(name)
    for _ in range(150):
        data = bytearray(SEEDS[name])
        for _ in range(randomness.choice((1, 2, 8))):
            at = randomness.randrange(min(len(data), randomness.choice((40, 400, 1 << 20))))
            data[at] = randomness.choice((0, 1, 255, randomness.randrange(256)))
        outcome = attempt(bytes(data))
        if isinstance(outcome, ServiceError):
            assert outcome.status in (413, 415, 422)
            assert "0x" not in outcome.detail
            assert "PIL" not in outcome.detail


def test_pillows_words_do_not_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: Any) -> None:
        raise OSError("cannot identify image file <_io.BytesIO object at 0x7f0000000000>")

    monkeypatch.setattr(Image.Image, "load", explode)
    with pytest.raises(BadImage) as caught:
        run(SEEDS["bmp"])
    assert caught.value.detail == "the image is corrupt and cannot be decoded"
    assert caught.value.__suppress_context__


def test_a_lack_of_memory_is_not_the_senders_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(Image.Image, "load", explode)
    for name in ("jpeg", "bmp"):
        with pytest.raises(MemoryError):
            run(SEEDS[name])


def test_what_the_decoder_finds_is_held_to_the_limit_too() -> None:
    header = inspect(SEEDS["png"])
    with pytest.raises(ServiceError, match="megapixels") as caught:
        prepare(SEEDS["png"], header, IDENTITY, limits=Limits(max_pixels=100))
    assert caught.value.status == 413


def test_pillows_warnings_stay_inside() -> None:
    """Under this suite's ``error`` filter, Pillow's own reading of this intact picture is an exception."""
    pixels = noise(48, 48)
    data = bytearray(encode(pixels, "TIFF", dpi=(72, 72)))
    at = data.index(b"\x1a\x01\x05\0\x01\0\0\0")  # XResolution: one rational becomes a million
    data[at + 4 : at + 8] = (1_000_000).to_bytes(4, "little")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="Skipping tag"):
            Image.open(io.BytesIO(data)).load()
        assert (run(bytes(data)).image == pixels).all()
        with pytest.raises(UserWarning, match="ours"):
            warnings.warn("ours still counts", stacklevel=1)


def test_the_filter_is_installed_once() -> None:
    decode.silence_pillow()
    before = list(warnings.filters)
    decode.silence_pillow()
    assert warnings.filters == before


def test_many_threads_at_once() -> None:
    names = list(SEEDS) * 12
    expected = {name: attempt(data) for name, data in SEEDS.items()}
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda name: attempt(SEEDS[name]), names))
    for name, result in zip(names, results, strict=True):
        alone = expected[name]
        assert isinstance(alone, Prepared)
        assert isinstance(result, Prepared)
        assert (result.image == alone.image).all()
        assert result.warnings == alone.warnings
