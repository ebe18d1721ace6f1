"""A copy of the served version that belongs to the service: whatever becomes of the store, a process that is replaced
loads what was verified when the version was taken into service.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from service.config import Settings
from service.errors import OperatorError
from service.model.artifact import LABELS, MANIFEST, WEIGHTS, Artifact, Manifest, derived_files
from service.model.artifact import load as load_artifact


def copy_version(settings: Settings, store: Path) -> Manifest:
    """Copy the version that ``settings`` name into ``store``, in a directory of this service.

    Verifies each file. Raises OperatorError, which does not name ``store``: an operator knows only the original.
    """
    artifact = load_artifact(settings.model_store, settings.model, settings.version)
    files = dict(_files(artifact, settings.precision))
    try:
        # Beforehand: in memory that is full to the last page, other processes' metrics could not be written.
        if sum(map(len, files.values())) > shutil.disk_usage(store.parent).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        directory = store / settings.model / settings.version
        directory.mkdir(parents=True)
        for name, data in files.items():
            (directory / name).write_bytes(data)
    except OSError as error:
        raise OperatorError(
            f"{artifact.reference} cannot be copied to {store.parents[1]}, where processes load it from: "
            f"{error.strerror}; make room for two versions there"
        ) from None
    return artifact.manifest


def _files(artifact: Artifact, precision: str) -> Iterator[tuple[str, bytes]]:
    """Name and content of what processes read of it."""
    yield MANIFEST, artifact.manifest.model_dump_json().encode()  # not read again: it may have changed since
    yield LABELS, artifact.read(LABELS, artifact.manifest.labels.sha256, artifact.remedy)
    if precision == "int8":
        yield from zip(derived_files("int8"), artifact.load_derived("int8"), strict=True)
    else:
        yield WEIGHTS, artifact.read(WEIGHTS, artifact.digest, artifact.remedy)
