"""``models list`` and ``models verify``: the versions in a store, checked against their manifests."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from service.errors import ArtifactError
from service.model.artifact import WEIGHTS, Artifact, Manifest, read_manifest
from service.model.artifact import load as load_artifact

VersionState = Literal["ready", "not pulled", "corrupt"]


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """One version in the store. ``detail`` is empty when ``ready``, else one sentence with a remedy."""

    name: str
    version: str
    state: VersionState
    detail: str
    manifest: Manifest | None  # None if it cannot be read
    derived: tuple[str, ...] = ()  # precisions of derived graphs, each with its fault if it has one

    @property
    def reference(self) -> str:
        return f"{self.name}/{self.version}"


def list_models(store: Path) -> list[StoredVersion]:
    """Every version in ``store``, sorted by name, then by version (numerically); digests are checked.

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
    return [_stored_version(store, name, version) for name, version in sorted(versions, key=_order)]


def verify(store: Path, name: str, version: str) -> Artifact:
    """Check ``store/name/version`` completely: digests of all files, tensors against the architecture.

    Raises ArtifactError for the first fault.
    """
    artifact = load_artifact(store, name, version)
    artifact.load_weights()
    for precision in artifact.manifest.derived:
        artifact.load_derived(precision)
    return artifact


def _stored_version(store: Path, name: str, version: str) -> StoredVersion:
    manifest: Manifest | None = None
    state: VersionState = "corrupt"
    derived: list[str] = []
    try:
        manifest = read_manifest(store / name / version)
        artifact = load_artifact(store, name, version)
        detail, weights = "", artifact.directory / WEIGHTS
        if manifest.weights is None or not weights.exists():
            state, detail = "not pulled", f"{artifact.reference}: no weights yet; {artifact.remedy}"
        elif _sha256(weights) != artifact.digest:
            detail = f"{artifact.reference}: {WEIGHTS} is corrupt; {artifact.remedy}"
        else:
            state, derived = "ready", [_derived(artifact, precision) for precision in manifest.derived]
    except OSError as error:
        detail = f"{name}/{version}: {WEIGHTS} cannot be read: {error.strerror}"
    except ArtifactError as error:
        detail = str(error)
    return StoredVersion(name, version, state, detail, manifest, tuple(derived))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _derived(artifact: Artifact, precision: Literal["int8"]) -> str:
    try:
        artifact.load_derived(precision)
    except ArtifactError:
        return f"{precision}: unusable, see models verify"
    return precision


def _order(reference: tuple[str, str]) -> tuple[str, list[tuple[int, int, str]]]:
    """ "10" after "9", "1.2" after "1.1"; digits before letters."""
    name, version = reference
    parts = re.findall(r"\d+|\D+", version)
    return name, [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]
