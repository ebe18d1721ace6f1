"""The things of ``docs/drawings.py``, each painted around a point of a canvas."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from docs.brushes import Canvas, Floats, Linear, Point, Radial, box, curve, ellipse, lens, placed, polygon, stroke


def paint_ladybug(canvas: Canvas, at: Point, turn: float, scale: float) -> None:
    """Seen from above, 200 long before scaling, its head to the left."""

    def put(shape: list[Floats]) -> list[Floats]:
        return placed(shape, at, turn, scale)

    for side in (-1, 1):
        for x, reach in ((-48, -30), (-5, 0), (40, 28)):
            knee, foot = (x + reach * 0.5, side * 88), (x + reach * 1.3, side * 108)
            canvas.fill(put(stroke([(x, side * 60), knee, foot], 9, 4)), "#1b1512")
        feeler = curve((-95, side * 16), (-118, side * 22), (-124, side * 42))
        canvas.fill(put(stroke(feeler, 4, 5)), "#1b1512")
    shell, head = ellipse((10, 0), 92, 80), ellipse((-86, 0), 26, 36)
    canvas.shadow(put(shell), (10, 14), 9, 0.55)
    canvas.fill(put(head), "#15110f")
    neck = ellipse((-66, 0), 30, 58)
    canvas.fill(put(neck), "#1a1412")
    for side in (-1, 1):
        canvas.fill(put(ellipse((-72, side * 38), 14, 14)), "#f4efe2")
        canvas.fill(put(ellipse((-100, side * 14), 5, 6)), "#f4efe2")
    light = put(ellipse((-10, -30), 1))[0].mean(axis=0)
    red = Radial((light[0], light[1]), 118 * scale, ("#ff6a3c", "#e2260f", "#c01208", "#6d0703"))
    canvas.fill(put(shell), red)
    canvas.fill(put(stroke([(-76, 0), (102, 0)], 3.5)), "#2a0502", within=put(shell))
    spots = [(-62, 0, 17, 22), (-22, 42, 17, 15), (28, 26, 18, 16), (58, 54, 15, 12)]
    for x, y, rx, ry in spots:
        for side in (-1, 1):
            canvas.fill(put(ellipse((x, side * y), rx, ry)), "#140c0a", within=put(shell))
    canvas.fill(put(ellipse((-20, -34), 32, 13)), "#ffffff", blur=7 * scale, opacity=0.6)
    canvas.fill(put(ellipse((10, 0), 92, 80)), Linear(at, (at[0] + 60, at[1] + 80 * scale), ("#00000000", "#00000077")))


def paint_daisy(canvas: Canvas, at: Point, radius: float, seed: int = 3) -> None:
    rng = np.random.default_rng(seed)
    for layer, (count, reach) in enumerate(((21, 1.0), (17, 0.9))):
        for number in range(count):
            angle = 2 * np.pi * (number + 0.5 * layer) / count + rng.normal(0, 0.05)
            length = radius * reach * rng.uniform(0.93, 1.0)
            tip = (at[0] + length * np.cos(angle), at[1] + length * np.sin(angle))
            petal = lens(at, tip, radius * 0.27, 0.62)
            canvas.shadow(petal, (2, 3), 3, 0.3)
            canvas.fill(petal, Radial(at, radius, ("#c9cfc2", "#e4e8e2", "#fdfdfb", "#ffffff")))
            root = (at[0] + 0.3 * (tip[0] - at[0]), at[1] + 0.3 * (tip[1] - at[1]))
            canvas.fill(stroke([root, tip], 1.6), "#aab3ab", opacity=0.35, within=petal)
    middle = ellipse(at, radius * 0.3)
    canvas.shadow(middle, (2, 4), 5, 0.4)
    canvas.fill(
        middle, Radial((at[0] - radius * 0.08, at[1] - radius * 0.1), radius * 0.42, ("#ffe14a", "#f6b90f", "#b06c05"))
    )
    for number in range(420):  # florets in a spiral of golden angles
        r, angle = radius * 0.29 * np.sqrt(number / 420), number * 2.39996
        dot = (at[0] + r * np.cos(angle), at[1] + r * np.sin(angle))
        canvas.fill(ellipse((dot[0] + 0.8, dot[1] + 1), radius * 0.011), "#8d5303", opacity=0.55)
        canvas.fill(ellipse(dot, radius * 0.011), "#ffd83c")


def paint_hot_air_balloon(canvas: Canvas, at: Point, radius: float) -> None:
    """``at`` is the middle of the envelope."""
    v = np.linspace(0, 1, 80)
    y = at[1] - radius + v * radius * 2.45
    crown, skirt = np.sqrt(np.maximum(1 - (v / 0.45 - 1) ** 2, 0)), 1 - 0.86 * (np.maximum(v - 0.45, 0) / 0.55) ** 1.55
    half = np.where(v < 0.45, crown, skirt)
    colours = ("#d8222a", "#f7b512", "#1f5fae", "#f4efe6")
    edges = np.sin(np.linspace(-np.pi / 2, np.pi / 2, 13))
    for number, (left, right) in enumerate(pairwise(edges)):
        a = np.stack([at[0] + radius * half * left, y], axis=1)
        b = np.stack([at[0] + radius * half * right, y], axis=1)
        canvas.fill([np.concatenate([a, b[::-1]])], colours[number % 4])
        canvas.fill(stroke(a[::4], 0.8), "#3a1510", opacity=0.4)
    whole = [
        np.concatenate(
            [np.stack([at[0] - radius * half, y], axis=1), np.stack([at[0] + radius * half, y], axis=1)[::-1]]
        )
    ]
    for level in (0.3, 0.62):
        band = box(at[0] - radius, y[0] + radius * 2.45 * level, at[0] + radius, y[0] + radius * 2.45 * (level + 0.035))
        canvas.fill(band, "#7b0f18", within=whole, opacity=0.75)
    light = (at[0] - radius * 0.4, at[1] - radius * 0.45)
    canvas.fill(whole, Radial(light, radius * 1.9, ("#ffffff66", "#ffffff11", "#00000022", "#00000099")))
    mouth, floor = y[-1], y[-1] + radius * 0.5
    for side in (-0.14, -0.06, 0.06, 0.14):
        canvas.fill(stroke([(at[0] + radius * side, mouth), (at[0] + radius * side * 0.9, floor)], 1.4), "#3b2c20")
    basket = box(at[0] - radius * 0.15, floor, at[0] + radius * 0.15, floor + radius * 0.24, 3)
    canvas.fill(
        basket, Linear((at[0] - radius * 0.15, 0), (at[0] + radius * 0.15, 0), ("#a8713a", "#7a4a20", "#4a2a10"))
    )
    for row in range(5):
        level = floor + radius * (0.03 + 0.045 * row)
        canvas.fill(stroke([(at[0] - radius * 0.15, level), (at[0] + radius * 0.15, level)], 1), "#3b2210", opacity=0.6)


def paint_clock(canvas: Canvas, at: Point, radius: float) -> None:
    rim, face = ellipse(at, radius), ellipse(at, radius * 0.88)
    canvas.shadow(rim, (9, 14), 12, 0.45)
    a, b = (at[0] - radius, at[1] - radius), (at[0] + radius, at[1] + radius)
    canvas.fill(rim, Linear(a, b, ("#6a7078", "#2a2e34", "#15171a", "#454b53")))
    canvas.fill(ellipse(at, radius * 0.91), Linear(a, b, ("#121416", "#3a3f45", "#8a9098")))
    canvas.fill(
        face, Radial((at[0] - radius * 0.2, at[1] - radius * 0.3), radius * 1.4, ("#ffffff", "#faf8f2", "#dcd8cd"))
    )
    for minute in range(60):
        hour = minute % 5 == 0
        across = np.array([np.sin(minute * np.pi / 30), -np.cos(minute * np.pi / 30)])
        line = np.stack([np.array(at) + radius * part * across for part in (0.77 if hour else 0.8, 0.84)])
        canvas.fill(stroke(line, radius * (0.022 if hour else 0.009)), "#17181a")
        if hour:
            number = np.array(at) + radius * 0.64 * across
            canvas.text((number[0], number[1]), str(minute // 5 or 12), radius * 0.19, "#17181a")
    for turn, length, width in ((304.5, 0.46, 0.05), (54, 0.7, 0.034)):
        hand = placed(
            stroke([(0, radius * 0.12), (0, -radius * length)], radius * width, radius * width * 0.6), at, turn
        )
        canvas.shadow(hand, (3, 5), 3, 0.35, within=face)
        canvas.fill(hand, "#17181a")
    second = placed(stroke([(0, radius * 0.18), (0, -radius * 0.76)], radius * 0.014), at, 200)
    canvas.fill(second, "#c8201c")
    canvas.fill(ellipse(at, radius * 0.045), "#c8201c")
    glass = lens(
        (at[0] - radius * 0.7, at[1] - radius * 0.05), (at[0] + radius * 0.05, at[1] - radius * 0.7), radius * 0.3
    )
    canvas.fill(glass, "#ffffff", blur=6, opacity=0.35, within=face)


def football_leather(normals: Floats) -> Floats:
    """A football: the normals nearest to a corner of an icosahedron are black, seams are grey."""
    golden = (1 + 5**0.5) / 2
    corners = np.array([[0, a, b * golden] for a in (-1, 1) for b in (-1, 1)], np.float64)
    pentagons = np.concatenate([np.roll(corners, shift, axis=1) for shift in range(3)])
    cube = np.array([[a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)], np.float64)
    others = np.array([[0, a / golden, b * golden] for a in (-1, 1) for b in (-1, 1)], np.float64)
    others = others[:, [0, 2, 1]]
    hexagons = np.concatenate([cube, *(np.roll(others, shift, axis=1) for shift in range(3))])
    centres = np.concatenate([pentagons / np.linalg.norm(pentagons, axis=1)[:, None], hexagons / 3**0.5])
    turn = np.array([[0.88, 0.33, 0.34], [-0.41, 0.89, 0.2], [-0.24, -0.31, 0.92]])
    near = normals @ np.linalg.qr(turn)[0] @ centres.T
    near[:, :12] -= 0.012  # a pentagon is smaller than a hexagon
    order = np.sort(near, axis=1)
    colour = np.where((near.argmax(axis=1) < 12)[:, None], 26.0, 246.0) * np.ones(3)
    seam = order[:, -1] - order[:, -2] < 0.014
    colour[seam] = 96
    return colour


def paint_traffic_light(canvas: Canvas, at: Point, height: float) -> None:
    """``at`` is the middle of its three lamps; red is lit."""
    unit = height / 300
    x, radius = at[0], 40 * unit
    plate = box(x - 60 * unit, at[1] - height / 2, x + 60 * unit, at[1] + height / 2, 22 * unit)
    canvas.shadow(plate, (6, 8), 8, 0.4)
    canvas.fill(plate, Linear((x - 60 * unit, 0), (x + 60 * unit, 0), ("#2b2f31", "#1a1d1f", "#0c0d0e")))
    canvas.fill(box(x - 51 * unit, at[1] - 142 * unit, x + 51 * unit, at[1] + 142 * unit, 14 * unit), "#f2b61c")
    canvas.fill(box(x - 48 * unit, at[1] - 139 * unit, x + 48 * unit, at[1] + 139 * unit, 12 * unit), "#17191b")
    lamps = (
        (-92, ("#fff3dc", "#ff7a55", "#ff2a1a", "#d01208")),
        (0, ("#8a6a12", "#5c440a", "#2a1f05")),
        (92, ("#1c6a3c", "#0e4325", "#062112")),
    )
    for offset, colours in lamps:
        y = at[1] + offset * unit
        canvas.fill(ellipse((x, y), radius * 1.08), "#050606")
        canvas.fill(ellipse((x, y), radius), Radial((x - 6 * unit, y - 8 * unit), radius * 1.25, colours))
        upper, lower = (
            ellipse((x, y - 2 * unit), radius * 1.16)[0][90:],
            ellipse((x, y + 16 * unit), radius * 1.1)[0][90:],
        )
        hood = [np.concatenate([upper, lower[::-1]])]
        canvas.fill(hood, Linear((0, y - radius), (0, y), ("#3d4245", "#070808")))
    canvas.fill(ellipse((x, at[1] - 88 * unit), radius * 1.5), "#ff3a20", blur=24 * unit, opacity=0.4)


def paint_lantern(canvas: Canvas, at: Point, radius: float) -> None:
    """A pumpkin with a face, lit from inside."""
    canvas.shadow(ellipse((at[0], at[1] + radius * 0.78), radius * 1.1, radius * 0.16), (0, 0), 10, 0.8)
    for across in (-0.78, 0.78, -0.52, 0.52, -0.26, 0.26, 0.0):
        lobe = ellipse((at[0] + radius * across * 0.86, at[1]), radius * 0.46, radius * (0.86 - 0.12 * abs(across)))
        light = (at[0] + radius * (across * 0.86 - 0.06), at[1] - radius * 0.35)
        canvas.fill(lobe, Radial(light, radius * 1.15, ("#ff9c33", "#f27a12", "#c4500a", "#4a1a04")))
        canvas.fill(stroke(np.concatenate(lobe)[::3], 1.2), "#5a2206", opacity=0.35)
    stem = stroke(
        curve(
            (at[0], at[1] - radius * 0.78), (at[0] - 4, at[1] - radius), (at[0] + radius * 0.2, at[1] - radius * 1.12)
        ),
        radius * 0.2,
        radius * 0.12,
    )
    canvas.fill(stem, Linear((at[0] - 20, 0), (at[0] + 30, 0), ("#6d7a2c", "#2f3a14")))

    def cut(points: list[Point]) -> list[Floats]:
        return placed(polygon(points), at, 0, radius)

    teeth = [
        (-0.62, 0.18),
        (-0.36, 0.3),
        (-0.34, 0.42),
        (-0.18, 0.44),
        (-0.16, 0.34),
        (0.16, 0.34),
        (0.18, 0.44),
        (0.34, 0.42),
    ]
    teeth += [
        (0.36, 0.3),
        (0.62, 0.18),
        (0.5, 0.46),
        (0.28, 0.6),
        (0.12, 0.63),
        (0.1, 0.53),
        (-0.1, 0.53),
        (-0.12, 0.63),
    ]
    teeth += [(-0.28, 0.6), (-0.5, 0.46)]
    eyes = [cut([(s * 0.14, -0.12), (s * 0.52, -0.1), (s * 0.34, -0.46)]) for s in (-1, 1)]
    glow = Radial((at[0], at[1] + radius * 0.3), radius * 0.95, ("#fff7b8", "#ffd84a", "#ff9a1c", "#d85a08"))
    for hole in (*eyes, cut([(-0.1, 0.16), (0.1, 0.16), (0, -0.04)]), cut(teeth)):
        canvas.fill(hole, "#ffb02a", blur=radius * 0.07, opacity=0.8)
        canvas.fill(placed(hole, (-2.5, -2.5)), "#8a3a06")
        canvas.fill(hole, glow)


def paint_lighthouse(canvas: Canvas, foot: Point, height: float) -> None:
    """``foot`` is the middle of the tower's base."""
    x, y = foot
    low, high, top = 0.15 * height, 0.09 * height, y - 0.78 * height
    tower = polygon([(x - low, y), (x + low, y), (x + high, top), (x - high, top)])
    canvas.fill(tower, "#f6f3ec")
    for band in (0.13, 0.4, 0.67):
        level = y - band * 0.78 * height
        canvas.fill(box(x - low, level - 0.108 * height, x + low, level), "#c8242b", within=tower)
    canvas.fill(tower, Linear((x - low, 0), (x + low, 0), ("#ffffff22", "#00000000", "#00000022", "#00000088")))
    for part in (0.28, 0.56):
        canvas.fill(box(x - 5, y - part * height - 14, x + 5, y - part * height, 4), "#26313c")
    canvas.fill(box(x - high * 1.45, top - 8, x + high * 1.45, top + 2), "#2a2f36")
    for post in np.linspace(-1.4, 1.4, 9):
        canvas.fill(stroke([(x + high * post, top - 8), (x + high * post, top - 24)], 1.6), "#2a2f36")
    canvas.fill(stroke([(x - high * 1.4, top - 24), (x + high * 1.4, top - 24)], 2), "#2a2f36")
    room = box(x - high * 0.75, top - 0.13 * height, x + high * 0.75, top - 6)
    canvas.fill(room, Radial((x, top - 0.065 * height), high, ("#fffbe0", "#ffe48a", "#8a7a4a")))
    for bar in np.linspace(-0.75, 0.75, 5):
        canvas.fill(stroke([(x + high * bar, top - 6), (x + high * bar, top - 0.13 * height)], 2), "#2a2f36")
    roof = [np.concatenate([ellipse((x, top - 0.13 * height), high * 0.98, high * 0.72)[0][90:]])]
    canvas.fill(roof, Linear((x - high, 0), (x + high, 0), ("#d8383c", "#8a1218")))
    canvas.fill(stroke([(x, top - 0.13 * height - high * 0.6), (x, top - 0.22 * height)], 2.4), "#2a2f36")
    canvas.fill(ellipse((x, top - 0.065 * height), high * 1.6), "#fff2b0", blur=14, opacity=0.45)
