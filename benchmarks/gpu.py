"""``python -m benchmarks.gpu``: are a device's answers right, how fast is it, and how much of that reaches clients?

Answers: photos on the device, in each precision, against torch on the CPU in fp32. Images a second by batch size: bare
(forward passes of what lies on the device, nothing copied: its own limit) and through ``TorchRuntime.run`` (images
gathered into pinned memory, copied there and back), by one thread and by two; of either the better counts. End to end:
tensors that are decoded already, through slots of worker processes, and JPEGs over HTTP. With ``--device cpu`` a smoke
test: bare is the eager module, and the figures say nothing. Prints Markdown; ``--save`` writes it to
``benchmarks/results/``.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import uvloop
from numpy.typing import NDArray
from service.runtimes.batch import concatenate

from benchmarks import decoded, load, photos
from benchmarks.processes import Server, environment
from benchmarks.report import RESULTS, bullets, say, table
from service.config import Settings
from service.errors import OperatorError
from service.host.cores import available_cores
from service.image import Limits, inspect, prepare
from service.model import artifact
from service.model.artifact import Artifact
from service.model.outputs import BatchOutputs
from service.model.runtime import Images, Runtime
from service.runtimes.torch.runtime import TorchRuntime

_RUNNERS = 2
_PHOTOS = 64
#: At once for each worker, over HTTP.
_CLIENTS = 32


class Accuracy(NamedTuple):
    """Against the reference, over all photos."""

    cosine: float  # of the embeddings, the least
    top1: float  # share with the same strongest class
    logits: float  # largest difference over the largest magnitude


class Speed(NamedTuple):
    """Images a second with one thread, and with ``_RUNNERS``."""

    bare: tuple[float, float]
    run: tuple[float, float]

    @property
    def share(self) -> float:
        """Of the device's limit that the runtime gives."""
        return max(self.run) / max(self.bare)


class Served(NamedTuple):
    """With so many worker processes."""

    decoded: float  # images a second
    http: load.Sample


def accuracy(actual: BatchOutputs, expected: BatchOutputs) -> Accuracy:
    products = (actual.embeddings * expected.embeddings).sum(axis=1)
    lengths = np.linalg.norm(actual.embeddings, axis=1) * np.linalg.norm(expected.embeddings, axis=1)
    return Accuracy(
        cosine=float((products / lengths).min()),
        top1=float((actual.top[:, 0] == expected.top[:, 0]).mean()),
        logits=float(np.abs(actual.logits - expected.logits).max() / np.abs(expected.logits).max()),
    )


def answers(runtime: Runtime, images: Images) -> BatchOutputs:
    """In batches of the largest size, and the rest."""
    size = runtime.max_batch
    return concatenate([runtime.run(images[at : at + size]) for at in range(0, len(images), size)])


def rate(work: Callable[[], int], threads: int, seconds: float) -> float:
    """Images a second of ``threads`` threads that call ``work``, which returns how many it has done."""

    def loop() -> int:
        count = 0
        while time.perf_counter() < ends:
            count += work()
        return count

    with ThreadPoolExecutor(threads) as members:
        started = time.perf_counter()
        ends = started + seconds
        loops = [members.submit(loop) for _ in range(threads)]
        count = sum(member.result() for member in loops)
        return count / (time.perf_counter() - started)


def speed(runtime: TorchRuntime, images: Images, seconds: float) -> Speed:
    """Of batches of ``images``."""
    size, times = len(images), 1
    # Enough launches a call that waiting for the last of them does not count.
    while times < 1000 and _replay_seconds(runtime, size, times) < 0.05:
        times *= 2

    def bare() -> int:
        runtime.replay(size, times)
        return size * times

    def run() -> int:
        runtime.run(images)
        return size

    run()
    one, several = ((rate(bare, threads, seconds), rate(run, threads, seconds)) for threads in (1, _RUNNERS))
    return Speed(bare=(one[0], several[0]), run=(one[1], several[1]))


def _replay_seconds(runtime: TorchRuntime, size: int, times: int) -> float:
    started = time.perf_counter()
    runtime.replay(size, times)
    return time.perf_counter() - started


def runtime_on(found: Artifact, device: str, precision: str, max_batch: int) -> TorchRuntime:
    """Raises OperatorError where the device has no such precision."""
    return TorchRuntime(
        found, device=device, precision=precision, runners=_RUNNERS, threads_per_runner=1, max_batch=max_batch
    )


def prepared(found: Artifact, jpegs: Sequence[bytes]) -> list[NDArray[np.uint8]]:
    """Each an array of its own, as they come from slots."""
    transform, limits = found.manifest.preprocessing.transform(), Limits()
    return [prepare(jpeg, inspect(jpeg, limits), transform, "exact", limits).image for jpeg in jpegs]


def on_device(
    found: Artifact,
    device: str,
    precisions: Sequence[str],
    images: Sequence[NDArray[np.uint8]],
    batches: Sequence[int],
    seconds: float,
) -> tuple[dict[str, Accuracy], dict[str, dict[int, Speed]]]:
    """Accuracy by precision, speed by precision and batch size, without those that the device does not have."""
    expected = answers(runtime_on(found, "cpu", "fp32", 8), images)
    accuracies: dict[str, Accuracy] = {}
    speeds: dict[str, dict[int, Speed]] = {}
    for precision in precisions:
        try:
            runtime = runtime_on(found, device, precision, max(batches))
        except OperatorError as reason:
            say(f"without {precision}: {reason}")
            continue
        accuracies[precision] = accuracy(answers(runtime, images), expected)
        speeds[precision] = {}
        for size in batches:
            if size <= runtime.max_batch:
                say(f"{precision}, batches of {size}")
                batch = [images[index % len(images)] for index in range(size)]
                speeds[precision][size] = speed(runtime, batch, seconds)
        runtime.close()
    return accuracies, speeds


