"""Twenty labelled ImageNet photos, from the wheel of foolbox 3.3.4 (MIT): fetched once, hash-checked, never committed.

``foolbox/data/imagenet_NN_CLASS.jpg``; CLASS is the index in torchvision's order.
"""

from __future__ import annotations

import io
import tempfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from service.store.calibration import fetch_photos

_CACHE = Path(__file__).parent.parent / ".cache" / "photos"


@dataclass(frozen=True)
class Photo:
    name: str
    label: int
    data: bytes


def load() -> list[Photo]:
    """The photos, by name; from the cache if they are there."""
    if len(list(_CACHE.glob("*.jpg"))) != 20:
        _fetch()
    return [Photo(path.name, int(path.stem.split("_")[2]), path.read_bytes()) for path in sorted(_CACHE.glob("*.jpg"))]


def _fetch() -> None:
    _CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, data in fetch_photos(Path(folder)).items():
            (_CACHE / name).write_bytes(data)


def variations(photos: list[Photo], count: int) -> list[bytes]:
    """``count`` different JPEGs made from ``photos`` by mirroring, cropping and recompressing."""
    result = []
    for index in range(count):
        with Image.open(io.BytesIO(photos[index % len(photos)].data)) as original:
            image = original.convert("RGB")
        step = index // len(photos)
        if step % 2:
            image = ImageOps.mirror(image)
        edge = 3 * step
        image = image.crop((edge, edge, image.width - edge, image.height - edge))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=95 - step)
        result.append(buffer.getvalue())
    assert len(set(result)) == count
    return result
