"""Hostile bytes: only ServiceErrors leave, with our words, without a Python warning, from any number of threads."""

from __future__ import annotations

import io
import random
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from service.errors import BadImage, ServiceError
from service.image import Limits, inspect, preprocess
from service.image.decode import silence_decoders
from tests.image.samples import IDENTITY, Decoded, encode, noise, patched, run, seeds

SEEDS = seeds()


def attempt(data: bytes) -> Decoded | ServiceError:
    try:
        return run(data)
    except ServiceError as error:
        return error


@pytest.mark.parametrize("name", SEEDS)
def test_truncated_anywhere(name: str) -> None:
    data = SEEDS[name]
    for length in random.Random(name).sample(range(len(data)), 60):
        check(attempt(data[:length]), (415, 422))


def check(outcome: Decoded | ServiceError, statuses: tuple[int, ...]) -> None:
    """Pixels, or a refusal in our words."""
    if isinstance(outcome, ServiceError):
        assert outcome.status in statuses
        assert "0x" not in outcome.detail
        assert "PIL" not in outcome.detail


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
        check(attempt(bytes(data)), (413, 415, 422))


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
        preprocess(SEEDS["png"], header, IDENTITY, limits=Limits(max_pixels=100))
    assert caught.value.status == 413


def test_pillows_warnings_stay_inside() -> None:
    """Under this suite's ``error`` filter, Pillow's own reading of this intact picture is an exception."""
    pixels = noise(48, 48)
    data = encode(pixels, "TIFF", dpi=(72, 72))
    at = data.index(b"\x1a\x01\x05\0\x01\0\0\0")  # XResolution
    data = patched(data, at + 4, "<I", 1_000_000)  # rationals, where there was one
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="Skipping tag"):
            Image.open(io.BytesIO(data)).load()
        assert (run(data).image == pixels).all()
        with pytest.raises(UserWarning, match="ours"):
            warnings.warn("ours still counts", stacklevel=1)


def test_the_filter_is_installed_once() -> None:
    silence_decoders()
    before = list(warnings.filters)
    silence_decoders()
    assert warnings.filters == before


_FAX = """
import sys
from service.errors import BadImage
from service.image import Transform, inspect, preprocess
for path in sys.argv[1:]:
    data = open(path, "rb").read()
    try:
        preprocess(data, inspect(data), Transform(48, 48))
    except BadImage:
        pass
"""


def test_libtiff_and_pillow_write_nothing(tmp_path: Path) -> None:
    """In a process of its own, because they would write to its standard error, past Python."""
    fax = encode(Image.new("1", (16, 4000)), "TIFF", compression="group3")
    (tmp_path / "fax").write_bytes(fax[:8] + bytes(range(1, 250)) * 8 + fax[2000:])
    (tmp_path / "lzw").write_bytes(SEEDS["lzw"][:200] + b"\xff" * 100 + SEEDS["lzw"][300:])
    samples = b"\x15\x01\x03\0\x01\0\0\0"
    (tmp_path / "samples").write_bytes(SEEDS["tiff"].replace(samples + b"\x03", samples + b"\x64"))
    paths = sorted(tmp_path.iterdir())
    ran = subprocess.run([sys.executable, "-c", _FAX, *paths], capture_output=True, text=True, check=True)
    assert ran.stderr == ""


def test_many_threads_at_once() -> None:
    expected = [run(data) for data in SEEDS.values()] * 12
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(run, list(SEEDS.values()) * 12))
    for result, alone in zip(results, expected, strict=True):
        assert (result.image == alone.image).all()
        assert result.warnings == alone.warnings
