"""``models add``: a user's own MobileNetV2 checkpoint and labels become a complete artifact of the store."""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from service.errors import ArtifactError
from service.model import artifact
from service.model.artifact import Architecture, Artifact, FileDigest, Manifest
from service.model.outputs import SOFTMAX, Activation
from service.store import recognise, write
from service.store.locks import unserved
from service.store.recognise import Found


def add(
    store: Path,
    checkpoint: Path,
    labels: Path | None = None,
    *,
    name: str,
    version: str = "1",
    like: str | None = None,
    num_classes: int | None = None,
    head: Activation | None = None,
    threshold: float | None = None,
    description: str = "",
    licence: str = "not stated",
    force: bool = False,
    **options: Any,
) -> Artifact:
    """Make ``store/name/version`` from a checkpoint of torchvision, timm, Transformers or Keras (see ``recognise``).

    ``options`` are fields of ``Architecture`` and ``Preprocessing``. What is not given is that of the version ``like``
    (name/version), else what the checkpoint says, else what its library does. ``labels`` has one label per line in
    class order. Everything is checked before the version appears in one step. An existing version is replaced only with
    ``force`` and if nobody serves it, unless it is identical. Raises ArtifactError or MissingExtra.
    """
    reference = f"{name}/{version}"
    given = _read_labels(labels) if labels else None
    if labels and given and num_classes not in (None, len(given)):
        raise ArtifactError(f"{labels.name} has {len(given)} labels, but num_classes is {num_classes}")
    model = _load(store, like) if like else None
    architecture = model.manifest.architecture if model else None
    stated = {field: options.pop(field) for field in Architecture.model_fields if field in options}
    if stated:
        base = architecture.model_dump() if architecture else {}
        with _explained(reference, "architecture"):
            architecture = Architecture.model_validate(base | stated)
    found = recognise.read(checkpoint, architecture)
    names = given or _labels(found, model)
    classes = found.architecture.num_classes
    if len(names) != classes:
        raise ArtifactError(f"{checkpoint.name} has {classes} classes, but there are {len(names)} labels")
    raw_labels = "".join(f"{label}\n" for label in names).encode()
    origin = f"the {'folder' if checkpoint.is_dir() else 'file'} {checkpoint.name}"
    if found.family != "torchvision":
        origin += f", made with {found.family}"
    about = f"MobileNetV2 {found.architecture.width_mult}, {classes} classes, from {checkpoint.name}"
    content = {
        "name": name,
        "version": version,
        "description": description or about,
        "licence": licence,
        "architecture": found.architecture,
        "preprocessing": _preprocessing(found, model, options),
        "source": {"kind": "local", "origin": origin},
        "head": _head(found, model, head, threshold),
        "labels": FileDigest.of(raw_labels),
    }
    with _explained(reference):
        manifest = Manifest.model_validate(content)
    if classes == 1 and manifest.head.activation == "softmax":
        raise ArtifactError(f"{checkpoint.name} has one class, whose softmax is always 1; use --head sigmoid")
    files = _files(manifest, found, raw_labels)
    with write.explained(ArtifactError, reference, store):
        (store / name).mkdir(parents=True, exist_ok=True)
        with write.exclusive(store / name, lambda: None):
            if not _identical(store / name / version, files):
                if (store / name / version).exists() and not force:
                    raise ArtifactError(f"{reference} exists and differs; choose another --version or use --force")
                with unserved(store / name / version):
                    write.create_directory(store / name / version, files)
    return artifact.load(store, name, version)


def _load(store: Path, reference: str) -> Artifact:
    name, _, version = reference.partition("/")
    return artifact.load(store, name, version or "1")


def _labels(found: Found, model: Artifact | None) -> tuple[str, ...]:
    if model and len(model.labels) == found.architecture.num_classes:
        return model.labels
    if found.facts.labels is None:
        other = f", {model.reference} {len(model.labels)}" if model else ""
        raise ArtifactError(f"{found.file.name} has {found.architecture.num_classes} classes{other}; give --labels")
    return found.facts.labels


def _preprocessing(found: Found, model: Artifact | None, options: dict[str, Any]) -> dict[str, Any]:
    """Of a checkpoint in our own form, rotated kernels show only in the version that it was made from."""
    copied = model.manifest.preprocessing.model_dump() if model else {}
    fields = found.facts.preprocessing | copied | {"rotate_180": found.facts.tf_padding}
    if found.family == "torchvision" and copied:
        fields["rotate_180"] = copied["rotate_180"]
    fields |= options
    if missing := [field for field in ("resize_size", "crop_size", "interpolation") if field not in fields]:
        flags = " and ".join(f"--{field.replace('_', '-')}" for field in missing)
        raise ArtifactError(f"the preprocessing beside {found.file.name} is no resize and centre crop; give {flags}")
    if fields["crop_size"] > fields["resize_size"]:
        raise ArtifactError(
            f"crop_size {fields['crop_size']} is larger than resize_size {fields['resize_size']}; set both"
        )
    return fields


def _head(found: Found, model: Artifact | None, head: Activation | None, threshold: float | None) -> dict[str, Any]:
    copied = model.manifest.head if model else SOFTMAX
    activation = head or found.facts.activation or copied.activation
    if threshold is None and activation == copied.activation:
        threshold = copied.threshold
    return {"activation": activation, "threshold": threshold}


def _files(manifest: Manifest, found: Found, raw_labels: bytes) -> dict[str, bytes]:
    """The artifact's three files, checked against each other."""
    reference = f"{manifest.name}/{manifest.version} from {found.file.name}"
    artifact.check_tensors(found.tensors, manifest.architecture.network(), reference)
    weights = write.serialize(found.tensors)
    with found.file.open("rb") as file:
        source = manifest.source.model_copy(update={"sha256": hashlib.file_digest(file, "sha256").hexdigest()})
    manifest = manifest.model_copy(update={"source": source, "weights": FileDigest.of(weights)})
    return {
        artifact.WEIGHTS: weights,
        artifact.LABELS: raw_labels,
        artifact.MANIFEST: write.manifest_bytes(manifest),
    }


@contextmanager
def _explained(reference: str, *part: str) -> Iterator[None]:
    """Turn the first fault of a ``part`` of the manifest into one sentence."""
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, (*part, *first["loc"])))
        raise ArtifactError(f"{reference} cannot be described: {where}: {first['msg']}") from None


def _identical(directory: Path, files: dict[str, bytes]) -> bool:
    return all((directory / name).is_file() and (directory / name).read_bytes() == files[name] for name in files)


def _read_labels(path: Path) -> tuple[str, ...]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"the labels {path.name} cannot be read: {error.strerror}") from None
    names = artifact.parse_labels(raw.removeprefix(codecs.BOM_UTF8))
    if "" in names:
        raise ArtifactError(f"{path.name} is empty at line {names.index('') + 1}; it needs one label per line")
    return names
