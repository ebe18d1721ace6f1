"""``models list`` and ``models verify``: what is in a store, and whether it is what its manifests say."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from service.errors import ArtifactError
from service.model import artifact
from service.model.artifact import Artifact, Manifest

State = Literal["ready", "not pulled", "corrupt"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One version in the store. ``detail`` is empty when ``ready``, else one sentence with a remedy."""

    name: str
    version: str
    state: State
    detail: str
    manifest: Manifest | None  # None if it cannot be read
    derived: tuple[str, ...] = ()  # precisions of graphs that were made of it, and what is wrong with them

    @property
    def reference(self) -> str:
        return f"{self.name}/{self.version}"


def list_models(store: Path) -> list[Entry]:
    """Every version in ``store``, by name and then by version (numbers as numbers); digests are checked.

    Raises ArtifactError if the store itself cannot be read.
    """
    try:
        versions = [
            (model.name, version.name)
            for model in store.iterdir()
            if model.is_dir() and not model.name.startswith(".")
            for version in model.iterdir()
            if version.is_dir() and not version.name.startswith(".")
        ]
    except OSError as error:
        raise ArtifactError(f"the model store {store} cannot be read: {error.strerror}; see --model-store") from None
    return [_entry(store, name, version) for name, version in sorted(versions, key=_order)]


def verify(store: Path, name: str, version: str) -> Artifact:
    """Read everything of ``store/name/version``: digests of all files, tensors against the architecture.

    Raises ArtifactError with the first thing that is wrong.
    """
    found = artifact.load(store, name, version)
    found.load_weights()
    for precision in found.manifest.derived:
        found.load_derived(precision)
    return found


def _entry(store: Path, name: str, version: str) -> Entry:
    manifest: Manifest | None = None
    try:
        manifest = artifact.read_manifest(store / name / version)
        found = artifact.load(store, name, version)
        weights = found.directory / artifact.WEIGHTS
        if manifest.weights is None or not weights.exists():
            return Entry(name, version, "not pulled", f"{found.reference}: no weights yet; {found.remedy}", manifest)
        with weights.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != found.digest:
                message = f"{found.reference}: {artifact.WEIGHTS} is corrupt; {found.remedy}"
                return Entry(name, version, "corrupt", message, manifest)
    except OSError as error:
        message = f"{name}/{version}: {artifact.WEIGHTS} cannot be read: {error.strerror}"
        return Entry(name, version, "corrupt", message, manifest)
    except ArtifactError as error:
        return Entry(name, version, "corrupt", str(error), manifest)
    return Entry(name, version, "ready", "", manifest, tuple(_derived(found)))


def _derived(found: Artifact) -> Iterator[str]:
    for precision in found.manifest.derived:
        try:
            found.load_derived(precision)
        except ArtifactError:
            yield f"{precision}: unusable, see models verify"
        else:
            yield precision


def _order(reference: tuple[str, str]) -> tuple[str, list[tuple[int, int, str]]]:
    """ "10" after "9", "1.2" after "1.1"; digits before letters."""
    name, version = reference
    parts = re.findall(r"\d+|\D+", version)
    return name, [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]
