"""Plots of the figures of ``bench`` and ``peers_bench``, as SVG."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

_COLOURS = {"read": "#7f8fa6", "decode": "#2e86de", "queue": "#c8d6e5", "infer": "#ee5253", "encode": "#10ac84"}


def style(salt: str) -> None:
    mpl.use("Agg")
    mpl.rcParams.update({"svg.hashsalt": salt, "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})


def save(figure: Figure, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def draw(figures: dict[str, Any], folder: Path) -> None:
    style("bench")
    _latency(figures, folder / "latency.svg")
    _stages(figures, folder / "stages.svg")


def _latency(figures: dict[str, Any], path: Path) -> None:
    figure = Figure(figsize=(6, 3.4))
    axes = figure.subplots()
    rows = figures["open"]
    answered = [row["answered"] for row in rows]
    for percentile, colour in (("p50", "#2e86de"), ("p95", "#ff9f43"), ("p99", "#ee5253")):
        axes.plot(answered, [row[percentile] * 1e3 for row in rows], "o-", color=colour, label=percentile)
    own = statistics.median(figures["precisions"]["fp32"]["loops"]["own"])
    axes.axvline(own, color="#576574", linestyle=":", label="own loop, no HTTP")
    axes.set(xlabel="requests answered per second", ylabel="latency from due time, ms", yscale="log")
    axes.set_title("Open loop: throughput against latency (fp32, exact, 500×375)", fontsize=9)
    axes.legend(frameon=False)
    save(figure, path)


def _stages(figures: dict[str, Any], path: Path) -> None:
    figure = Figure(figsize=(6, 2.6))
    axes = figure.subplots()
    stages = {at_once: row for at_once, row in figures["precisions"]["fp32"]["stages"].items() if int(at_once) <= 32}
    names = [f"{at_once} at once" for at_once in stages]
    left = [0.0] * len(names)
    for stage, colour in _COLOURS.items():
        widths = [row.get(stage, 0.0) for row in stages.values()]
        axes.barh(names, widths, left=left, color=colour, label=stage)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set(xlabel="mean milliseconds")
    figure.suptitle("Where a request's time goes (fp32, exact, 500×375)", fontsize=9)
    axes.legend(frameon=False, ncols=5, loc="lower left", bbox_to_anchor=(0, 1))
    save(figure, path)
