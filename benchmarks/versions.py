"""What visitors notice while versions are swapped: ``python -m benchmarks.versions WHAT FOLDER``.

promotions   an open loop of photos of FOLDER at a steady rate, first while nothing changes, then through promotions
             that alternate between two versions, the default one and a copy of it; each answer's status is counted
rollback     how long the way back to a version takes that is still loaded
shadow       answers in time at three times the capacity, without a shadow and with one that repeats everything
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

from benchmarks.load import Sample, closed_loop, open_loop, requests
from benchmarks.load import ask as ask_service
from benchmarks.photos import from_folder
from benchmarks.processes import Server, tree_memory
from service.config import Settings
from service.host.runtime_directory import sockets
from service.model.artifact import MANIFEST, load
from service.serving.admin import ask
from service.store.write import manifest_bytes

NAME = "mobilenet_v2"


def second_version(store: Path) -> None:
    """A copy of version 1 in ``store``."""
    artifact = load(store, NAME, "1")
    shutil.copytree(store / NAME / "1", store / NAME / "2")
    manifest = artifact.manifest.model_copy(update={"version": "2"})
    (store / NAME / "2" / MANIFEST).write_bytes(manifest_bytes(manifest))


async def promote(path: Path, version: str, **others: object) -> float:
    """Seconds until the verdict."""
    change = {"do": "change", "aliases": {NAME: {"stable": version, **others}}}
    began = time.monotonic()
    verdict = await asyncio.to_thread(ask, path, change, 120.0)
    if not verdict["ok"]:
        raise RuntimeError(verdict["sentence"])
    return time.monotonic() - began


async def promotions(options: argparse.Namespace, store: Path) -> None:
    arguments = ("--model-store", str(store), "--keep-previous", "0", "--workers", str(options.workers))
    with Server(*arguments) as server:
        (path,) = sockets(store)
        prepared = requests(server.url, "/classify", from_folder(options.folder))
        await open_loop(server.url, prepared, rate=options.rate, seconds=5)
        memory = [tree_memory(server.process.pid)]
        quiet = await open_loop(server.url, prepared, rate=options.rate, seconds=options.apart * options.promotions / 2)
        seconds: list[float] = []

        async def change() -> None:
            for number in range(options.promotions):
                seconds.append(await promote(path, "21"[number % 2]))
                memory.append(tree_memory(server.process.pid))
                await asyncio.sleep(options.apart)

        changing = asyncio.create_task(change())
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


async def rollback(options: argparse.Namespace, store: Path) -> None:
    verdicts, answers = [], []
    with Server("--model-store", str(store)) as server:
        (path,) = sockets(store)
        (request,) = requests(server.url, "/classify", from_folder(options.folder)[:1])
        for _ in range(5):
            await promote(path, "2")
            began = time.monotonic()
            verdicts.append(await promote(path, "1"))
            assert b'"version":"1"' in (await ask_service(server.url, request)).body
            answers.append(time.monotonic() - began)
    sys.stdout.write(
        f"rollback to a version that is loaded: verdict after {statistics.median(verdicts) * 1e3:.1f} ms, first answer "
        f"of it after {statistics.median(answers) * 1e3:.1f} ms (medians of {len(answers)})\n"
    )


async def shadow(options: argparse.Namespace, store: Path) -> None:
    ratios = []
    with Server("--model-store", str(store)) as server:
        (path,) = sockets(store)
        prepared = requests(
            server.url, "/classify", from_folder(options.folder), headers="X-Request-Timeout-Ms: 1000\r\n"
        )
        capacity = (await closed_loop(server.url, prepared, concurrency=8, seconds=10)).rate
        for _ in range(3):
            rates = []
            for others in ({}, {"shadow": {"version": "2", "sample": 1.0}}):
                await promote(path, "1", **others)
                rates.append((await open_loop(server.url, prepared, rate=3 * capacity, seconds=20)).rate)
            ratios.append(rates[1] / rates[0])
        await asyncio.sleep(5)
        wanted = ("mobilenet_shadow_images_total{", "mobilenet_shadow_top1_agreement_total{")
        lines = [line for line in server.text("/metrics").splitlines() if line.startswith(wanted)]
    shown = ", ".join(f"{ratio:.3f}" for ratio in sorted(ratios))
    sys.stdout.write(f"answered in time at 3 × {capacity:.0f}/s, with a shadow over without: {shown}\n")
    sys.stdout.write("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["promotions", "rollback", "shadow"])
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
        asyncio.run({"promotions": promotions, "rollback": rollback, "shadow": shadow}[options.what](options, store))


if __name__ == "__main__":
    main()
