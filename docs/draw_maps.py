"""Draws the figures of ``docs/explain.md``: the photos of ``docs/photos`` and the maps that the service gives of them.

The same machine draws the same files. On another CPU the last digits of the network's arithmetic differ, and with them
perhaps a few pixels.
"""

from __future__ import annotations

import io
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.maps import explain
from benchmarks.processes import Server

PHOTOS = Path(__file__).parent / "photos"
WIDTH, GAP, LINE = 1200, 10, 28
INK, QUIET = "#22252a", "#5b616b"
CRASH_HELMET, SPACE_SHUTTLE = 518, 812

Captioned = tuple[Image.Image, str]


def draw_all(directory: Path) -> None:
    with Server() as server:
        url = server.url
        names = ("cat", "coffee", "rocket", "photographer")
        _save([[_photo(name) for name in names], [_map(url, name) for name in names]], directory / "explain_photos.jpg")
        photo, drawn = _photo("photographer", "the photo"), _map(url, "photographer")
        _save([[photo, _numbers(url, "photographer"), drawn]], directory / "explain_cells.jpg")
        asked = [_map(url, "astronaut", f"class={index}") for index in (CRASH_HELMET, SPACE_SHUTTLE)]
        _save([[_photo("astronaut", "the photo"), *asked]], directory / "explain_asked.jpg")


def _read(name: str) -> bytes:
    return (PHOTOS / f"{name}.jpg").read_bytes()


def _photo(name: str, caption: str = "") -> Captioned:
    return Image.open(io.BytesIO(_read(name))).convert("RGB"), caption


def _map(url: str, name: str, query: str = "top_k=1") -> Captioned:
    """One class's map over the photo, as the service draws it."""
    (shown,) = explain(url, _read(name), query)["maps"]
    request = urllib.request.Request(f"{url}/explain?{query}", _read(name), {"Accept": "image/png"})
    with urllib.request.urlopen(request) as answer:
        picture = Image.open(io.BytesIO(answer.read()))
    return picture, f"{shown['label']}, {100 * shown['probability']:.2g}%"


def _numbers(url: str, name: str) -> Captioned:
    """The map's numbers, each in its place over the faded photo."""
    answer = explain(url, _read(name), "top_k=1")
    (shown,), crop = answer["maps"], answer["crop"]
    values = np.array(shown["map"])
    picture = Image.eval(_photo(name)[0], lambda level: 140 + level * 115 // 255)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(19)
    height, width = crop["height"] / values.shape[0], crop["width"] / values.shape[1]
    for row, column in np.ndindex(values.shape):
        left, top = crop["x"] + column * width, crop["y"] + row * height
        strength = max(float(values[row, column] / values.max()), 0)
        fill = tuple(round(255 - (255 - part) * strength) for part in (222, 73, 104))
        draw.rectangle((left, top, left + width, top + height), fill=fill, outline="#e3e5e9")
        number = f"{round(float(values[row, column]))}"  # a rounded -0.3 is 0, not -0
        draw.text((left + width / 2, top + height / 2), number, INK, font=font, anchor="mm")
    mean = float(values.mean())
    return picture, f"mean {mean:.1f} + bias {shown['logit'] - mean:.1f} = logit {shown['logit']:.1f}"


def _save(rows: Sequence[Sequence[Captioned]], path: Path) -> None:
    """One picture of ``rows``, one below the other."""
    drawn = [_row(row) for row in rows]
    whole = Image.new("RGB", (WIDTH, sum(row.height + GAP for row in drawn) - GAP), "white")
    top = 0
    for row in drawn:
        whole.paste(row, (0, top))
        top += row.height + GAP
    whole.save(path, quality=82, optimize=True)


def _row(pictures: Sequence[Captioned]) -> Image.Image:
    """Side by side at one height, WIDTH in all."""
    shapes = [picture.width / picture.height for picture, _ in pictures]
    height = int((WIDTH - GAP * (len(pictures) - 1)) / sum(shapes))
    captioned = any(caption for _, caption in pictures)
    row = Image.new("RGB", (WIDTH, height + (LINE if captioned else 0)), "white")
    draw, left = ImageDraw.Draw(row), 0
    for (picture, caption), shape in zip(pictures, shapes, strict=True):
        width = int(height * shape)
        row.paste(picture.resize((width, height), Image.Resampling.LANCZOS), (left, 0))
        draw.text((left + width / 2, height + LINE / 2), caption, QUIET, font=ImageFont.load_default(18), anchor="mm")
        left += width + GAP
    return row
