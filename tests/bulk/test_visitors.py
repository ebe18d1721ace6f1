"""Bulk work by a running service: its visitors do not notice, and nearly all of it is used."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest

from benchmarks.load import closed_loop, requests
from service.model.artifact import Artifact
from tests import photos as photo_files
from tests.documents import ROOT
from tests.e2e.process import server

PHOTOS = 3000
#: Seconds between two questions of the visitor.
PAUSE_S = 0.25


def visit(client: httpx.Client, photo: bytes, goes_on: Callable[[], bool]) -> list[float]:
    """Seconds of each answer; a refusal would be an error."""
    seconds = []
    while goes_on():
        began = time.perf_counter()
        assert client.post("/classify", content=photo).status_code == 200
        seconds.append(time.perf_counter() - began)
        time.sleep(PAUSE_S)
    return seconds


@pytest.mark.torture
@pytest.mark.timeout(600)
def test_a_visitor_hardly_notices(real_artifact: Artifact, tmp_path: Path, report: Callable[[str], None]) -> None:
    """The figures are printed, for people: they depend on what else the machine does, and on the cores shared here."""
    bodies = photo_files.variations(photo_files.load(), 20)
    for number in range(PHOTOS):
        (tmp_path / f"{number:04}.jpg").write_bytes(bodies[number % len(bodies)])
    with server("--no-access-log") as running, httpx.Client(base_url=running.url, timeout=30) as client:
        asked = requests(running.url, "/embed", bodies, headers="Accept: application/octet-stream\r\n")
        before = asyncio.run(closed_loop(running.url, asked, concurrency=32, seconds=10)).rate
        quiet_ends = time.monotonic() + 30
        quiet = visit(client, bodies[0], lambda: time.monotonic() < quiet_ends)
        program = [sys.executable, "-m", "service", "embed", str(tmp_path), "--url", running.url]
        bulk = subprocess.Popen(
            [*program, "--out", str(tmp_path / "out"), "--format", "npy", "--shard-rows", "1000"],
            env={**os.environ, "PYTHONPATH": str(ROOT / "client")},
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        busy = visit(client, bodies[0], lambda: bulk.poll() is None)
        _, said = bulk.communicate()
        after = asyncio.run(closed_loop(running.url, asked, concurrency=32, seconds=10)).rate
    assert bulk.returncode == 0, said
    rates = re.findall(r"([\d.]+)/s", said)
    share = float(rates[-1]) / ((before + after) / 2)
    p50, p99 = (np.percentile(busy, percent) / np.percentile(quiet, percent) for percent in (50, 99))
    report(f"capacity used: {share:.2f}; visitor with bulk work over without: p50 {p50:.2f}, p99 {p99:.2f}")
