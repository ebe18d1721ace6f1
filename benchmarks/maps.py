"""Whether class maps lie on their objects: ``python -m benchmarks.maps [FOLDER]``, the grid pointing game on photos.

Without a folder, the photos are the twenty of the package foolbox. Four photos of different classes become the quarters
of one picture, and the service maps each of the four classes. The score is the share of a map's positive evidence that
lies in the quarter of its photo; evenly spread evidence scores 25 % (M. Böhle, M. Fritz, B. Schiele 2021,
"Convolutional Dynamic Alignment Networks for Interpretable Classifications"). A photo's class is the service's answer
to the photo alone, so no labels are needed.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from benchmarks.processes import Server
from benchmarks.report import table
from service.store.calibration import fetch_photos, read_photos
from service.store.photos import image_files

QUARTERS = ("top left", "top right", "bottom left", "bottom right")
#: Side of a quarter in pixels.
_SIDE = 256


def explain(url: str, photo: bytes, query: str) -> dict[str, Any]:
    """The service's answer for one photo: its maps, its size and the crop."""
    with urllib.request.urlopen(f"{url}/explain?{query}", photo) as answer:
        result: dict[str, Any] = json.load(answer)["results"][0]
    return result


def collage(photos: Sequence[bytes]) -> bytes:
    """A PNG of four photos, the middle square of each in its quarter, in the order of ``QUARTERS``."""
    picture = Image.new("RGB", (2 * _SIDE, 2 * _SIDE))
    for number, photo in enumerate(photos):
        picture.paste(_square(photo), (number % 2 * _SIDE, number // 2 * _SIDE))
    return _png(picture)


def _square(photo: bytes) -> Image.Image:
    with Image.open(io.BytesIO(photo)) as image:
        return ImageOps.fit(image.convert("RGB"), (_SIDE, _SIDE))


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def shares(class_map: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """Share of a map's (S, S) positive evidence per quarter; half of a middle row or column counts for each side."""
    evidence = np.maximum(np.array(class_map), 0).repeat(2, axis=0).repeat(2, axis=1)
    side = len(class_map)
    quarters = evidence.reshape(2, side, 2, side).sum(axis=(1, 3)).ravel()
    share: NDArray[np.float64] = quarters / max(quarters.sum(), 1e-12)
    return share


def play(url: str, photos: Sequence[bytes]) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """For each photo in each quarter: the quarter, and the shares of the map of the photo's class."""
    classes = [explain(url, photo, "top_k=1")["maps"][0]["index"] for photo in photos]
    step = len(photos) // 4
    for first in range(step):
        group = [first + step * number for number in range(4)]  # far apart, because folders are often sorted by class
        if len({classes[number] for number in group}) < 4:
            continue
        for turn in range(4):
            order = group[turn:] + group[:turn]
            query = "class=" + ",".join(str(classes[number]) for number in order)
            maps = explain(url, collage([photos[number] for number in order]), query)["maps"]
            for quarter, shown in enumerate(maps):
                yield quarter, shares(shown["map"])


def offset(url: str, photo: bytes) -> float:
    """By how many cells the map of the photo's strongest class lies too far right, or left if negative.

    Without an offset the map of the mirrored photo is the mirrored map; an offset moves both in the same direction.
    """
    square = _square(photo)
    (shown,) = explain(url, _png(square), "top_k=1")["maps"]
    (mirrored,) = explain(url, _png(ImageOps.mirror(square)), f"class={shown['index']}")["maps"]
    return (_centre(shown["map"]) + _centre(mirrored["map"])) / 2


def _centre(class_map: Sequence[Sequence[float]]) -> float:
    """Mean column of the positive evidence, in cells right of the middle."""
    columns = np.maximum(np.array(class_map), 0).sum(axis=0)
    return float(np.average(np.arange(len(columns)) - (len(columns) - 1) / 2, weights=columns))


def report(played: Sequence[tuple[int, NDArray[np.float64]]]) -> str:
    rows = []
    for name, quarters in [*((name, {number}) for number, name in enumerate(QUARTERS)), ("all", set(range(4)))]:
        own = [(parts[quarter], parts.argmax() == quarter) for quarter, parts in played if quarter in quarters]
        inside, most = (np.array(column) for column in zip(*own, strict=True))
        rows.append([name, f"{inside.mean():.0%}", f"{most.sum()} of {len(own)}"])
    return table(["the photo's quarter", "evidence in it", "more than in any other"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Do class maps lie on the object?")
    parser.add_argument("folder", nargs="?", type=Path, help="photos; by default twenty are downloaded")
    parser.add_argument("--most", type=int, default=400, help="how many photos, evenly spaced in the folder (400)")
    options = parser.parse_args()
    if options.folder is None:
        with tempfile.TemporaryDirectory() as scratch:
            photos = list(fetch_photos(Path(scratch)).values())
    else:
        photos = list(read_photos(image_files(options.folder), options.most).values())
    with Server() as server:
        sys.stdout.write(report(list(play(server.url, photos))))
        offsets = [offset(server.url, photo) for photo in photos]
    sys.stdout.write(f"\noffset to the right: {np.mean(offsets):.2f} of a cell, deviation {np.std(offsets):.2f}\n")


if __name__ == "__main__":
    main()
