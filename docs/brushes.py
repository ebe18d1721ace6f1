"""What ``docs/drawings.py`` draws with: shapes as polygons, colours with gradients, a canvas that smooths by averaging.

Coordinates are pixels of the finished picture, x to the right, y down. Everything is deterministic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageColor, ImageDraw, ImageFilter, ImageFont

Floats = NDArray[np.float64]
#: Polygons, each (n, 2), that are filled together.
Shape = list[Floats]
Point = tuple[float, float]
#: x0, y0, x1, y1 in pixels of the enlarged picture.
Area = tuple[int, int, int, int]


def polygon(points: Sequence[Point]) -> Shape:
    return [np.array(points, np.float64)]


def ellipse(at: Point, rx: float, ry: float | None = None) -> Shape:
    angle = np.linspace(0, 2 * np.pi, 181)
    return [np.stack([at[0] + rx * np.cos(angle), at[1] + (ry or rx) * np.sin(angle)], axis=1)]


def box(x0: float, y0: float, x1: float, y1: float, radius: float = 0.0) -> Shape:
    """A rectangle with round corners."""
    quarter = np.linspace(0, np.pi / 2, 17) if radius else np.zeros(1)
    corners = [
        (x1 - radius, y1 - radius),
        (x0 + radius, y1 - radius),
        (x0 + radius, y0 + radius),
        (x1 - radius, y0 + radius),
    ]
    arcs = [
        np.array(corner) + radius * np.stack([np.cos(quarter + turn), np.sin(quarter + turn)], axis=1)
        for corner, turn in zip(corners, np.arange(4) * np.pi / 2, strict=True)
    ]
    return [np.concatenate(arcs)]


def stroke(points: Sequence[Point] | Floats, width: float, end: float | None = None) -> Shape:
    """A line with round ends, ``width`` wide at its first point and ``end`` at its last."""
    line = np.asarray(points, np.float64)
    widths = np.linspace(width, width if end is None else end, len(line))
    shape: Shape = []
    for (a, b), (wide, narrow) in zip(pairwise(line), pairwise(widths), strict=True):
        along = (b - a) / max(float(np.hypot(*(b - a))), 1e-9)
        side = np.array([-along[1], along[0]]) / 2
        shape.append(np.array([a + side * wide, b + side * narrow, b - side * narrow, a - side * wide]))
    for point, wide in zip(line, widths, strict=True):
        shape += ellipse((point[0], point[1]), wide / 2)
    return shape


def curve(start: Point, bend: Point, end: Point, steps: int = 40) -> Floats:
    """A quadratic Bézier curve, (steps, 2)."""
    t = np.linspace(0, 1, steps)[:, None]
    points: Floats = (1 - t) ** 2 * np.array(start) + 2 * t * (1 - t) * np.array(bend) + t**2 * np.array(end)
    return points


def lens(start: Point, end: Point, width: float, tip: float = 1.0) -> Shape:
    """A leaf or petal from ``start`` to ``end``; with ``tip`` under 1 the widest place moves towards the end."""
    a, b = np.array(start), np.array(end)
    t = np.linspace(0, 1, 60)
    half = width / 2 * np.sin(np.pi * t ** (1 / tip)) ** 0.8
    side = np.array([a[1] - b[1], b[0] - a[0]]) / np.hypot(*(b - a))
    middle = a + t[:, None] * (b - a)
    return [np.concatenate([middle + half[:, None] * side, (middle - half[:, None] * side)[::-1]])]


def placed(shape: Shape, at: Point, turn: float = 0.0, scale: float = 1.0) -> Shape:
    """``shape``, drawn around the origin, turned by ``turn`` degrees, enlarged and moved to ``at``."""
    cos, sin = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    return [scale * part @ np.array([[cos, sin], [-sin, cos]]) + np.array(at) for part in shape]


@dataclass(frozen=True)
class Linear:
    """Colours from ``start`` to ``end``; #rrggbb or #rrggbbaa."""

    start: Point
    end: Point
    colours: tuple[str, ...]

    def position(self, x: Floats, y: Floats) -> Floats:
        dx, dy = self.end[0] - self.start[0], self.end[1] - self.start[1]
        at: Floats = ((x - self.start[0]) * dx + (y - self.start[1]) * dy) / (dx * dx + dy * dy)
        return at


@dataclass(frozen=True)
class Radial:
    """Colours from ``centre`` outward to ``radius``."""

    centre: Point
    radius: float
    colours: tuple[str, ...]

    def position(self, x: Floats, y: Floats) -> Floats:
        at: Floats = np.hypot(x - self.centre[0], y - self.centre[1]) / self.radius
        return at


Paint = str | Linear | Radial


