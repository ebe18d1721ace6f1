"""Draws the figures of ``docs/mobilenetv2.md`` and ``docs/explain.md`` into ``docs/figures``: ``make figures``.

Everything is computed here or by ``service/model/network.py``; those of ``draw_maps`` come from the network itself.
The output is deterministic: fixed seeds, no dates, so that a run without changes leaves the committed files as they
are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from numpy.typing import NDArray

from docs import draw_maps
from service.model import network as mobilenetv2

FIGURES = Path(__file__).parent / "figures"
BLUE, ORANGE, GREY, INK = "#2a6fbb", "#e08214", "#8a8f98", "#22252a"

#: The spiral's embeddings are one draw from this seed; nobody chose a pretty one.
SEED = 0
DIMENSIONS = (2, 3, 5, 15, 30)


def spiral(points: int = 600) -> NDArray[np.float64]:
    """Two and a half turns around the origin, (points, 2), radius up to 1."""
    angle = np.linspace(0, 5 * np.pi, points)
    points_2d: NDArray[np.float64] = (angle / angle[-1])[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return points_2d


def through_relu(x: NDArray[np.float64], n: int, rng: np.random.Generator) -> tuple[NDArray[np.float64], float]:
    """``x`` (points, 2) embedded in n dimensions by a random matrix, ReLU, back by the pseudo-inverse.

    Also the share of points of which ReLU leaves fewer than two coordinates: no function can recover those.
    """
    matrix = rng.normal(size=(2, n))
    activated = np.maximum(x @ matrix, 0)
    lost = float(((activated > 0).sum(axis=1) < 2).mean())
    return activated @ np.linalg.pinv(matrix), lost


def draw_information_loss() -> Figure:
    x = spiral()
    rng = np.random.default_rng(SEED)
    figure, axes = plt.subplots(1, 1 + len(DIMENSIONS), figsize=(11, 2.6), layout="constrained")
    _curve(axes[0], x)
    axes[0].set_title("input", fontsize=11)
    axes[0].set_xlabel("a spiral in 2-D", fontsize=9)
    for ax, n in zip(axes[1:], DIMENSIONS, strict=True):
        back, lost = through_relu(x, n, rng)
        _curve(ax, back)
        ax.set_title(f"n = {n}", fontsize=11)
        ax.set_xlabel(f"{lost:.0%} beyond recovery", fontsize=9, color=ORANGE if lost >= 0.005 else INK)
    return figure


def _curve(ax: Axes, points: NDArray[np.float64]) -> None:
    segments = np.stack([points[:-1], points[1:]], axis=1)
    lines = LineCollection(list(segments), cmap="viridis", linewidths=2.0, capstyle="round")
    lines.set_array(np.linspace(0, 1, len(segments)))
    lines.set_rasterized(True)  # 600 coloured pieces: pixels are smaller than paths
    ax.add_collection(lines)
    ax.plot(0, 0, "+", color=GREY, markersize=6, markeredgewidth=1)
    reach = 1.12 * float(np.abs(points).max())
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[], aspect="equal")
    for spine in ax.spines.values():
        spine.set_color("#c9ccd1")


def draw_bottlenecks() -> Figure:
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.1), layout="constrained")
    _block(
        axes[0],
        "Residual bottleneck (ResNet): wide – narrow – wide",
        [(256, BLUE), (64, BLUE), (64, BLUE), (256, BLUE)],
        ["1×1\nReLU", "3×3\nReLU", "1×1"],
        "shortcut joins the wide ends; ReLU after the sum",
    )
    _block(
        axes[1],
        "Inverted residual (MobileNetV2): narrow – wide – narrow",
        [(24, ORANGE), (144, BLUE), (144, BLUE), (24, ORANGE)],
        ["1×1\nReLU6", "3×3\ndepthwise\nReLU6", "1×1\nlinear"],
        "shortcut joins the narrow ends; no activation there",
    )
    handles = [Rectangle((0, 0), 1, 1, color=BLUE), Rectangle((0, 0), 1, 1, color=ORANGE)]
    names = ["tensor after ReLU or ReLU6", "linear bottleneck: nothing is cut off"]
    figure.legend(handles, names, loc="outside lower center", ncols=2, frameon=False, fontsize=10)
    return figure


def _block(ax: Axes, title: str, tensors: list[tuple[int, str]], steps: list[str], shortcut: str) -> None:
    """Four tensors, heights in proportion to their channels, and the operations between them."""
    widest = max(channels for channels, _ in tensors)
    half = [0.5 * channels / widest for channels, _ in tensors]
    for at, (channels, colour) in enumerate(tensors):
        ax.add_patch(Rectangle((at - 0.11, -half[at]), 0.22, 2 * half[at], facecolor=colour, edgecolor="none"))
        ax.text(at, -half[at] - 0.05, f"{channels}", ha="center", va="top", fontsize=11, color=INK)
    for at, step in enumerate(steps):
        ax.add_patch(_arrow((at + 0.15, 0), (at + 0.85, 0)))
        ax.text(at + 0.5, 0.05, step, ha="center", va="bottom", fontsize=9.5, color=INK, linespacing=1.2)
    ax.add_patch(_arrow((0, half[0] + 0.02), (3, half[-1] + 0.02), bend=-0.62 if half[0] < 0.4 else -0.17))
    ax.text(1.5, 1.05, shortcut, ha="center", va="bottom", fontsize=9.5, color=GREY)
    ax.set(xlim=(-0.45, 3.45), ylim=(-0.7, 1.2))
    ax.set_title(title, fontsize=11.5, color=INK, pad=8)
    ax.axis("off")


def _arrow(start: tuple[float, float], end: tuple[float, float], bend: float = 0.0) -> FancyArrowPatch:
    style = f"arc3,rad={bend}"
    return FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=12, connectionstyle=style, color=GREY, lw=1.4)


def stage_costs() -> list[tuple[str, int, int]]:
    """(name, multiply-adds at 224, learnt parameters) of the stem, each stage, the head and the classifier."""
    net = mobilenetv2.build()
    groups: list[tuple[str, list[mobilenetv2.Conv]]] = [("stem", [net.stem])]
    blocks = iter(net.blocks)
    for number, stage in enumerate(mobilenetv2.PAPER_STAGES, start=1):
        convs = [conv for _ in range(stage.n) for conv in next(blocks).convs]
        groups.append((f"stage {number}: {stage.n} × {stage.c}", convs))
    groups.append(("head", [net.head]))
    costs: list[tuple[str, int, int]] = []
    size = 224
    for name, convs in groups:
        multiply_adds = parameters = 0
        for conv in convs:
            multiply_adds += conv.multiply_adds(size)
            parameters += math.prod(conv.weight_shape) + 2 * conv.out_channels
            size = conv.output_size(size)
        costs.append((name, multiply_adds, parameters))
    weights = net.num_classes * net.embedding_dim
    return [*costs, ("classifier", weights, weights + net.num_classes)]


def draw_stage_costs() -> Figure:
    costs = stage_costs()
    names = [name for name, _, _ in costs]
    position = np.arange(len(costs))
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.7), sharey=True, layout="constrained")
    columns = (
        ("multiply-adds at 224 × 224, millions", [adds / 1e6 for _, adds, _ in costs], BLUE, "{:.1f}"),
        ("learnt parameters, thousands", [parameters / 1e3 for _, _, parameters in costs], ORANGE, "{:,.1f}"),
    )
    for ax, (title, values, colour, form) in zip(axes, columns, strict=True):
        bars = ax.barh(position, values, color=colour, height=0.72)
        ax.bar_label(bars, labels=[form.format(value) for value in values], padding=4, fontsize=9, color=INK)
        ax.set_title(f"{title} (total {form.format(sum(values))})", fontsize=11, color=INK)
        ax.set_xlim(0, 1.16 * max(values))
        ax.set_xticks([])
        ax.spines[["top", "right", "bottom"]].set_visible(False)
        ax.tick_params(left=False)
    axes[0].set_yticks(position, names)
    axes[0].invert_yaxis()
    return figure


DRAWINGS: dict[str, Callable[[], Figure]] = {
    "information_loss": draw_information_loss,
    "bottlenecks": draw_bottlenecks,
    "stage_costs": draw_stage_costs,
}


def main(directory: Path = FIGURES) -> None:
    mpl.rcParams.update({"svg.hashsalt": "mobilenet-service", "font.family": "DejaVu Sans", "font.size": 10})
    directory.mkdir(exist_ok=True)
    for name, draw in DRAWINGS.items():
        figure = draw()
        figure.savefig(directory / f"{name}.svg", metadata={"Date": None, "Creator": None}, facecolor="white", dpi=144)
        plt.close(figure)
    draw_maps.draw_all(directory)


if __name__ == "__main__":
    main()
