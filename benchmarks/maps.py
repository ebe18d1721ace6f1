"""Whether a class's map lies on the object.

    python -m benchmarks.maps                       our drawings, whose objects' places are known: a table
    python -m benchmarks.maps FOLDER --out SHEETS   photos: contact sheets of overlays, for a person to look at

The table's columns: does the strongest of the 7 × 7 places lie in the object's box ("pointing game", Zhang et al. 2016,
"Top-down Neural Attention by Excitation Backprop"), what share of the evidence for the class lies in the box, and what
share of the crop the box is, which is what evidence spread evenly would give.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import sys
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from docs.drawings import DRAWINGS, Drawing
from service import artifact, overlay
from service.artifact import Artifact
from service.assembly import create_engine, plan
from service.config import Settings
from service.image import CropBox, Limits, Prepared, crop_box, inspect, squared, upright
from service.metrics import Metrics
from service.postprocess import ClassMap, Float32, explain
from service.store.photos import image_files

#: Nobody waits for a single photo.
_PATIENCE_S = 600.0
_PER_SHEET = 20
_TILE = (300, 225)
_CAPTION = 18

Box = tuple[float, float, float, float]


class Mapped(NamedTuple):
    """One photo and its maps."""

    photo: Image.Image  # upright, at its own size
    crop: CropBox
    maps: list[ClassMap]  # of the classes asked for, else of the five strongest

    def overlay(self, shown: ClassMap) -> Image.Image:
        """As ``POST /explain`` draws it."""
        png = overlay.draw(self.photo.copy(), self.crop, shown, opacity=overlay.DEFAULT_OPACITY)
        return Image.open(io.BytesIO(png))


class Score(NamedTuple):
    points: bool  # the strongest place lies in the box
    inside: float  # share of the positive evidence that lies in the box
    box: float  # share of the crop that the box is


def infer(photos: Sequence[bytes], classes: Sequence[tuple[int, ...]] = ()) -> list[Mapped]:
    """Through the default model and the engine that serves; ``classes`` of each photo, none for its strongest."""
    settings = Settings()
    found = artifact.load(settings.model_store, settings.model, settings.version)
    return asyncio.run(_infer(settings, found, photos, classes or [()] * len(photos)))


async def _infer(
    settings: Settings, found: Artifact, photos: Sequence[bytes], classes: Sequence[tuple[int, ...]]
) -> list[Mapped]:
    transform = found.manifest.preprocessing.transform()
    engine = create_engine(settings, plan(settings), found, Metrics(), print)
    limits = Limits()

    async def one(data: bytes, wanted: tuple[int, ...]) -> Mapped:
        header = inspect(data, limits)
        kept: list[Image.Image] = []

        def decode() -> Prepared:
            kept.append(upright(data, header, limits))
            return squared(kept[0], header, transform)

        result = await engine.infer(decode, time.monotonic() + _PATIENCE_S, classes=wanted)
        maps = explain(result.output, found.labels, wanted, 5)
        return Mapped(kept[0], crop_box(kept[0].size, transform), maps)

    try:
        await engine.start()
        return await asyncio.gather(*map(one, photos, classes))
    finally:
        await engine.aclose()


def score(values: Float32, crop: CropBox, box: Box) -> Score:
    """Of a map (S, S) over ``crop``, beside ``box`` (x0, y0, x1, y1); both in pixels of the photo."""
    covered = _covered(values.shape[0], crop, box)
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    x = crop.x + (column + 0.5) * crop.width / values.shape[1]
    y = crop.y + (row + 0.5) * crop.height / values.shape[0]
    evidence = np.maximum(values, 0).astype(np.float64)
    inside = float((evidence * covered).sum() / max(evidence.sum(), 1e-12))
    return Score(box[0] <= x <= box[2] and box[1] <= y <= box[3], inside, float(covered.mean()))


def _covered(side: int, crop: CropBox, box: Box) -> NDArray[np.float64]:
    """Which share of each place (side, side) lies in ``box``."""
    shares = []
    for start, extent, low, high in (
        (crop.y, crop.height, box[1], box[3]),
        (crop.x, crop.width, box[0], box[2]),
    ):
        edges = start + np.arange(side + 1) * extent / side
        overlap = np.minimum(edges[1:], high) - np.maximum(edges[:-1], low)
        shares.append(np.maximum(overlap, 0) * side / extent)
    return np.outer(shares[0], shares[1])


@cache
def encoded(drawing: Drawing) -> bytes:
    buffer = io.BytesIO()
    drawing.draw().save(buffer, "PNG")
    return buffer.getvalue()


def measure_drawings() -> list[tuple[str, ClassMap, Score]]:
    """Name, map and score of each thing of each drawing."""
    classes = [tuple(thing.index for thing in drawing.things) for drawing in DRAWINGS]
    answers = infer([encoded(drawing) for drawing in DRAWINGS], classes)
    return [
        (drawing.name, shown, score(shown.values, answer.crop, thing.box))
        for drawing, answer in zip(DRAWINGS, answers, strict=True)
        for thing, shown in zip(drawing.things, answer.maps, strict=True)
    ]


def lines(measured: Sequence[tuple[str, ClassMap, Score]]) -> list[str]:
    table = ["| drawing | class | probability | strongest place in box | evidence in box | box of crop |"]
    table.append("|---|---|---|---|---|---|")
    for name, shown, found in measured:
        cells = (
            name.replace("_", " "),
            shown.label,
            f"{shown.probability:.1%}",
            "yes" if found.points else "no",
            f"{found.inside:.0%}",
            f"{found.box:.0%}",
        )
        table.append(f"| {' | '.join(cells)} |")
    scores = [found for _, _, found in measured]
    inside, box = np.mean([s.inside for s in scores]), np.mean([s.box for s in scores])
    points = f"{sum(s.points for s in scores)} of {len(scores)}"
    return [*table, f"| mean | | | {points} | {inside:.0%} | {box:.0%} |"]


def sheets(files: Sequence[Path]) -> list[Image.Image]:
    """Contact sheets of 20: each photo beside the map of its strongest class."""
    answers = infer([file.read_bytes() for file in files])
    pairs = [_pair(file.name, answer) for file, answer in zip(files, answers, strict=True)]
    return [_sheet(pairs[at : at + _PER_SHEET]) for at in range(0, len(pairs), _PER_SHEET)]


def _pair(name: str, answer: Mapped) -> Image.Image:
    strongest = answer.maps[0]
    pair = Image.new("RGB", (2 * _TILE[0] + 4, _TILE[1] + _CAPTION), "white")
    for number, picture in enumerate((answer.photo, answer.overlay(strongest))):
        tile = ImageOps.contain(picture, _TILE)
        pair.paste(tile, (number * (_TILE[0] + 4) + (_TILE[0] - tile.width) // 2, _CAPTION))
    text = f"{name[:44]}: {strongest.label} {strongest.probability:.0%}"
    ImageDraw.Draw(pair).text((4, 1), text, "black", font=ImageFont.load_default(14))
    return pair


def _sheet(pairs: Sequence[Image.Image]) -> Image.Image:
    columns = 4
    width, height = pairs[0].width + 12, pairs[0].height + 8
    sheet = Image.new("RGB", (columns * width, -(-len(pairs) // columns) * height), "white")
    for number, pair in enumerate(pairs):
        sheet.paste(pair, (number % columns * width, number // columns * height))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description="Do class maps lie on the object?")
    parser.add_argument("folder", nargs="?", type=Path, help="photos; without it our drawings are measured")
    parser.add_argument("--out", type=Path, help="where sheets of photos go")
    parser.add_argument("--most", type=int, default=40, help="photos, evenly out of the folder (40)")
    options = parser.parse_args()
    if options.folder is None:
        sys.stdout.write("\n".join(lines(measure_drawings())) + "\n")
        return
    if options.out is None:
        parser.error("--out is needed: sheets are for looking at")
    files = image_files(options.folder)
    step = max(1, len(files) // options.most)
    options.out.mkdir(parents=True, exist_ok=True)
    for number, sheet in enumerate(sheets(files[::step][: options.most]), start=1):
        path = options.out / f"maps-{number}.png"
        sheet.save(path)
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