class Canvas:
    """Painted at ``SCALE`` times the size and averaged at the end, so that edges are smooth."""

    SCALE = 3

    def __init__(self, width: int, height: int, paint: Paint) -> None:
        self.size = width, height
        self._image = Image.new("RGB", (width * self.SCALE, height * self.SCALE))
        self.fill(box(0, 0, width, height), paint)

    def fill(
        self, shape: Shape, paint: Paint, *, within: Shape | None = None, blur: float = 0.0, opacity: float = 1.0
    ) -> None:
        """Paint ``shape``, cut to ``within``; ``blur`` is the Gaussian's standard deviation."""
        area = self._area(shape, 3 * blur)
        if area is None:
            return
        mask = self._mask(shape, area)
        if blur:
            mask = mask.filter(ImageFilter.GaussianBlur(blur * self.SCALE))
        if within is not None:
            mask = ImageChops.multiply(mask, self._mask(within, area))
        tile = self._tile(paint, area)
        alpha = ImageChops.multiply(mask, tile.getchannel("A"))
        self._image.paste(tile.convert("RGB"), area, alpha.point([round(opacity * level) for level in range(256)]))

    def shadow(self, shape: Shape, by: Point, blur: float, opacity: float = 0.45, within: Shape | None = None) -> None:
        self.fill(placed(shape, by), "#000000", blur=blur, opacity=opacity, within=within)

    def soften(self, blur: float) -> None:
        """Put all that is there out of focus."""
        self._image = self._image.filter(ImageFilter.GaussianBlur(blur * self.SCALE))

    def grain(self, strength: float, size: Point = (1.0, 1.0), seed: int = 0, within: Shape | None = None) -> None:
        """Uneven brightness: noise of ``strength`` grey levels with spots of ``size`` pixels."""
        width, height = self._image.size
        spots = max(2, round(width / self.SCALE / size[0])), max(2, round(height / self.SCALE / size[1]))
        noise = np.random.default_rng(seed).normal(0, 1, (spots[1], spots[0])).astype(np.float32)
        rough = np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))
        change = strength * rough
        if within is not None:
            change = change * (np.asarray(self._mask(within, (0, 0, width, height)), np.float32) / 255)
        pixels = np.asarray(self._image, np.float32) + change[..., None]
        self._image = Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))

    def ball(self, at: Point, radius: float, colour: Callable[[Floats], Floats], light: Point = (-0.45, -0.6)) -> None:
        """A lit sphere; ``colour`` takes unit normals (n, 3), z towards the viewer, and gives RGB (n, 3) in 0..255."""
        around = np.linspace(-1, 1, int(2 * radius * self.SCALE))
        x, y = np.meshgrid(around, around)
        z = np.sqrt(np.maximum(1 - x**2 - y**2, 0))
        normals = np.stack([x, y, z], axis=-1).reshape(-1, 3)
        towards = np.array([*light, 0.8]) / np.linalg.norm([*light, 0.8])
        lit = np.clip(normals @ towards, 0, 1)
        shine = np.clip(2 * lit * normals[:, 2] - towards[2], 0, 1) ** 30
        pixels = colour(normals) * (0.38 + 0.68 * lit)[:, None] + 70 * shine[:, None]
        tile = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8).reshape(*x.shape, 3))
        corner = tuple(round((part - radius) * self.SCALE) for part in at)
        area = (corner[0], corner[1], corner[0] + tile.width, corner[1] + tile.height)
        self._image.paste(tile, area, self._mask(ellipse(at, radius - 0.5), area))

    def text(self, at: Point, text: str, size: float, colour: str) -> None:
        """Centred on ``at``, in the typeface that Pillow carries."""
        font = ImageFont.load_default(size * self.SCALE)
        place = at[0] * self.SCALE, at[1] * self.SCALE
        ImageDraw.Draw(self._image).text(place, text, colour, font=font, anchor="mm")

    def finish(self) -> Image.Image:
        return self._image.reduce(self.SCALE)

    def _area(self, shape: Shape, margin: float) -> Area | None:
        """What of the enlarged picture ``shape`` may touch."""
        points = np.concatenate(shape)
        low = np.floor((points.min(axis=0) - margin) * self.SCALE).astype(int) - 1
        high = np.ceil((points.max(axis=0) + margin) * self.SCALE).astype(int) + 2
        x0, y0 = (max(0, int(part)) for part in low)
        x1, y1 = (min(whole, int(part)) for whole, part in zip(self._image.size, high, strict=True))
        return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None

    def _mask(self, shape: Shape, area: Area) -> Image.Image:
        """255 inside ``shape``, of the part ``area``."""
        x0, y0, x1, y1 = area
        mask = Image.new("L", (x1 - x0, y1 - y0))
        draw = ImageDraw.Draw(mask)
        for part in shape:
            draw.polygon([(x, y) for x, y in part * self.SCALE - (x0, y0)], fill=255)
        return mask

    def _tile(self, paint: Paint, area: Area) -> Image.Image:
        x0, y0, x1, y1 = area
        if isinstance(paint, str):
            return Image.new("RGBA", (x1 - x0, y1 - y0), ImageColor.getcolor(paint, "RGBA"))
        x, y = np.meshgrid((np.arange(x0, x1) + 0.5) / self.SCALE, (np.arange(y0, y1) + 0.5) / self.SCALE)
        colours = np.array([ImageColor.getcolor(colour, "RGBA") for colour in paint.colours], np.float64)
        stops = np.linspace(0, 1, len(colours))
        position = paint.position(x, y)
        channels = [np.interp(position, stops, colours[:, channel]) for channel in range(4)]
        return Image.fromarray(np.rint(np.stack(channels, axis=-1)).astype(np.uint8), "RGBA")
