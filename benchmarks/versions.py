"""What visitors notice while versions are swapped: ``python -m benchmarks.versions FOLDER``.

An open loop of photos of FOLDER at a steady rate, first while nothing changes, then through promotions that alternate
between two versions, the default one and a copy of it whose logits are scaled. Each answer's status is counted.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.load import Sample, open_loop, requests
from benchmarks.photos import from_folder
from benchmarks.processes import Server, tree_memory
from service.config import Settings
from service.host.runtime_directory import sockets
from service.model.artifact import MANIFEST, WEIGHTS, FileDigest, load
from service.serving.admin import ask
from service.store.write import manifest_bytes, serialize

NAME = "mobilenet_v2"


def second_version(store: Path) -> None:
    """Version 2 beside version 1 in ``store``."""
    artifact = load(store, NAME, "1")
    weights = artifact.load_weights()
    for name in ("classifier.1.weight", "classifier.1.bias"):
        weights[name] = (weights[name] * np.float32(1.01)).astype(np.float32)
    data = serialize(weights)
    manifest = artifact.manifest.model_copy(update={"version": "2", "weights": FileDigest.of(data)})
    shutil.copytree(store / NAME / "1", store / NAME / "2")
    (store / NAME / "2" / WEIGHTS).write_bytes(data)
    (store / NAME / "2" / MANIFEST).write_bytes(manifest_bytes(manifest))


async def promote(path: Path, version: str) -> float:
    """Seconds until the verdict."""
    change = {"do": "change", "aliases": {NAME: {"stable": version}}}
    began = time.monotonic()
    verdict = await asyncio.to_thread(ask, path, change, 120.0)
    if not verdict["ok"]:
        raise RuntimeError(verdict["sentence"])
    return time.monotonic() - began


async def measure(options: argparse.Namespace, store: Path) -> None:
    arguments = ("--model-store", str(store), "--keep-previous", "0", "--workers", str(options.workers))
    with Server(*arguments) as server:
        (path,) = sockets(store)
        prepared = requests(server.url, "/classify", from_folder(options.folder))
        await open_loop(server.url, prepared, rate=options.rate, seconds=5)
        memory = [tree_memory(server.process.pid)]
        quiet = await open_loop(server.url, prepared, rate=options.rate, seconds=options.apart * options.promotions / 2)
        seconds: list[float] = []

        async def promotions() -> None:
            for number in range(options.promotions):
                seconds.append(await promote(path, "21"[number % 2]))
                memory.append(tree_memory(server.process.pid))
                await asyncio.sleep(options.apart)

        changing = asyncio.create_task(promotions())
        during: list[Sample] = []
        while not changing.done():
            during.append(await open_loop(server.url, prepared, rate=options.rate, seconds=10, seed=len(during)))
        await changing
    statuses = sum((sample.statuses for sample in during), start=quiet.statuses)
    latencies = [latency for sample in during for latency in sample.latencies]
    sys.stdout.write(
        f"{options.promotions} promotions at {options.rate:g} requests/s, {options.workers} workers: "
        f"{statuses.total()} requests, {statuses.total() - statuses[200]} not answered with 200\n"
    )
    for share in (50, 99):
        before, meanwhile = quiet.percentile(share) * 1e3, float(np.percentile(latencies, share)) * 1e3
        sys.stdout.write(f"p{share}: {before:.1f} ms quiet, {meanwhile:.1f} ms during, {meanwhile / before:.2f}×\n")
    sys.stdout.write(f"seconds until a verdict: median {statistics.median(seconds):.2f}, longest {max(seconds):.2f}\n")
    sys.stdout.write(f"memory: {memory[0]:.0f} MiB before, at most {max(memory):.0f} after a verdict\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rate", type=float, default=30.0, help="requests per second")
    parser.add_argument("--promotions", type=int, default=20)
    parser.add_argument("--apart", type=float, default=5.0, help="seconds between two of them")
    parser.add_argument("--workers", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder)
        shutil.copytree(Settings().model_store / NAME / "1", store / NAME / "1")
        second_version(store)
        asyncio.run(measure(options, store))


if __name__ == "__main__":
    main()
