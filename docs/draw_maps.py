"""Draws the figures of ``docs/explain.md``: our drawings under the maps that the real network gives. Needs its weights.

The same machine draws the same files. On another CPU the last digits of the network's arithmetic differ, and with them
perhaps a few pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.maps import Mapped, encoded, infer
from docs.drawings import DRAWINGS
from service.http import overlay

WIDTH, GAP, LINE = 880, 8, 20
INK, QUIET = "#22252a", "#5b616b"

Captioned = tuple[Image.Image, str]


def draw_all(directory: Path) -> None:
    classes = [tuple(thing.index for thing in drawing.things) for drawing in DRAWINGS]
    answers = infer([encoded(drawing) for drawing in DRAWINGS], classes)
    by_name = {drawing.name: answer for drawing, answer in zip(DRAWINGS, answers, strict=True)}
    for number, names in enumerate(
        (("ladybug", "clock", "lantern", "football"), ("daisy", "balloon", "traffic_light", "lighthouse")), start=1
    ):
        chosen = [by_name[name] for name in names]
        photos = _row([(answer.photo, "") for answer in chosen])
        _save(_stack([photos, _row([_overlaid(answer, 0) for answer in chosen])]), directory / f"explain_{number}.jpg")
    two = by_name["ladybug_and_daisy"]
    row = _row([(two.photo, "one picture, two things"), _overlaid(two, 0), _overlaid(two, 1)])
    _save(row, directory / "explain_two.jpg")
    ladybug = by_name["ladybug"]
    cells = _row([(ladybug.photo, "the picture"), _numbered(ladybug), _overlaid(ladybug, 0)])
    _save(cells, directory / "explain_cells.jpg")


def _overlaid(answer: Mapped, number: int) -> Captioned:
    shown = answer.maps[number]
    return answer.overlay(shown), f"{shown.label}, {shown.probability:.0%}"


def _numbered(answer: Mapped) -> Captioned:
    """The map as it is: its numbers, each in its place."""
    shown, crop = answer.maps[0], answer.crop
    picture = Image.eval(answer.photo, lambda level: 140 + level * 115 // 255)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(19)
    side = shown.values.shape[0]
    levels = overlay.relief(shown.values)
    for row, column in np.ndindex(side, side):
        left, top = crop.x + column * crop.width / side, crop.y + row * crop.height / side
        right, bottom = left + crop.width / side, top + crop.height / side
        level = int(levels[row, column])
        fill = tuple(255 + (part - 255) * level // 255 for part in (222, 73, 104))
        draw.rectangle((left, top, right, bottom), fill=fill)
        draw.rectangle((left, top, right, bottom), outline="#e3e5e9")
        number = f"{round(float(shown.values[row, column]))}"  # a rounded -0.3 is 0, not -0
        draw.text(((left + right) / 2, (top + bottom) / 2), number, INK, font=font, anchor="mm")
    mean = float(shown.values.mean())
    return picture, f"mean {mean:.1f} + bias {shown.logit - mean:.1f} = logit {shown.logit:.1f}"


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
        draw.text((left + width / 2, height + LINE / 2), caption, QUIET, font=ImageFont.load_default(13), anchor="mm")
        left += width + GAP
    return row


def _stack(rows: Sequence[Image.Image]) -> Image.Image:
    stack = Image.new("RGB", (WIDTH, sum(row.height for row in rows) + GAP * (len(rows) - 1)), "white")
    top = 0
    for row in rows:
        stack.paste(row, (0, top))
        top += row.height + GAP
    return stack


def _save(picture: Image.Image, path: Path) -> None:
    picture.save(path, quality=77, optimize=True)
