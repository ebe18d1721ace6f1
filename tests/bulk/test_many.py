"""Very many photos: memory, listing, hostile files. The figures are printed."""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from service.bulk.sources import Listing
from tests.bulk.conftest import arguments, rows, run
from tests.hostile.conftest import RecordFigure, record_figure
from tests.running import png

__all__ = ["record_figure"]

pytestmark = pytest.mark.torture

#: ``embed`` over a decoder and a runtime that only make things up, a thousand photos a second.
_WITH_A_STUB = """
import sys
import numpy as np
from service.cli import cli
from service.model.outputs import BatchOutputs
from service.serving import build, intake

class Stub:
    name, device, precision, max_batch = "openvino", "cpu", "fp32", 1
    def run(self, images, *, classes=None, alone=False):
        logits = np.zeros((len(images), 10), np.float32)
        logits[:, 3] = 1
        vectors = np.full((len(images), 1280), 0.5, np.float32)
        vectors[:, 0] = images[0][0, 0, 0]
        top, maps = np.zeros((len(images), 5), np.int64), np.zeros((len(images), 5, 7, 7), np.float32)
        return BatchOutputs(logits, vectors, top, maps)
    def close(self): ...

pixels = np.zeros((224, 224, 3), np.uint8)
intake.preprocess = lambda *arguments: pixels
build.create_runtime = lambda options, artifact: Stub()
try:
    cli(sys.argv[1:])
finally:
    # Not ru_maxrss: it begins with what the parent had.
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
    sys.stdout.write(f"peak {int(peak.split()[1]) / 1024}")
"""


def peak(source: Path, out: Path, model: list[str]) -> float:
    """MiB of memory at most."""
    words = ["embed", "--files-from", str(source), "--out", str(out), "--format", "parquet", *model]
    done = subprocess.run([sys.executable, "-c", _WITH_A_STUB, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    sys.stderr.write(done.stderr[-200:])
    return float(done.stdout.rpartition("peak ")[2])


@pytest.mark.extra
@pytest.mark.timeout(3600)
def test_memory_does_not_grow_with_the_number_of_photos(
    model: list[str], tmp_path: Path, record_figure: RecordFigure
) -> None:
    (tmp_path / "photos").mkdir()
    names = [tmp_path / "photos" / f"{index:04}.jpg" for index in range(1000)]
    from PIL import Image

    from tests.image.samples import encode

    photo = encode(Image.new("RGB", (224, 224), (200, 10, 10)), "JPEG")
    for name in names:
        name.write_bytes(photo)
    peaks = {}
    for count in (100_000, 1_000_000):
        (tmp_path / "list").write_text("".join(f"{name}\n" for name in names) * (count // 1000))
        peaks[count] = peak(tmp_path / "list", tmp_path / f"out{count}", model)
        record_figure(f"memory of embed at {count:,} photos", f"{peaks[count]:.0f} MiB")
        assert json.loads((tmp_path / f"out{count}" / "_SUCCESS").read_bytes())["outcomes"] == {"ok": count}
    assert max(peaks.values()) <= 330
    assert abs(peaks[1_000_000] - peaks[100_000]) < 20


def test_a_hundred_thousand_files_in_one_folder(tmp_path: Path, record_figure: RecordFigure) -> None:
    (tmp_path / "photo").write_bytes(png(1))
    folder = tmp_path / "folder"
    folder.mkdir()
    for index in range(100_000):
        (folder / f"{index:06}.png").symlink_to("../photo")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    with Listing([str(folder)], 10_000, print) as listing:
        seconds = time.monotonic() - began
        assert (listing.count, listing.shards) == (100_000, 10)
        assert [entry.id for entry in listing.entries(9)][-1] == str(folder / "099999.png")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    record_figure("listing a folder of 100,000 files", f"{seconds:.1f} s, {grown:.0f} MiB")
    assert grown < 60


def test_a_hundredth_of_hostile_files(model: list[str], tmp_path: Path, record_figure: RecordFigure) -> None:
    """Cut off, changed, noise, empty, text, folders: every photo has its row, and the good ones are what they were."""
    chance = random.Random(0)
    folder = tmp_path / "photos"
    folder.mkdir()
    good = {f"{index:04}.png": png(index % 50, 64) for index in range(2000)}
    for name, data in good.items():
        (folder / name).write_bytes(data)
    assert run(*arguments(folder, tmp_path / "clean", model)).exit_code == 0
    bad = chance.sample(sorted(good), 20)
    for index, name in enumerate(bad):
        data = good[name]
        (folder / name).write_bytes(
            (data[: chance.randrange(1, len(data) - 20)], chance.randbytes(1000), b"", b"text " * 9)[index % 4]
        )
    assert run(*arguments(folder, tmp_path / "dirty", model)).exit_code == 0
    clean, dirty = rows(tmp_path / "clean"), rows(tmp_path / "dirty")
    assert clean.paths == dirty.paths
    assert {Path(path).name for path in dirty.errors} == set(bad)
    kept = [row for row, path in enumerate(dirty.paths) if path not in dirty.errors]
    assert (clean.vectors[kept] == dirty.vectors[kept]).all()
    record_figure("hostile files among photos of a bulk run", f"{len(bad)} of 2000; 0 of {len(kept)} others harmed")
