"""Disks that are full or read-only, for real, and pulls that are killed: what is left, and does the next one work?"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from service.errors import PullError
from service.model import artifact
from service.store.catalog import list_models
from service.store.pull import pull
from tests.disks import Disk, disk
from tests.e2e.process import server
from tests.hostile.conftest import RecordFigure
from tests.hostile.faults.faulty import GOOD
from tests.running import png
from tests.store.conftest import Published, litter, nothing_was_stored, pth, published, store
from tests.waiting import until

__all__ = ["disk", "pth", "published", "store"]  # fixtures; the model is published by a server of the test's own


@pytest.fixture
def store_on_disk(disk: Disk, store: Path) -> Path:
    shutil.copytree(store, disk.path / "store")
    return disk.path / "store"


def command(action: str, store: Path) -> list[str]:
    return [sys.executable, "-m", "service", "models", action, "tiny/1", "--model-store", str(store)]


def run(action: str, store: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(action, store), capture_output=True, text=True, check=False)


def test_a_full_disk_during_the_download(disk: Disk, store_on_disk: Path) -> None:
    disk.fill()
    failed = run("pull", store_on_disk)
    assert failed.returncode == 1
    assert f"error: tiny/1: the disk of {store_on_disk} is full (No space left on device)" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert nothing_was_stored(store_on_disk)
    disk.empty()
    assert run("pull", store_on_disk).returncode == 0
    assert run("verify", store_on_disk).returncode == 0


def test_a_disk_that_fills_up_before_the_weights_are_written(disk: Disk, store_on_disk: Path) -> None:
    def fill(description: str, done: int, total: int | None) -> None:
        if description == "writing weights":
            disk.fill()

    with pytest.raises(PullError, match="is full"):
        pull(store_on_disk, "tiny", "1", fill)
    assert nothing_was_stored(store_on_disk)
    assert [entry.state for entry in list_models(store_on_disk)] == ["not pulled"]
    disk.empty()
    pull(store_on_disk, "tiny", "1").load_weights()


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_read_only_store_is_served_and_not_written_to(
    disk: Disk, store_on_disk: Path, tiny_store: Path, workers: str
) -> None:
    shutil.copytree(tiny_store / "tiny", disk.path / "pulled" / "tiny")
    disk.read_only()
    with server("--model-store", str(disk.path / "pulled"), "--model", "tiny", "--workers", workers) as running:
        with running.client() as client:
            assert client.post("/classify", content=png(GOOD)).status_code == 200
        assert running.terminate() == 0
    refused = run("pull", store_on_disk)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1] == (
        f"error: tiny/1: {store_on_disk} is not writable (Read-only file system); "
        "mount it read-write or choose another --model-store"
    )
    assert nothing_was_stored(store_on_disk)


@pytest.mark.torture
def test_pulls_that_are_killed_at_any_moment(store: Path, published: Published, record_figure: RecordFigure) -> None:
    """SIGKILL, at a random moment between the first temporary file and the last rename."""
    weights, manifest = store / "tiny/1" / artifact.WEIGHTS, store / "tiny/1" / artifact.MANIFEST
    unpulled = manifest.read_bytes()

    def soon(condition: Callable[[], bool]) -> None:
        until(condition, timeout=30, what="it came to that", every=0.005)

    def begin() -> subprocess.Popen[bytes]:
        pulling = subprocess.Popen(command("pull", store), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        soon(lambda: litter(store) != [])
        return pulling

    with begin() as process:
        began = time.monotonic()
        soon(lambda: manifest.read_bytes() != unpulled)
        work = time.monotonic() - began
    assert process.returncode == 0
    chance = random.Random(0)
    kills, amid, looked_complete = 20, 0, 0
    for _ in range(kills):
        weights.unlink(missing_ok=True)
        manifest.write_bytes(unpulled)
        with begin() as process:
            time.sleep(work * chance.uniform(0, 1))
            process.kill()
        amid += litter(store) != []
        (entry,) = list_models(store)
        looked_complete += entry.state == "corrupt"
        if entry.state == "ready":
            artifact.load(store, "tiny", "1").load_weights()
        subprocess.run(command("pull", store), check=True, capture_output=True, timeout=60)
        assert [entry.state for entry in list_models(store)] == ["ready"]
        assert litter(store) == []
    record_figure("pulls killed that left something that looks complete and is not", f"{looked_complete} of {kills}")
    record_figure("pulls killed amid their work", f"{amid} of {kills}")
    assert looked_complete == 0
    assert amid > kills // 4, "most were killed before or after the work"
