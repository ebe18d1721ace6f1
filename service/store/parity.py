"""``models parity``: compares every precision and decode mode with exact fp32 on photos, on this machine's CPU.

files ─► preprocess (exact, fast) ─► one runtime per precision ─► top classes, embeddings ─► report ─► manifest
"""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from service import runtimes
from service.errors import ArtifactError, OperatorError, ServiceError
from service.host.cores import available_cores
from service.image import Mode, Pixels, inspect, preprocess
from service.model.artifact import MANIFEST, Artifact, read_manifest
from service.model.artifact import load as load_artifact
from service.model.outputs import BatchOutputs, ItemOutput, normalize
from service.model.runtime import Images, RuntimeOptions
from service.store.locks import unserved
from service.store.photos import image_files, read_photo
from service.store.progress import Progress
from service.store.write import exclusive, explained, manifest_bytes, replace_file

#: Prefix of this module's entries in the manifest's ``measured``.
_PREFIX = "parity_"

_MODES: tuple[Mode, ...] = ("exact", "fast")
_ROUNDS = 100

#: ``Runtime.run``
Forward = Callable[[Images], BatchOutputs]


@dataclass
class Comparison:
    """Results of one precision and decode mode; counts are of photos."""

    precision: str
    mode: Mode
    milliseconds: float = 0.0  # for one image, without decoding
    agreement: int = 0  # same top class as exact fp32
    top1: int = 0
    top5: int = 0
    cosines: list[float] = field(default_factory=list)  # between embeddings and those of exact fp32

    def add(self, answer: ItemOutput, reference: ItemOutput, label: int | None) -> None:
        self.agreement += int(answer.top[0] == reference.top[0])
        self.top1 += int(answer.top[0] == label)
        self.top5 += int(label in answer.top.tolist())
        self.cosines.append(float(normalize(answer.embedding) @ normalize(reference.embedding)))

    @property
    def cosine_mean(self) -> float:
        return float(np.mean(self.cosines))

    @property
    def cosine_min(self) -> float:
        return min(self.cosines)


@dataclass(frozen=True)
class ParityReport:
    rows: Sequence[Comparison]
    photos: int
    labelled: bool
    conditions: str
    notes: Sequence[str]

    def figures(self) -> dict[str, int | float | str]:
        """Entries for the manifest's ``measured``."""
        entries: dict[str, int | float | str] = {}
        for row in self.rows:
            key = f"{_PREFIX}{row.precision}_{row.mode}"
            if self.labelled:
                entries[f"{key}_top1"] = round(row.top1 / self.photos, 4)
                entries[f"{key}_top5"] = round(row.top5 / self.photos, 4)
            entries[f"{key}_agreement"] = round(row.agreement / self.photos, 4)
            entries[f"{key}_cosine_mean"] = round(row.cosine_mean, 5)
            entries[f"{key}_cosine_min"] = round(row.cosine_min, 5)
            entries[f"{key}_ms"] = round(row.milliseconds, 3)
        entries[f"{_PREFIX}conditions"] = self.conditions
        return entries


def compare(store: Path, name: str, version: str, folder: Path, progress: Progress) -> ParityReport:
    """Run every photo of ``folder`` through every precision and mode; photos that cannot be decoded are skipped.

    Raises OperatorError if there are no readable photos, or for missing or damaged weights or int8 graph.
    """
    artifact = load_artifact(store, name, version)
    files = image_files(folder)
    forwards, notes = _forwards(artifact)
    labels = _labels(files, artifact.manifest.architecture.num_classes)
    transform = artifact.manifest.preprocessing.transform()
    rows = {(precision, mode): Comparison(precision, mode) for precision in forwards for mode in _MODES}
    image: Pixels | None = None
    for index, path in enumerate(files):
        progress("comparing", index, len(files))
        try:
            data = read_photo(path)
            header = inspect(data)
            images = {mode: preprocess(data, header, transform, mode) for mode in _MODES}
        except ServiceError as error:
            notes.append(f"left out: {path}: {error.detail}")
            continue
        image = images["exact"]
        reference = _output(forwards["fp32"], image)
        for (precision, mode), row in rows.items():
            row.add(_output(forwards[precision], images[mode]), reference, labels[index] if labels else None)
    progress("comparing", len(files), len(files))
    if image is None:
        raise OperatorError(f"none of the {len(files)} images in {folder} can be decoded")
    times = _times(forwards, image, progress)
    for row in rows.values():
        row.milliseconds = times[row.precision]
    count = len(rows["fp32", "exact"].cosines)
    conditions = f"{count} photos, {datetime.now(UTC):%Y-%m-%d}, {_cpu()}, {available_cores()} cores"
    return ParityReport(list(rows.values()), count, labels is not None, conditions, notes)


def record(store: Path, name: str, version: str, report: ParityReport) -> None:
    """Store ``report``'s figures in the manifest's ``measured``, replacing those of earlier comparisons."""
    version_directory = store / name / version
    with (
        explained(ArtifactError, f"{name}/{version}", store),
        exclusive(store / name, lambda: None),
        unserved(version_directory),
    ):
        manifest = read_manifest(version_directory)
        others = {key: value for key, value in manifest.measured.items() if not key.startswith(_PREFIX)}
        updated = manifest.model_copy(update={"measured": others | report.figures()})
        replace_file(version_directory / MANIFEST, manifest_bytes(updated))


def _forwards(artifact: Artifact) -> tuple[dict[str, Forward], list[str]]:
    """The forward pass in each precision that this CPU and the artifact support, fp32 first; notes on the others."""
    precisions, notes = ["fp32", "bf16"], []
    if "int8" in artifact.manifest.derived:
        precisions.append("int8")
    else:
        notes.append(f"no int8; to make it, run: mobilenet-service models quantize {artifact.reference}")
    forwards: dict[str, Forward] = {}
    for precision in precisions:
        options = RuntimeOptions("openvino", "cpu", precision, threads_per_runner=available_cores())
        try:
            forwards[precision] = runtimes.create(artifact, options).run
        except ArtifactError:
            raise
        except OperatorError:
            if precision != "bf16":
                raise
            notes.append("no bf16: this CPU does not support it")
    return forwards, notes


def _labels(files: Sequence[Path], num_classes: int) -> list[int] | None:
    """The class of each file from its name or folder; None unless all have one."""
    labels = []
    for path in files:
        match = re.match(r"(\d+)_", path.name) or re.fullmatch(r"(\d+)", path.parent.name)
        if match is None or int(match[1]) >= num_classes:
            return None
        labels.append(int(match[1]))
    return labels


def _output(forward: Forward, image: Pixels) -> ItemOutput:
    return forward(image[np.newaxis]).items()[0]


def _times(forwards: dict[str, Forward], image: Pixels, progress: Progress) -> dict[str, float]:
    """The shortest of many single inferences per precision, in milliseconds. Precisions alternate, so that other load
    slows all of them equally."""
    best = dict.fromkeys(forwards, float("inf"))
    for done in range(_ROUNDS):
        progress("timing", done, _ROUNDS)
        for precision, forward in forwards.items():
            # In the second run the weights are in the cache, as in a service that runs only this precision.
            for _ in range(2):
                started = time.perf_counter()
                forward(image[np.newaxis])
                best[precision] = min(best[precision], (time.perf_counter() - started) * 1e3)
    progress("timing", _ROUNDS, _ROUNDS)
    return best


def _cpu() -> str:
    try:
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        match = None
    return match[1].strip() if match else platform.processor() or platform.machine()
