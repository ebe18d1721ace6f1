"""From the figures of ``bench`` to Markdown and plots."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

Figures = dict[str, Any]

RESULTS = Path(__file__).parent / "results"


def write(figures: Figures, folder: Path) -> str:
    """Write ``bench.md`` and the plots into ``folder``; returns the Markdown."""
    parts = [_head(figures), *(_closed(name, measured) for name, measured in figures["precisions"].items())]
    if fp32 := figures["precisions"].get("fp32"):
        parts += [_start(figures), _stages(fp32), _open(figures), _sizes(figures), _memory(figures)]
        from benchmarks import plots  # matplotlib, which no other benchmark's report needs

        plots.draw(figures, folder)
    text = "\n".join(parts)
    (folder / "bench.md").write_text(text)
    return text


def say(text: str) -> None:
    """Report progress on standard error."""
    sys.stderr.write(f"  {text}\n")


def bullets(facts: dict[str, str]) -> list[str]:
    return [f"* {name}: {value}" for name, value in facts.items()]


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def ms(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1e3:.1f} ms"


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.0f} ({min(values):.0f}–{max(values):.0f})"


def ratio(upper: list[float], lower: list[float]) -> float:
    """Median of the rounds' own ratios; the two values of a round are measured within seconds of each other."""
    return statistics.median(a / b for a, b in zip(upper, lower, strict=True))


def _head(figures: Figures) -> str:
    sizes = ", ".join(f"{size} {count / 1000:.0f} kB" for size, count in figures["photo_bytes"].items())
    return "\n".join(["# Benchmark", "", *bullets(figures["environment"] | {"JPEGs": sizes}), ""])


def _closed(precision: str, measured: Figures) -> str:
    rows = []
    for name, about in (
        ("plain", "plain loop: Pillow + OpenVINO THROUGHPUT, one thread per core, no HTTP"),
        ("own", "own loop: our preprocessing and runtime, one thread per core, no HTTP"),
        ("single", "one image at a time, on all cores, no HTTP"),
    ):
        p50 = ms(statistics.median(measured["single_p50"])) if name == "single" else ""
        rows.append([about, spread(measured["loops"][name]), p50, "", ""])
    for concurrency, rates in measured["served"].items():
        latency = measured["latency"][concurrency]
        rows.append([f"served, {concurrency} at once", spread(rates), *(ms(latency[p]) for p in ("50", "95", "99"))])
    served, loops = measured["served"][32], measured["loops"]
    ratios = (
        f"At 32 at once over the plain loop: {ratio(served, loops['plain']):.3f}; over our own loop: "
        f"{ratio(served, loops['own']):.3f}. "
        f"p50 at 1 over one image without HTTP: {ratio(measured['c1_p50'], measured['single_p50']):.2f}.\n"
    )
    head = f"## {precision}, exact, 500×375\n\n"
    cpu: dict[str, float] = measured["cpu"]
    used = {
        "own loop": cpu["own"],
        "server at 32 at once": cpu["event loop"] + cpu["runners"],
        "… of which its event loop": cpu["event loop"],
        "load generator beside it": cpu["load generator"],
    }
    by_process = table(["CPU time", "ms per image"], [[name, f"{used[name] * 1e3:.2f}"] for name in used])
    return "\n".join([head + table(["", "images/s", "p50", "p95", "p99"], rows), ratios, by_process])


def _start(figures: Figures) -> str:
    seconds = statistics.median(start["seconds"] for start in figures["start"])
    memory = max(start["memory"] for start in figures["start"])
    median = f"{seconds:.2f} s (median of {len(figures['start'])})"
    return f"Start to ready: {median}; resident memory then: {memory:.0f} MiB.\n"


def _stages(fp32: Figures) -> str:
    concurrencies = list(fp32["stages"])
    names = list(fp32["stages"][concurrencies[0]])
    rows = [[name, *(f"{fp32['stages'][c].get(name, 0.0):.2f}" for c in concurrencies)] for name in names]
    head = ["mean ms in stage", *(f"{c} at once" for c in concurrencies)]
    return "## Where a request's time goes (Server-Timing)\n\n" + table(head, rows)


def _open(figures: Figures) -> str:
    rows = [
        [f"{row['share']:.0%}", f"{row['offered']:.0f}", f"{row['answered']:.0f}", f"{row['refused']:.0f}",
         ms(row["p50"]), ms(row["p95"]), ms(row["p99"])]
        for row in figures["open"]
    ]  # fmt: skip
    head = ["of capacity", "offered/s", "answered/s", "refused", "p50", "p95", "p99"]
    return "## Open loop: Poisson arrivals, latency from when each was due\n\n" + table(head, rows)


def _sizes(figures: Figures) -> str:
    rows = [
        [size, *(f"{row[key]:.1f}" for key in ("own", "served", "own_fast", "served_fast")),
         f"{row['served_fast'] / row['served']:.1f}"]
        for size, row in figures["sizes"].items()
    ]  # fmt: skip
    head = ["JPEG", "own loop exact", "served exact", "own loop fast", "served fast", "fast over exact"]
    return "## Image sizes, images/s at 8 at once\n\n" + table(head, rows)


def _memory(figures: Figures) -> str:
    rows = [[str(count), f"{size:.0f}"] for count, size in figures["memory"]]
    rows.append(["… and photos of 12 megapixels, 8 at once", f"{figures['memory_after_sizes']:.0f}"])
    return "## Memory of the server\n\n" + table(["after requests", "resident MiB"], rows)
