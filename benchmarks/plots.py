"""Plots of the figures of ``bench``, as SVG."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

_COLOURS = {"read": "#7f8fa6", "decode": "#2e86de", "queue": "#c8d6e5", "infer": "#ee5253", "encode": "#10ac84"}


def draw(figures: dict[str, Any], folder: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams.update({"svg.hashsalt": "bench", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    _latency(figures, folder / "latency.svg")
    _stages(figures, folder / "stages.svg")
    _batch_cost(figures, folder / "batch_cost.svg")


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def _latency(figures: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.4))
    axes = figure.subplots()
    rows = figures["open"]
    for percentile, colour in (("p50", "#2e86de"), ("p95", "#ff9f43"), ("p99", "#ee5253")):
        axes.plot(
            [r["answered"] for r in rows], [r[percentile] * 1e3 for r in rows], "o-", color=colour, label=percentile
        )
    own = statistics.median(figures["precisions"]["fp32"]["loops"]["own"])
    axes.axvline(own, color="#576574", linestyle=":", label="own loop, no HTTP")
    axes.set(xlabel="requests answered per second", ylabel="latency from due time, ms", yscale="log")
    axes.set_title("Open loop: throughput against latency (fp32, exact, 500×375)", fontsize=9)
    axes.legend(frameon=False)
    _save(figure, path)


def _stages(figures: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 2.6))
    axes = figure.subplots()
    stages = figures["precisions"]["fp32"]["stages"]
    names = [f"{concurrency} at once" for concurrency in stages if int(concurrency) <= 32]
    left = [0.0] * len(names)
    for stage, colour in _COLOURS.items():
        widths = [row.get(stage, 0.0) for concurrency, row in stages.items() if int(concurrency) <= 32]
        axes.barh(names, widths, left=left, color=colour, label=stage)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set(xlabel="mean milliseconds")
    figure.suptitle("Where a request's time goes (fp32, exact, 500×375)", fontsize=9)
    axes.legend(frameon=False, ncols=5, loc="lower left", bbox_to_anchor=(0, 1))
    _save(figure, path)


def _batch_cost(figures: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 2.8))
    axes = figure.subplots()
    sizes = [int(size) for size in figures["batch_cost"]]
    axes.plot(
        sizes, [1e3 * cost / size for size, cost in zip(sizes, figures["batch_cost"].values(), strict=True)], "o-"
    )
    axes.set(xlabel="images in a forward pass", ylabel="ms per image", ylim=(0, None), xscale="log")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_title("Batch-cost curve measured at warm-up", fontsize=9)
    _save(figure, path)