def served(device: str, workers: Sequence[int], jpegs: Sequence[bytes], seconds: float) -> dict[int, Served]:
    """What reaches clients, in fp32, by number of workers."""
    rates: dict[int, float] = {}
    with decoded.engine(device, "fp32") as engine:
        for count in workers:
            say(f"decoded tensors, {count} workers")
            rates[count] = decoded.measure(engine, count, seconds)
    found = {}
    for count in workers:
        say(f"JPEGs over HTTP, {count} workers")
        with Server("--workers", str(count), "--devices", device, "--runtime", "torch") as server:
            requests = load.requests(server.url, "/classify", jpegs)
            uvloop.run(load.closed_loop(server.url, requests, concurrency=_CLIENTS * count, seconds=1))
            sample = uvloop.run(
                load.closed_loop(server.url, requests, concurrency=_CLIENTS * count, seconds=max(seconds, 2.0))
            )
        found[count] = Served(rates[count], sample)
    return found


def report(
    card: str,
    facts: dict[str, str],
    accuracies: dict[str, Accuracy],
    speeds: dict[str, dict[int, Speed]],
    reached: dict[int, Served],
) -> str:
    parts = [f"# {card}\n", "\n".join(bullets(facts)) + "\n"]
    head = ["against torch on the CPU, fp32", "least cosine of embeddings", "same top class", "logits, relative error"]
    parts.append(table(head, [_accuracy_row(precision, found) for precision, found in accuracies.items()]))
    head = ["images/s", "batch", "bare", f"bare, {_RUNNERS} lanes", "run", f"run, {_RUNNERS} runners", "of the limit"]
    rows = [_speed_row(name, size, found) for name, by_size in speeds.items() for size, found in by_size.items()]
    parts.append(table(head, rows))
    if reached:
        limit = max(max(found.bare) for found in speeds["fp32"].values())
        head = ["fp32 end to end: workers", "decoded, images/s", "of the limit", "JPEGs, requests/s", "of the limit"]
        rows = [_served_row(count, found, limit) for count, found in reached.items()]
        parts.append(table([*head, "p50", "p99", "not 200"], rows))
    return "\n".join(parts)


def _accuracy_row(precision: str, found: Accuracy) -> list[str]:
    return [precision, f"{found.cosine:.6f}", f"{found.top1:.1%}", f"{found.logits:.1e}"]


def _speed_row(precision: str, size: int, found: Speed) -> list[str]:
    return [precision, str(size), *(f"{value:.0f}" for value in (*found.bare, *found.run)), f"{found.share:.0%}"]


def _served_row(workers: int, found: Served, limit: float) -> list[str]:
    rates = [part for value in (found.decoded, found.http.rate) for part in (f"{value:.0f}", f"{value / limit:.0%}")]
    latencies = [f"{found.http.percentile(share) * 1e3:.1f} ms" for share in (50, 99)]
    return [str(workers), *rates, *latencies, str(len(found.http.refusals))]


def card_of(device: str) -> str:
    if device == "cpu":
        return environment(())["machine"]
    return torch.cuda.get_device_name(device)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--workers", help="numbers of worker processes; default 1,2,4,8,16 (cpu: 1); 0: not end to end")
    parser.add_argument("--images", type=Path, help="folder of JPEGs to use in place of synthetic 500×375 ones")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}/gpu-<card>.md")
    given = parser.parse_args()
    gpu = given.device != "cpu"
    precisions, batches = (("fp32", "bf16", "fp16"), (1, 2, 4, 8, 16, 32, 64, 128)) if gpu else (("fp32",), (1, 8))
    workers = [int(count) for count in (given.workers or ("1,2,4,8,16" if gpu else "1")).split(",")]

    settings = Settings()
    found = artifact.load(settings.model_store, settings.model, settings.version)
    card = card_of(given.device)
    jpegs = photos.from_folder(given.images, _PHOTOS) if given.images else photos.collection(photos.STANDARD, _PHOTOS)
    accuracies, speeds = on_device(found, given.device, precisions, prepared(found, jpegs), batches, given.seconds)
    reached = served(given.device, workers, jpegs, given.seconds) if any(workers) else {}

    facts = environment(("torch", "torchvision", "numpy"))
    facts["device"] = f"{card}, CUDA {torch.version.cuda}" if gpu else "the CPU: a smoke test, no figure of a GPU"
    facts["photos"] = f"{len(jpegs)}, {'given' if given.images else f'synthetic, {photos.STANDARD}'}"
    ceiling = uvloop.run(load.ceiling(load.requests("http://127.0.0.1:1", "/classify", jpegs)))
    facts["load generator"] = f"on the same {available_cores()} cores; it can ask {ceiling:.0f} requests/s"
    text = report(card, facts, accuracies, speeds, reached)
    if given.save:
        slug = re.sub(r"[^a-z0-9]+", "-", card.lower()).strip("-")
        (RESULTS / f"gpu-{slug}.md").write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
