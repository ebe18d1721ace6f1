"""What vectors find again: ``python -m benchmarks.retrieval FOLDER`` changes each photo of FOLDER and looks for it.

Per kind of change: in how many cases the nearest vector among those of all originals is the photo's own, how often it
is among the nearest five, and the median cosine similarity of a photo and its changed self.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from service.config import Settings
from service.image import Limits, inspect, preprocess
from service.model.artifact import load
from service.model.outputs import normalize
from service.serving.build import create_runtime, engine_plan

Change = Callable[[Image.Image], Image.Image]


def _crop(share: float, *, corner: bool = False) -> Change:
    """``share`` of each side is kept."""

    def change(photo: Image.Image) -> Image.Image:
        width, height = round(photo.width * share), round(photo.height * share)
        left, top = (0, 0) if corner else ((photo.width - width) // 2, (photo.height - height) // 2)
        return photo.crop((left, top, left + width, top + height))

    return change


def _scale(factor: float) -> Change:
    return lambda photo: photo.resize((max(1, round(photo.width * factor)), max(1, round(photo.height * factor))))


#: A change, and the JPEG quality that the changed photo is saved with.
CHANGES: dict[str, tuple[Change, int]] = {
    "saved as JPEG again, quality 90": (lambda photo: photo, 90),
    "saved as JPEG again, quality 50": (lambda photo: photo, 50),
    "saved as JPEG again, quality 10": (lambda photo: photo, 10),
    "half the width and height": (_scale(0.5), 95),
    "a quarter of the width and height": (_scale(0.25), 95),
    "mirrored": (ImageOps.mirror, 95),
    "greyscale": (ImageOps.grayscale, 95),
    "brightness × 1.5": (lambda photo: ImageEnhance.Brightness(photo).enhance(1.5), 95),
    "turned by 10°": (lambda photo: photo.rotate(10), 95),
    "turned by 90°": (lambda photo: photo.rotate(90, expand=True), 95),
    "upside down": (ImageOps.flip, 95),
    "centre, 80 % of each side": (_crop(0.8), 95),
    "centre, 50 % of each side": (_crop(0.5), 95),
    "a corner, 80 % of each side": (_crop(0.8, corner=True), 95),
    "a corner, 50 % of each side": (_crop(0.5, corner=True), 95),
}


def main() -> None:
    photos = [_open(path) for path in sorted(Path(sys.argv[1]).iterdir()) if path.is_file()]
    embed = _embedder()
    originals = np.stack([embed(photo, 95) for photo in photos])
    sys.stdout.write(f"{len(photos)} photos\n\n| change | nearest | among 5 | similarity |\n|---|---|---|---|\n")
    for name, (change, quality) in CHANGES.items():
        scores = np.stack([embed(change(photo), quality) for photo in photos]) @ originals.T
        own = np.diagonal(scores)
        rank = (scores > own[:, np.newaxis]).sum(axis=1)
        sys.stdout.write(f"| {name} | {np.mean(rank == 0):.1%} | {np.mean(rank < 5):.1%} | {np.median(own):.3f} |\n")


def _open(path: Path) -> Image.Image:
    with Image.open(path) as photo:
        return ImageOps.exif_transpose(photo).convert("RGB")


def _embedder() -> Callable[[Image.Image, int], NDArray[np.float32]]:
    """A photo's unit vector after it was saved as JPEG."""
    settings = Settings()
    artifact = load(settings.model_store, settings.model, settings.version)
    runtime = create_runtime(engine_plan(settings).options, artifact)
    transform, limits = artifact.manifest.preprocessing.transform(), Limits()

    def embed(photo: Image.Image, quality: int) -> NDArray[np.float32]:
        file = io.BytesIO()
        photo.save(file, "JPEG", quality=quality)
        data = file.getvalue()
        pixels = preprocess(data, inspect(data, limits), transform)
        return normalize(runtime.run([pixels]).embeddings[0])

    return embed


if __name__ == "__main__":
    main()
