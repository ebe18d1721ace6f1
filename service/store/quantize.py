"""``models quantize``: an int8 graph beside the weights, and its entry in the manifest.

photos (package or folder) ─► calibration.images ─► runtimes.quantization ─► int8.xml, int8.bin, model.json
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from service.errors import ArtifactError
from service.model import artifact
from service.model.artifact import Artifact, Derived, FileDigest, Manifest
from service.runtimes.openvino.recipes import DEFAULT_RECIPE, RECIPES, require_nncf
from service.store import calibration, write
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
    found = artifact.load(store, name, version)
    found.load_weights()  # refused before minutes of work
    with write.explained(ArtifactError, found.reference, store):
        photos, origin = _photos(found, images, count, progress)
        files = calibration.images(photos, found.manifest.preprocessing, count, progress)

        def advance(calls: int) -> None:
            if calls <= count:
                progress("measuring ranges", calls, count)
            else:
                progress("correcting biases", 0, None)

        from service.runtimes.openvino.quantization import quantize as run

        graph, constants = run(found, files, RECIPES[recipe], advance)
        entry = Derived(
            graph=FileDigest.of(graph),
            constants=FileDigest.of(constants),
            made_from=found.manifest.fingerprint(),
            recipe=f"{recipe}: {RECIPES[recipe].about}",
            calibration=f"{count} images from {origin}",
        )
        with write.exclusive(store / name, lambda: progress("waiting for another writer", 0, None)):
            manifest = artifact.read_manifest(found.directory)
            if manifest.fingerprint() != entry.made_from:
                raise ArtifactError(f"{found.reference} changed meanwhile; run the command again")
            # Figures of the graph that goes are not this one's.
            measured = {key: value for key, value in manifest.measured.items() if not key.startswith("parity_int8_")}
            updated = manifest.model_copy(update={"derived": {"int8": entry}, "measured": measured})
            _write(found.directory, graph, constants, updated)
    return artifact.load(store, name, version)


def record(store: Path, name: str, version: str, prefix: str, figures: Mapping[str, int | float | str]) -> None:
    """Put ``figures`` into the manifest's ``measured``, in place of all whose name starts with ``prefix``."""
    with (
        write.explained(ArtifactError, f"{name}/{version}", store),
        write.exclusive(store / name, lambda: None),
    ):
        manifest = artifact.read_manifest(store / name / version)
        kept = {key: value for key, value in manifest.measured.items() if not key.startswith(prefix)}
        updated = manifest.model_copy(update={"measured": kept | dict(figures)})
        write.replace_file(store / name / version / artifact.MANIFEST, write.manifest_bytes(updated))


def _photos(found: Artifact, folder: Path | None, count: int, progress: Progress) -> tuple[dict[str, bytes], str]:
    """Photos by name, and their origin in words."""
    if folder is not None:
        photos = calibration.read_photos(calibration.image_files(folder), count)
        return photos, f"{len(photos)} of the operator's photos"
    with write.scratch(found.directory.parent) as scratch:
        photos = calibration.fetch_photos(scratch, progress)
    return photos, f"{len(photos)} photos of the package {calibration.PACKAGE}"


def _write(directory: Path, graph: bytes, constants: bytes, manifest: Manifest) -> None:
    names = artifact.derived_files("int8")
    contents = dict(zip(names, (graph, constants), strict=True))
    write.replace_files(directory, contents | {artifact.MANIFEST: write.manifest_bytes(manifest)})
