"""Twenty labelled ImageNet photos, from the wheel of foolbox 3.3.4 (MIT): fetched once, hash-checked, never committed.

``foolbox/data/imagenet_NN_CLASS.jpg``; CLASS is the index in torchvision's order.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

_CACHE = Path(__file__).parent.parent / ".cache" / "photos"
_REQUIREMENT = "foolbox==3.3.4 --hash=sha256:11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb\n"
_MEMBER = re.compile(r"foolbox/data/(imagenet_\d\d_(\d+)\.jpg)")


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
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(_REQUIREMENT)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        subprocess.run(
            [*command, "--require-hashes", "--requirement", str(requirements), "--dest", folder],
            check=True,
            timeout=100,
        )
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                if match := _MEMBER.fullmatch(member):
                    (_CACHE / match[1]).write_bytes(archive.read(member))


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
