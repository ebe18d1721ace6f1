"""Pictures that the network knows, drawn by code: ``python docs/drawings.py FOLDER`` writes them as PNG files.

Documents and screenshots need photos, and no photo of anybody's is in this repository. Each drawing knows the class
that the network should see in it and where it is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from docs.brushes import Canvas, Linear, box, curve, ellipse, lens, stroke
from docs.things import (
    football_leather,
    paint_clock,
    paint_daisy,
    paint_hot_air_balloon,
    paint_ladybug,
    paint_lantern,
    paint_lighthouse,
    paint_traffic_light,
)


@dataclass(frozen=True)
class Thing:
    """An object of a drawing."""

    index: int  # its ImageNet class
    label: str
    box: tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels of the drawing


@dataclass(frozen=True)
class Drawing:
    name: str
    draw: Callable[[], Image.Image]
    things: tuple[Thing, ...]  # the first is the strongest class


# Scenes


def meadow(width: int, height: int, seed: int) -> Canvas:
    """Leaves and light, out of focus."""
    canvas = Canvas(width, height, Linear((0, 0), (0.3 * width, height), ("#9cbf62", "#5d8f3a", "#24501f")))
    rng = np.random.default_rng(seed)
    for _ in range(46):
        at = (rng.uniform(0, width), rng.uniform(0, height))
        colour = ("#b9d56f", "#3f7a2c", "#1f4a1c", "#7fae48", "#d9e79a")[rng.integers(5)]
        canvas.fill(ellipse(at, rng.uniform(18, 70)), colour, opacity=0.45)
    canvas.soften(16)
    return canvas


def ladybug() -> Image.Image:
    canvas = meadow(640, 480, 5)
    leaf = lens((40, 420), (640, 120), 330)
    canvas.shadow(leaf, (8, 30), 22, 0.5)
    canvas.fill(leaf, Linear((200, 120), (430, 420), ("#a7d65a", "#6db33a", "#2f7a26")))
    canvas.fill(stroke([(40, 420), (640, 120)], 7, 2), "#c9e88d", within=leaf)
    for step in np.linspace(0.12, 0.85, 6):
        root = np.array([40 + 600 * step, 420 - 300 * step])
        for end in (root + np.array([90, -150]), root + np.array([150, 60])):
            vein = curve((root[0], root[1]), (root[0] + 70, (root[1] + end[1]) / 2), (end[0], end[1]))
            canvas.fill(stroke(vein, 2.6, 0.8), "#c2e384", within=leaf, opacity=0.35)
    paint_ladybug(canvas, (255, 300), 20, 0.9)
    canvas.grain(2.5, (1, 1), 9)
    return canvas.finish()


def daisy() -> Image.Image:
    canvas = meadow(560, 560, 8)
    stem = curve((220, 230), (250, 400), (330, 580))
    canvas.fill(stroke(stem, 13, 15), Linear((200, 0), (340, 0), ("#8fbf4a", "#3b6f24")))
    paint_daisy(canvas, (215, 225), 135)
    canvas.grain(2.5, (1, 1), 9)
    return canvas.finish()


def sky(width: int, height: int, seed: int) -> Canvas:
    canvas = Canvas(width, height, Linear((0, 0), (0, height), ("#2f77c4", "#6faee3", "#cfe6f5")))
    rng = np.random.default_rng(seed)
    for _ in range(5):
        x, y = rng.uniform(0, width), rng.uniform(0.1, 0.6) * height
        for _ in range(9):
            puff = ellipse((x + rng.normal(0, 42), y + rng.normal(0, 8)), rng.uniform(14, 40), rng.uniform(8, 18))
            canvas.fill(puff, "#ffffff", blur=9, opacity=0.5)
    return canvas


def hills(canvas: Canvas, horizon: float) -> None:
    width, height = canvas.size
    x = np.linspace(0, width, 80)
    for number, colour in enumerate(("#7c9aa5", "#5f8a5c", "#3f7136", "#2c5626")):
        top = horizon + 26 * number + (20 - 3 * number) * np.sin(x / (60 + 21 * number) + 1.7 * number)
        ridge = np.concatenate([np.stack([x, top], axis=1), [[width, height], [0, height]]])
        canvas.fill([ridge], Linear((0, horizon), (0, height), (colour, "#1f4420")), blur=1.2)


def balloon() -> Image.Image:
    canvas = sky(480, 640, 1)
    hills(canvas, 520)
    paint_hot_air_balloon(canvas, (305, 235), 100)
    canvas.grain(2.5, (1, 1), 9)
    return canvas.finish()


def clock() -> Image.Image:
    canvas = Canvas(640, 480, Linear((0, 0), (640, 480), ("#e6d6b8", "#d3bd95", "#a88d63")))
    canvas.grain(4, (3, 3), 1)
    canvas.grain(4, (60, 40), 2)
    canvas.fill(box(-5, 410, 645, 490), Linear((0, 410), (0, 480), ("#8b5a33", "#5a3518")))
    canvas.fill(box(-5, 404, 645, 412), "#b98654")
    paint_clock(canvas, (395, 190), 128)
    canvas.grain(2.5, (1, 1), 9)
    return canvas.finish()


def traffic_light() -> Image.Image:
    canvas = sky(480, 640, 4)
    rng = np.random.default_rng(12)
    for number in range(40):
        at = (rng.uniform(-20, 500), rng.uniform(470, 640))
        canvas.fill(ellipse(at, rng.uniform(20, 60)), ("#3d6a35", "#274d26", "#5c8a48")[number % 3], blur=9)
    canvas.fill(box(156, 400, 176, 660), Linear((156, 0), (176, 0), ("#4d5358", "#8d949a", "#3a3f43")))
    paint_traffic_light(canvas, (166, 275), 250)
    canvas.grain(2.5, (1, 1), 9)
    return canvas.finish()


def lantern() -> Image.Image:
    canvas = Canvas(640, 480, Linear((0, 0), (0, 480), ("#0b1026", "#1c1b3a", "#3a2340", "#24130f")))
    rng = np.random.default_rng(6)
    for _ in range(30):
        at = (rng.uniform(0, 640), rng.uniform(0, 250))
        canvas.fill(ellipse(at, rng.uniform(5, 16)), ("#ffb45a", "#ff8a3a", "#8a6ad8")[rng.integers(3)], opacity=0.22)
    canvas.soften(3)
    canvas.fill(box(-5, 372, 645, 485), Linear((0, 372), (0, 480), ("#5a3820", "#24120a")))
    for line in range(4):
        canvas.fill(box(-5, 372 + 27 * line, 645, 374 + 27 * line), "#1c0d06", opacity=0.5)
    canvas.fill(ellipse((385, 395), 220, 46), "#ff8a1c", blur=26, opacity=0.35)
    paint_lantern(canvas, (385, 285), 128)
    canvas.grain(2.5, (1, 1), 9)
    return canvas.finish()


def lighthouse() -> Image.Image:
    canvas = sky(480, 640, 14)
    canvas.fill(box(-5, 470, 485, 645), Linear((0, 470), (0, 640), ("#4f8fb0", "#1f5f86", "#123d5c")))
    rng = np.random.default_rng(4)
    for _ in range(160):
        x, y = rng.uniform(0, 480), rng.uniform(474, 640)
        canvas.fill(stroke([(x, y), (x + (y - 440) * 0.25, y)], 1.2), "#cfe6f0", opacity=0.35)
    along = np.linspace(150, 500, 60)
    ridge = 505 - 50 * np.sin(np.clip((along - 150) / 230, 0, 1) * np.pi / 2) + 3 * np.sin(along / 7)
    rock = [np.concatenate([np.stack([along, ridge], axis=1), [[500, 650], [110, 650]]])]
    canvas.fill(rock, Linear((0, 450), (0, 640), ("#7d8a4e", "#6a6152", "#38332c")))
    canvas.grain(9, (7, 5), 3, within=rock)
    paint_lighthouse(canvas, (322, 468), 340)
    canvas.grain(2.5, (1, 1), 9)
    return canvas.finish()


def football() -> Image.Image:
    canvas = Canvas(640, 480, Linear((0, 0), (0, 480), ("#9fcdf0", "#d9ecf4", "#79ad4c", "#4c8a2f", "#2f6a20")))
    canvas.soften(4)
    rng = np.random.default_rng(3)
    canvas.shadow(ellipse((290, 398), 130, 26), (0, 0), 14, 0.6)
    canvas.ball((270, 285), 118, football_leather)
    for number in range(2600):
        x, depth = rng.uniform(-10, 650), rng.uniform(0, 1) ** 0.7
        y = 250 + 240 * depth
        if abs(x - 270) < 125 and y < 392:
            continue
        colour = ("#3f8428", "#5fa53a", "#2c6a1e", "#86c255")[number % 4]
        tip = (x + rng.normal(0, 5), y - (8 + 26 * depth))
        canvas.fill(stroke([(x, y), tip], 1 + 2 * depth, 0.5), colour, opacity=0.9)
    canvas.grain(2.5, (1, 1), 9)
    return canvas.finish()


def ladybug_and_daisy() -> Image.Image:
    canvas = meadow(640, 480, 21)
    canvas.fill(stroke(curve((220, 200), (230, 360), (200, 500)), 11, 13), "#5a8f35")
    paint_daisy(canvas, (215, 190), 100, 5)
    leaf = lens((330, 470), (640, 190), 240)
    canvas.fill(leaf, Linear((400, 230), (560, 450), ("#9bcf52", "#4f9a30", "#27661f")))
    canvas.fill(stroke([(330, 470), (640, 190)], 5, 2), "#c9e88d", within=leaf)
    paint_ladybug(canvas, (432, 325), -40, 0.72)
    canvas.grain(2.5, (1, 1), 9)
    return canvas.finish()


DRAWINGS = (
    Drawing("ladybug", ladybug, (Thing(301, "ladybug", (134, 180, 355, 417)),)),
    Drawing("daisy", daisy, (Thing(985, "daisy", (82, 98, 342, 355)),)),
    Drawing("balloon", balloon, (Thing(417, "balloon", (205, 134, 405, 455)),)),
    Drawing("clock", clock, (Thing(892, "wall clock", (267, 62, 524, 318)),)),
    Drawing("traffic_light", traffic_light, (Thing(920, "traffic light", (116, 150, 217, 401)),)),
    Drawing("lantern", lantern, (Thing(607, "jack-o'-lantern", (239, 133, 531, 396)),)),
    Drawing("lighthouse", lighthouse, (Thing(437, "beacon", (271, 126, 374, 469)),)),
    Drawing("football", football, (Thing(805, "soccer ball", (152, 167, 388, 403)),)),
    Drawing(
        "ladybug_and_daisy",
        ladybug_and_daisy,
        (Thing(301, "ladybug", (332, 228, 526, 427)), Thing(985, "daisy", (122, 94, 314, 288))),
    ),
)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for drawing in DRAWINGS:
        drawing.draw().save(folder / f"{drawing.name}.png", optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
