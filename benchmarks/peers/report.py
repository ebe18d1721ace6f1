"""Figures of ``make bench-peers`` as Markdown and a bar chart."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.report import bullets, ms, ratio, spread, table

Figures = dict[str, Any]

#: Concurrencies, as the keys they have in JSON.
AT_ONCE = ("1", "8", "32")


def write(figures: Figures, folder: Path) -> str:
    """Write ``peers.md``, ``peers.json`` and ``peers.svg`` into ``folder``; returns the Markdown."""
    figures = json.loads(json.dumps(figures))  # keys as they will be read again
    text = markdown(figures)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "peers.json").write_text(json.dumps(figures, indent=1) + "\n")
    (folder / "peers.md").write_text(text)
    draw(figures, folder / "peers.svg")
    return text


def markdown(figures: Figures) -> str:
    lines = [
        "# Other servers",
        "",
        *bullets(figures["environment"]),
        f"* {figures['rounds']} rounds, each: ours at 1, 8 and 32 at once, then the peer; {figures['seconds']:g} s "
        f"each, counted after {figures['lead']:g} s at full concurrency",
        "* rates and p50 are medians over rounds, with their range; p99 is of all rounds' answers together",
        "* ours ÷ peer: median of the rounds' own ratios, rate at 32 and p50 at 1",
        "* memory: of all its processes after the last round, resident; in brackets with shared pages counted once",
        "* how each is set up: benchmarks/peers/README.md",
        "",
    ]
    return "\n".join(lines) + "".join(
        f"\n## {precision}\n\n{_table(peers)}{_absent(peers)}" for precision, peers in figures["precisions"].items()
    )


def _table(peers: Figures) -> str:
    head = ["server", "1 at once, req/s", "p50", "8 at once", "32 at once", "p99", "not answered 200", "memory, MiB"]
    head += ["start, s", "ours ÷ peer: rate", "p50"]
    measured = _measured(peers)
    if not measured:
        return "Nothing was measured.\n"
    last = measured[-1]
    rows = [["**ours**", *_samples(_ours(measured)), f"{last['our_memory']:.0f}", f"{last['our_start']:.1f}", "", ""]]
    for peer in measured:
        ours, theirs = peer["ours"], peer["peer"]
        ratios = [_ratio(ours["32"]["rate"], theirs["32"]["rate"]), _ratio(ours["1"]["p50"], theirs["1"]["p50"])]
        memory = f"{peer['memory']:.0f} ({peer['memory_proportional']:.0f})"
        rows.append([f"{peer['title']} {peer['version']}", *_samples(theirs), memory, f"{peer['start']:.1f}", *ratios])
    return table(head, rows)


def _measured(peers: Figures) -> list[Figures]:
    return [peer for peer in peers.values() if "peer" in peer]


def _ours(measured: list[Figures]) -> Figures:
    """Our server over all peers' rounds."""
    merged: Figures = {}
    for at_once in AT_ONCE:
        samples = [peer["ours"][at_once] for peer in measured]
        merged[at_once] = {
            "rate": [rate for sample in samples for rate in sample["rate"]],
            "p50": [p50 for sample in samples for p50 in sample["p50"]],
            "p99": statistics.median(sample["p99"] for sample in samples),
            "errors": sum(sample["errors"] for sample in samples),
            "answers": sum(sample["answers"] for sample in samples),
        }
    return merged


def _samples(samples: Figures) -> list[str]:
    errors = sum(sample["errors"] for sample in samples.values())
    count = errors + sum(sample["answers"] for sample in samples.values())
    return [
        spread(samples["1"]["rate"]),
        ms(_median(samples["1"]["p50"])),
        spread(samples["8"]["rate"]),
        spread(samples["32"]["rate"]),
        ms(samples["32"]["p99"]),
        f"{errors} of {count}" if errors else "0",
    ]


def _absent(peers: Figures) -> str:
    absent = [f"* {peer['title']}: {peer['reason']}" for peer in peers.values() if "reason" in peer]
    return "\nNot measured:\n\n" + "\n".join(absent) + "\n" if absent else ""


def _median(values: list[float | None]) -> float | None:
    """None if a round had no answer."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if len(known) == len(values) else None


def _ratio(upper: list[float], lower: list[float]) -> str:
    return f"{ratio(upper, lower):.2f}" if all(upper) and all(lower) else "–"


def draw(figures: Figures, path: Path) -> None:
    """Bars of requests per second at 32 at once and of p50 at 1; one row of plots per precision."""
    from matplotlib.figure import Figure

    from benchmarks import plots

    plots.style("peers")
    by_precision = {precision: _measured(peers) for precision, peers in figures["precisions"].items()}
    shown = {precision: peers for precision, peers in by_precision.items() if peers}
    if not shown:
        return
    heights = [1 + len(peers) for peers in shown.values()]
    figure = Figure(figsize=(9, 0.6 * len(shown) + 0.3 * sum(heights)))
    grid = figure.subplots(len(shown), 2, squeeze=False, height_ratios=heights)
    for (rate_axes, latency_axes), (precision, peers) in zip(grid, shown.items(), strict=True):
        names = ["ours", *(peer["title"] for peer in peers)]
        samples = [_ours(peers), *(peer["peer"] for peer in peers)]
        rates = [statistics.median(sample["32"]["rate"]) for sample in samples]
        medians = [1e3 * (_median(sample["1"]["p50"]) or 0.0) for sample in samples]
        colours = ["#ee5253", *("#10ac84" if "our runtime" in name else "#2e86de" for name in names[1:])]
        _bars(rate_axes, names, rates, colours, "{:.0f}")
        _bars(latency_axes, names, medians, colours, "{:.1f}")
        rate_axes.set_title(f"{precision}: requests per second, 32 at once (more is better)", fontsize=9)
        latency_axes.set_title(f"{precision}: p50 in ms, 1 at once (less is better)", fontsize=9)
        latency_axes.set_yticklabels([])
    plots.save(figure, path)


def _bars(axes: Any, names: list[str], values: list[float], colours: list[str], form: str) -> None:
    bars = axes.barh(names, values, color=colours)
    axes.bar_label(bars, [form.format(value) for value in values], padding=3)
    axes.margins(x=0.12)
    axes.invert_yaxis()
