"""Part ``device``: images a second of the device alone, and the kernels of one forward pass.

Bare: graph launches on what lies on the device, nothing copied: its limit. Run: ``Lane.run``, with images gathered into
pinned memory and copied there, and answers back. Both with one lane and one thread, and with two.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from timeit import timeit
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.gpu import part
from benchmarks.gpu.part import Options, decide, say, say_head, say_row, say_table
from service.model.runtime import Images
from service.runtimes.torch.network import load_classifier
from service.runtimes.torch.replay import Lane
from service.runtimes.torch.runtime import check_device

_LANES = 2
_SECONDS = 0.3  # of each measurement
_WARM_UP_S = 0.1
#: Launches between two waits take at least this long, so that waiting does not count.
_LAUNCHES_S = 0.02
_TOP = 12


class Speed(NamedTuple):
    """Images a second with one lane, and with ``_LANES``."""

    bare: tuple[float, float]
    run: tuple[float, float]

    @property
    def share(self) -> float:
        """Of the device's limit that a runner gives."""
        return max(self.run) / max(self.bare)


def rate(works: Sequence[Callable[[], int]], seconds: float) -> float:
    """Images a second of a thread for each of ``works``, which return how many they have done."""

    def loop(work: Callable[[], int]) -> int:
        count = 0
        while time.perf_counter() < ends:
            count += work()
        return count

    with ThreadPoolExecutor(len(works)) as threads:
        started = time.perf_counter()
        ends = started + seconds
        count = sum(threads.map(loop, works))
        return count / (time.perf_counter() - started)


def launches(lane: Lane, size: int, times: int) -> int:
    """Forward passes of what lies in the bucket's buffers; how many images that were."""
    with torch.inference_mode(), lane.on_stream():
        for _ in range(times):
            lane.replays[size].launch()
        lane.wait()
    return size * times


def speed(lanes: Sequence[Lane], images: Images, seconds: float) -> Speed:
    """Of batches of ``images``, for which there is a bucket."""
    size, times = len(images), 1
    while times < 1000 and timeit(partial(launches, lanes[0], size, times), number=1) < _LAUNCHES_S:
        times *= 2
    bare = [partial(launches, lane, size, times) for lane in lanes]
    run = [partial(_run, lane, images) for lane in lanes]
    found = []
    for works in (bare, run):
        rate(works, min(seconds, _WARM_UP_S))
        found.append((rate(works[:1], seconds), rate(works, seconds)))
    return Speed(*found)


def _run(lane: Lane, images: Images) -> int:
    lane.run(images)
    return len(images)


def kernels(lane: Lane, size: int) -> dict[str, tuple[int, float]]:
    """Of one forward pass: count and microseconds by name, the longest first."""
    gpu = lane.device.type == "cuda"
    activity = torch.profiler.ProfilerActivity.CUDA if gpu else torch.profiler.ProfilerActivity.CPU
    launches(lane, size, 3)
    with torch.profiler.profile(activities=[activity]) as profiler:
        launches(lane, size, 1)
    counts: Counter[str] = Counter()
    spent: Counter[str] = Counter()
    for event in profiler.events() or ():
        # A kernel is an event of the device's; on the CPU an operator's own time stands for it.
        on_device = event.device_type.name == "CUDA"
        if on_device == gpu:
            name = short(event.name)
            counts[name] += 1
            spent[name] += event.time_range.elapsed_us() if gpu else event.self_cpu_time_total
    return {name: (counts[name], microseconds) for name, microseconds in spent.most_common()}


def short(name: str) -> str:
    """A kernel's name without types and template arguments, but with what tells elementwise kernels apart."""
    inner = re.search(r"(\w+Functor\w*|cutlass_tensorop\w+|clamp\w*|direct_copy\w*|\w+Ops|\w+_kernel_cuda)", name)
    base = re.sub(r"<.*|\(.*", "", name.replace("(anonymous namespace)::", "").removeprefix("void "))
    base = base.split("::")[-1][:70] or name[:70]
    return f"{base} [{inner[1][:60]}]" if inner and inner[1] not in base else base


def measure(options: Options, precision: str, sizes: Sequence[int]) -> list[Lane]:
    """Print the rows of one precision; returns the lanes."""
    device = check_device(options.device, precision)
    artifact = part.load_artifact()
    side = artifact.manifest.preprocessing.crop_size
    module = load_classifier(artifact, folded_to=precision).to(device)
    began = time.monotonic()
    lanes = [Lane(module, sizes, side, device) for _ in range(_LANES)]
    say(f"{precision}: {len(sizes)} buckets and {_LANES} lanes captured in {time.monotonic() - began:.1f} s.\n")
    pixels = np.random.default_rng(0).integers(0, 256, (max(sizes), side, side, 3), np.uint8)
    say_head("images/s", "batch", "bare", f"bare, {_LANES} lanes", "run", f"run, {_LANES} threads", "of the limit")
    for size in sizes:
        measured = speed(lanes, list(pixels[:size]), _SECONDS)
        rates = [f"{value:.0f}" for value in (*measured.bare, *measured.run)]
        say_row(precision, str(size), *rates, f"{measured.share:.0%}")
    say()
    return lanes


def main(options: Options, deadline: float) -> None:
    sizes = (1, 8, 64, 128) if options.gpu else (1, 8)
    lanes = measure(options, options.precision, sizes)
    by_kernel = kernels(lanes[0], sizes[-1])
    whole = sum(microseconds for _, microseconds in by_kernel.values())
    say(f"Kernels of one forward pass of {sizes[-1]} images in {options.precision}, {whole / 1e3:.2f} ms:\n")
    longest = list(by_kernel.items())[:_TOP]
    rows = [
        [f"`{name}`", str(count), f"{microseconds:.0f}", f"{microseconds / whole:.1%}"]
        for name, (count, microseconds) in longest
    ]
    say_table(["kernel", "times", "µs", "of the time"], rows)
    top = ", ".join(f"{name} {microseconds / whole:.0%}" for name, (_, microseconds) in longest[:3])
    decide(f"What takes a forward pass's time ({options.precision}, {sizes[-1]} images): {top}.")
    if options.gpu:
        del lanes
        measure(options, "fp32", sizes)


if __name__ == "__main__":
    part.run(main)
