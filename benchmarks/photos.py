"""JPEGs to send, made by code, so that a benchmark needs neither a network nor any photo.

A photograph's spectrum falls with frequency (amplitude about 1/f: Field 1987, "Relations between the statistics of
natural images and the response properties of cortical cells"), and the cost of decoding a JPEG follows its
coefficients. So noise with that spectrum, coloured and quantised like a camera's picture, costs as much as a photo. A
large picture is softer at its pixels than a small one, because lens and sensor resolve less than they sample. Above one
megapixel the noise is therefore blurred a little, which gives files of 3 to 4 MB at twelve megapixels.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

QUALITY = 90
SIZES = {"224x224": (224, 224), "500x375": (500, 375), "1280x960": (1280, 960), "4000x3000": (4000, 3000)}
STANDARD = "500x375"


def synthetic(width: int, height: int, seed: int) -> bytes:
    """A JPEG of ``width`` × ``height`` that costs as much to decode as a photo."""
    rng = np.random.default_rng(seed)
    planes = [_one_over_f(width, height, rng) for _ in range(3)]
    # The channels of a photo resemble each other: a common brightness and a weaker colour.
    red, green, blue = planes[0] + 0.3 * planes[1], planes[0] + 0.1 * planes[2], planes[0] - 0.3 * planes[1]
    pixels = np.clip(128 + 50 * np.stack([red, green, blue], axis=-1), 0, 255).astype(np.uint8)
    image = Image.fromarray(pixels)
    if width * height > 1_000_000:
        image = image.filter(ImageFilter.GaussianBlur(1.2))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def _one_over_f(width: int, height: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """(height, width) float32 noise, mean 0, deviation 1."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = np.inf
    phases = rng.normal(size=frequency.shape) + 1j * rng.normal(size=frequency.shape)
    plane = np.fft.irfft2(phases / frequency, s=(height, width))
    normalised: NDArray[np.float32] = ((plane - plane.mean()) / plane.std()).astype(np.float32)
    return normalised


def collection(size: str, count: int) -> list[bytes]:
    """``count`` different JPEGs of one of ``SIZES``."""
    width, height = SIZES[size]
    return [synthetic(width, height, seed) for seed in range(count)]


def save(folder: Path, bodies: list[bytes]) -> None:
    folder.mkdir(exist_ok=True)
    for index, body in enumerate(bodies):
        (folder / f"{index:03}.jpg").write_bytes(body)


def from_folder(folder: Path, count: int = 1000) -> list[bytes]:
    """At most ``count`` JPEGs of ``folder``, by name."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg"))
    return [path.read_bytes() for path in paths[:count]]


def requested(folder: Path | None, count: int) -> list[bytes]:
    """Those of ``folder``, or else synthetic ones of the standard size."""
    return collection(STANDARD, count) if folder is None else from_folder(folder, 64)
