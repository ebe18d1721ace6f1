"""What reading and writing cost beside the engine: ``python -m benchmarks.bulk FOLDER``.

Rounds take turns: a loop that gives the photos of FOLDER, in memory, to an engine and keeps nothing, and the pipeline
of ``embed --format npy`` from the folder to shards, on the same engine.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

from service.bulk.results import Vectors, infer_with
from service.bulk.run import write_shards
from service.bulk.shards import Folder
from service.bulk.sources import Listing
from service.config import Settings
from service.engine.client import Decode
from service.image import Findings, inspect
from service.model.artifact import load
from service.serving.intake import Served
from service.serving.local import infer_locally, served_locally
from service.store.photos import image_files

#: Photos that the loop gives to the engine at once.
_AT_ONCE = 64


async def bare(served: Served, photos: list[bytes]) -> None:
    def source(data: bytes) -> Decode:
        return Decode(lambda: served.source(data, inspect(data, served.limits), Findings()).call())

    waiting: deque[asyncio.Task[object]] = deque()
    for data in photos:
        waiting.append(asyncio.create_task(infer_locally(served, source(data))))
        if len(waiting) == _AT_ONCE:
            await waiting.popleft()
    await asyncio.gather(*waiting)


async def piped(served: Served, names: list[str], shard_rows: int) -> None:
    kind = Vectors(served.artifact.network.embedding_dim, unit_length=True)
    with tempfile.TemporaryDirectory() as out, Listing(names, shard_rows, print) as listing:
        folder = Folder(Path(out), ".npy", kind, {})
        await write_shards(listing, folder, (0, 1), infer_with(served, kind), lambda result: None)


async def measure(options: argparse.Namespace) -> None:
    files = image_files(options.folder)
    files = (files * -(-options.photos // len(files)))[: options.photos]
    photos, names = [path.read_bytes() for path in files], [str(path) for path in files]
    settings = Settings(device="cpu")
    artifact = load(settings.model_store, settings.model, settings.version)
    rates: dict[str, list[float]] = {"engine": [], "bulk": []}
    async with served_locally(settings, artifact, sys.stderr.write, wide=False) as served:
        await bare(served, photos[:100])
        for _ in range(options.rounds):
            for name, work in (("engine", bare(served, photos)), ("bulk", piped(served, names, options.shard_rows))):
                began = time.monotonic()
                await work
                rates[name].append(len(photos) / (time.monotonic() - began))
    ratio = statistics.median(bulk / engine for engine, bulk in zip(*rates.values(), strict=True))
    sys.stdout.write(f"| round | {' | '.join(str(index + 1) for index in range(options.rounds))} | median |\n")
    sys.stdout.write(f"|---|{'---:|' * (options.rounds + 1)}\n")
    for name, values in rates.items():
        cells = " | ".join(f"{value:.1f}" for value in (*values, statistics.median(values)))
        sys.stdout.write(f"| {name}, images/s | {cells} |\n")
    sys.stdout.write(f"\nThe pipeline does {ratio:.3f} of the bare engine's rate.\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=2000, help="per round; those of the folder are repeated")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shard-rows", type=int, default=500)
    asyncio.run(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
