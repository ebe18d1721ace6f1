"""``models quantize``: makes an int8 graph beside the weights, and its entry in the manifest.

photos (package or folder) ─► calibration.images ─► quantize_network ─► int8.xml, int8.bin, model.json
"""

from __future__ import annotations

from pathlib import Path

from service.errors import ArtifactError, require_extra
from service.model.artifact import MANIFEST, Artifact, Derived, FileDigest, derived_files, read_manifest
from service.model.artifact import load as load_artifact
from service.runtimes.openvino.recipes import DEFAULT_RECIPE, RECIPES
from service.store import calibration, write
from service.store.locks import unserved
from service.store.photos import image_files
from service.store.progress import Progress, silent

#: More images made no measurable difference.
IMAGES = 200


def quantize(
    store: Path,
    name: str,
    version: str,
    *,
    images: Path | None = None,
    recipe: str = DEFAULT_RECIPE,
    count: int = IMAGES,
    progress: Progress = silent,
) -> Artifact:
    """Make or replace the int8 graph of ``store/name/version``, calibrated on ``count`` images.

    They are made from the photos in the folder ``images``, or from those of ``calibration.PACKAGE``. Safe to interrupt:
    nothing is written before everything is computed. Raises MissingExtra, ArtifactError, PullError (the package cannot
    be fetched) or OperatorError (the photos in ``images`` cannot be used).
    """
    require_extra("quantising a model", "int8", "nncf")
    artifact = load_artifact(store, name, version)
    artifact.load_weights()  # check before minutes of work: the weights, and whether the version may be changed
    with unserved(artifact.directory):
        pass
    with write.explained(ArtifactError, artifact.reference, store):
        photos, origin = _photos(artifact, images, count, progress)
        files = calibration.images(photos, artifact.manifest.preprocessing, count, progress)

        def advance(calls: int) -> None:
            if calls <= count:
                progress("measuring ranges", calls, count)
            else:
                progress("correcting biases", 0, None)

        from service.runtimes.openvino.quantization import quantize_network

        graph, constants = quantize_network(artifact, files, RECIPES[recipe], advance)
        entry = Derived(
            graph=FileDigest.of(graph),
            constants=FileDigest.of(constants),
            made_from=artifact.manifest.fingerprint(),
            recipe=f"{recipe}: {RECIPES[recipe].about}",
            calibration=f"{count} images from {origin}",
        )
        with (
            write.exclusive(store / name, lambda: progress("waiting for another writer", 0, None)),
            unserved(artifact.directory),
        ):
            manifest = read_manifest(artifact.directory)
            if manifest.fingerprint() != entry.made_from:
                raise ArtifactError(f"{artifact.reference} changed in the meantime; run the command again")
            # Figures of an earlier graph do not apply to this one.
            figures = {key: value for key, value in manifest.measured.items() if not key.startswith("parity_int8_")}
            updated = manifest.model_copy(update={"derived": {"int8": entry}, "measured": figures})
            contents = dict(zip(derived_files("int8"), (graph, constants), strict=True))
            write.replace_files(artifact.directory, contents | {MANIFEST: write.manifest_bytes(updated)})
    return load_artifact(store, name, version)


def _photos(artifact: Artifact, folder: Path | None, count: int, progress: Progress) -> tuple[dict[str, bytes], str]:
    """Photos by name, and a description of their origin."""
    if folder is not None:
        photos = calibration.read_photos(image_files(folder), count)
        return photos, f"{len(photos)} of the operator's photos"
    with write.scratch(artifact.directory.parent) as scratch:
        photos = calibration.fetch_photos(scratch, progress)
    return photos, f"{len(photos)} photos of the package {calibration.PACKAGE}"
