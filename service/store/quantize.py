"""``models quantize``: an int8 graph beside the weights, and its entry in the manifest.

photos (package or folder) ─► calibration.images ─► runtimes.quantization ─► int8.xml, int8.bin, model.json
"""

from __future__ import annotations

from pathlib import Path

from service.errors import ArtifactError
from service.model.artifact import MANIFEST, Artifact, Derived, FileDigest, Manifest, derived_files, read_manifest
from service.model.artifact import load as load_artifact
from service.runtimes.openvino.recipes import DEFAULT_RECIPE, RECIPES, require_nncf
from service.store import calibration, write
from service.store.photos import image_files
from service.store.progress import Progress, silent

#: More than these changed nothing that could be measured.
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
    """Make the int8 graph of ``store/name/version``, calibrated on ``count`` images made of the photos in ``images``,
    or of the twenty of ``calibration.PACKAGE``; one that is there is replaced.

    Safe to interrupt: nothing is written before all is computed. Raises MissingExtra, ArtifactError, PullError (the
    photos cannot be had) or OperatorError (the photos given cannot be used).
    """
    require_nncf()
    artifact = load_artifact(store, name, version)
    artifact.load_weights()  # refused before minutes of work
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
        with write.exclusive(store / name, lambda: progress("waiting for another writer", 0, None)):
            manifest = read_manifest(artifact.directory)
            if manifest.fingerprint() != entry.made_from:
                raise ArtifactError(f"{artifact.reference} changed meanwhile; run the command again")
            # The figures of the graph before this one are not this one's.
            figures = {key: value for key, value in manifest.measured.items() if not key.startswith("parity_int8_")}
            updated = manifest.model_copy(update={"derived": {"int8": entry}, "measured": figures})
            _write(artifact.directory, graph, constants, updated)
    return load_artifact(store, name, version)


def _photos(artifact: Artifact, folder: Path | None, count: int, progress: Progress) -> tuple[dict[str, bytes], str]:
    """Photos by name, and their origin in words."""
    if folder is not None:
        photos = calibration.read_photos(image_files(folder), count)
        return photos, f"{len(photos)} of the operator's photos"
    with write.scratch(artifact.directory.parent) as scratch:
        photos = calibration.fetch_photos(scratch, progress)
    return photos, f"{len(photos)} photos of the package {calibration.PACKAGE}"


def _write(directory: Path, graph: bytes, constants: bytes, manifest: Manifest) -> None:
    names = derived_files("int8")
    contents = dict(zip(names, (graph, constants), strict=True))
    write.replace_files(directory, contents | {MANIFEST: write.manifest_bytes(manifest)})
