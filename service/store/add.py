"""``models add``: a user's own MobileNetV2 checkpoint and labels become a complete artifact of the store."""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from service.errors import ArtifactError
from service.model import artifact
from service.model.artifact import Artifact, FileDigest, Manifest
from service.store import write
from service.store.checkpoint import read_checkpoint
from service.store.locks import unserved

#: torchvision's ``presets.ImageClassification``, which most checkpoints were trained for.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def add(
    store: Path,
    checkpoint: Path,
    labels: Path,
    *,
    name: str,
    version: str = "1",
    width_mult: float = 1.0,
    num_classes: int | None = None,
    round_nearest: int = 8,
    inverted_residual_setting: Sequence[Sequence[int]] | None = None,
    resize_size: int = 256,
    crop_size: int = 224,
    interpolation: Literal["bilinear", "bicubic"] = "bilinear",
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    description: str = "",
    licence: str = "not stated",
    force: bool = False,
) -> Artifact:
    """Make ``store/name/version`` from a state_dict of torchvision's ``MobileNetV2`` (safetensors or ``.pth``).

    ``labels`` has one label per line in class order; ``num_classes`` defaults to their number. Half-precision weights
    are widened to float32. Everything is checked before the version appears in one step. An existing version is
    replaced only with ``force`` and if nobody serves it, unless it is identical. Raises ArtifactError or MissingExtra.
    """
    names = _read_labels(labels)
    if num_classes is not None and num_classes != len(names):
        raise ArtifactError(f"{labels.name} has {len(names)} labels, but num_classes is {num_classes}")
    if crop_size > resize_size:
        raise ArtifactError(f"crop_size {crop_size} is larger than resize_size {resize_size}; set both")
    raw_labels = "".join(f"{label}\n" for label in names).encode()
    content = {
        "name": name,
        "version": version,
        "description": description or f"MobileNetV2 {width_mult}, {len(names)} classes, from {checkpoint.name}",
        "licence": licence,
        "architecture": {
            "width_mult": width_mult,
            "num_classes": len(names),
            "round_nearest": round_nearest,
            "inverted_residual_setting": inverted_residual_setting,
        },
        "preprocessing": {
            "resize_size": resize_size,
            "crop_size": crop_size,
            "interpolation": interpolation,
            "mean": mean,
            "std": std,
        },
        "source": {"kind": "local", "origin": f"the file {checkpoint.name}"},
        "labels": FileDigest.of(raw_labels),
    }
    files = _files(content, checkpoint, raw_labels)
    model = store / name
    with write.explained(ArtifactError, f"{name}/{version}", store):
        model.mkdir(parents=True, exist_ok=True)
        with write.exclusive(model, lambda: None):
            if not _identical(model / version, files):
                if (model / version).exists() and not force:
                    raise ArtifactError(f"{name}/{version} exists and differs; choose another --version or use --force")
                with unserved(model / version):
                    write.create_directory(model / version, files)
    return artifact.load(store, name, version)


def _files(content: dict[str, Any], checkpoint: Path, raw_labels: bytes) -> dict[str, bytes]:
    """The artifact's three files, checked against each other."""
    reference = f"{content['name']}/{content['version']}"
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ArtifactError(f"{reference} cannot be described: {where}: {first['msg']}") from None
    tensors = read_checkpoint(checkpoint)
    artifact.check_tensors(tensors, manifest.architecture.network(), f"{reference} from {checkpoint.name}")
    weights = write.serialize(tensors)
    with checkpoint.open("rb") as file:
        source = manifest.source.model_copy(update={"sha256": hashlib.file_digest(file, "sha256").hexdigest()})
    manifest = manifest.model_copy(update={"source": source, "weights": FileDigest.of(weights)})
    return {
        artifact.WEIGHTS: weights,
        artifact.LABELS: raw_labels,
        artifact.MANIFEST: write.manifest_bytes(manifest),
    }


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
