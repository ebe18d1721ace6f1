"""``models parity``: every precision and decode mode against exact fp32, photo by photo, on this machine's CPU.

files ─► prepare (exact, fast) ─► a runtime a precision ─► top classes, embeddings ─► Report: table, manifest entries
"""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service import runtimes
from service.cli.local import read
from service.errors import ArtifactError, OperatorError, ServiceError
from service.host.cores import available_cores
from service.image import Mode, inspect, prepare
from service.model import artifact
from service.model.artifact import Artifact
from service.model.outputs import ItemOutput, normalize
from service.model.runtime import Runtime, RuntimeOptions
from service.store.calibration import image_files
from service.store.progress import Progress

#: Names of this module's entries in ``measured`` start with it.
PREFIX = "parity_"

_MODES: tuple[Mode, ...] = ("exact", "fast")
_ROUNDS = 100

Image = NDArray[np.uint8]


@dataclass
class Row:
    """What one precision and decode mode answered; sums over photos."""

    precision: str
    mode: Mode
    milliseconds: float = 0.0  # of one image through the network; decoding is not in it
    agree: int = 0  # top class as exact fp32's
    right: int = 0
    among_five: int = 0
    cosines: list[float] = field(default_factory=list)  # of embeddings, with exact fp32's

    def add(self, answer: ItemOutput, reference: ItemOutput, label: int | None) -> None:
        self.agree += int(answer.top[0] == reference.top[0])
        self.right += int(answer.top[0] == label)
        self.among_five += int(label in answer.top.tolist())
        self.cosines.append(float(normalize(answer.embedding) @ normalize(reference.embedding)))


@dataclass(frozen=True)
class Report:
    rows: Sequence[Row]
    photos: int
    skipped: Sequence[str]
    labelled: bool
    conditions: str
    notes: Sequence[str]

    def lines(self) -> Iterator[str]:
        """The table as printed."""
        accuracy = f"{'top-1':>8}{'top-5':>8}" if self.labelled else ""
        yield f"{'precision':11}{'decode':8}{accuracy}{'agrees':>9}{'cosine, mean':>14}{'min':>9}{'ms':>8}"
        for row in self.rows:
            shares = f"{row.right / self.photos:8.1%}{row.among_five / self.photos:8.1%}" if self.labelled else ""
            cosines = f"{np.mean(row.cosines):14.4f}{min(row.cosines):9.4f}"
            agree = f"{row.agree / self.photos:9.1%}"
            yield f"{row.precision:11}{row.mode:8}{shares}{agree}{cosines}{row.milliseconds:8.2f}"
        yield self.conditions
        yield from self.notes
        yield from self.skipped

    def figures(self) -> dict[str, int | float | str]:
        """Entries for the manifest's ``measured``."""
        found: dict[str, int | float | str] = {}
        for row in self.rows:
            key = f"{PREFIX}{row.precision}_{row.mode}"
            if self.labelled:
                found[f"{key}_top1"] = round(row.right / self.photos, 4)
                found[f"{key}_top5"] = round(row.among_five / self.photos, 4)
            found[f"{key}_agreement"] = round(row.agree / self.photos, 4)
            found[f"{key}_cosine_mean"] = round(float(np.mean(row.cosines)), 5)
            found[f"{key}_cosine_min"] = round(min(row.cosines), 5)
            found[f"{key}_ms"] = round(row.milliseconds, 3)
        found[f"{PREFIX}conditions"] = self.conditions
        return found


def compare(store: Path, name: str, version: str, folder: Path, progress: Progress) -> Report:
    """Run every photo of ``folder`` through every precision and mode. Photos that cannot be decoded are left out.

    Raises OperatorError: no photos, none readable, weights or int8 graph not in order.
    """
    found = artifact.load(store, name, version)
    files = image_files(folder)
    loaded, notes = _runtimes(found)
    labels = _labels(files, found.manifest.architecture.num_classes)
    rows = {(precision, mode): Row(precision, mode) for precision in loaded for mode in _MODES}
    skipped: list[str] = []
    image: Image | None = None
    for index, path in enumerate(files):
        progress("comparing", index, len(files))
        try:
            images = _prepare(path, found)
        except ServiceError as error:
            skipped.append(f"left out: {path}: {error.detail}")
            continue
        image = images["exact"]
        reference = _answer(loaded["fp32"], image)
        for (precision, mode), row in rows.items():
            row.add(_answer(loaded[precision], images[mode]), reference, labels[index] if labels else None)
    progress("comparing", len(files), len(files))
    if image is None:
        raise OperatorError(f"none of the {len(files)} images in {folder} can be decoded")
    times = _times(loaded, image, progress)
    for row in rows.values():
        row.milliseconds = times[row.precision]
    count = len(files) - len(skipped)
    conditions = f"{count} photos, {datetime.now(UTC):%Y-%m-%d}, {_cpu()}, {available_cores()} cores"
    return Report(list(rows.values()), count, skipped, labels is not None, conditions, notes)


def _runtimes(found: Artifact) -> tuple[dict[str, Runtime], list[str]]:
    """A runtime for each precision that this CPU and this artifact have, fp32 first; and what is missing."""
    precisions, notes = ["fp32", "bf16"], []
    if "int8" in found.manifest.derived:
        precisions.append("int8")
    else:
        notes.append(f"no int8: mobilenet-service models quantize {found.reference} makes it")
    loaded: dict[str, Runtime] = {}
    for precision in precisions:
        options = RuntimeOptions("openvino", "cpu", precision, threads_per_runner=available_cores())
        try:
            loaded[precision] = runtimes.create(found, options)
        except ArtifactError:
            raise
        except OperatorError:
            if precision != "bf16":
                raise
            notes.append("no bf16: this CPU does not have it")
    return loaded, notes


def _labels(files: Sequence[Path], num_classes: int) -> list[int] | None:
    """The class of each file by its name or folder; None unless every file has one."""
    labels = []
    for path in files:
        match = re.match(r"(\d+)_", path.name) or re.fullmatch(r"(\d+)", path.parent.name)
        if match is None or int(match[1]) >= num_classes:
            return None
        labels.append(int(match[1]))
    return labels


def _prepare(path: Path, found: Artifact) -> dict[Mode, Image]:
    data = read(path)
    header, transform = inspect(data), found.manifest.preprocessing.transform()
    return {mode: prepare(data, header, transform, mode).image for mode in _MODES}


def _answer(runtime: Runtime, image: Image) -> ItemOutput:
    return runtime.run(image[np.newaxis]).items()[0]


def _times(loaded: dict[str, Runtime], image: Image, progress: Progress) -> dict[str, float]:
    """The shortest of many single inferences each, in milliseconds; taken in turns, so that all meet the same
    neighbours on the machine."""
    best = dict.fromkeys(loaded, float("inf"))
    for done in range(_ROUNDS):
        progress("timing", done, _ROUNDS)
        for precision, runtime in loaded.items():
            # The second one finds its own weights in the cache, as in a service that runs nothing else.
            for _ in range(2):
                began = time.perf_counter()
                runtime.run(image[np.newaxis])
                best[precision] = min(best[precision], (time.perf_counter() - began) * 1e3)
    progress("timing", _ROUNDS, _ROUNDS)
    return best


def _cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    try:
        match = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
    except OSError:
        match = None
    return match[1].strip() if match else platform.processor() or platform.machine()
