"""Small artifacts for tests: random weights, well scaled, so that different images get different logits."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.model import artifact
from service.model.artifact import Architecture, Artifact, FileDigest, Manifest, Preprocessing, WeightsSource
from service.model.network import Network
from service.store.write import manifest_bytes, serialize
from tests import reference

#: What ``make_artifact`` gives to the architecture and the preprocessing; ImageNet's mean and deviation.
_FIELDS: dict[str, Any] = {
    **{"width_mult": 0.35, "num_classes": 10, "resize_size": 256, "crop_size": 224},
    **{"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
}


def random_weights(net: Network, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Weights that keep the scale of activations from layer to layer; every batch norm differs from the identity."""
    rng = np.random.default_rng(seed)
    tensors: dict[str, NDArray[np.float32]] = {}
    for layer in net.convs():
        fan_in = np.prod(layer.weight_shape[1:])
        gain = 2.0 if layer.activation else 1.0
        values = {
            f"{layer.conv}.weight": rng.normal(0, np.sqrt(gain / fan_in), layer.weight_shape),
            f"{layer.norm}.weight": rng.uniform(0.8, 1.2, layer.out_channels),
            f"{layer.norm}.bias": rng.normal(0, 0.1, layer.out_channels),
            f"{layer.norm}.running_mean": rng.normal(0, 0.1, layer.out_channels),
            f"{layer.norm}.running_var": rng.uniform(0.5, 1.5, layer.out_channels),
        }
        tensors |= {name: value.astype(np.float32) for name, value in values.items()}
    # Features of a random network are nearly the same for every image: the classifier looks at what differs.
    pooled = np.stack([reference.features(tensors, net, image) for image in _images(rng)])
    weight = rng.normal(0, 1, (net.num_classes, net.embedding_dim))
    weight *= 2 / ((pooled - pooled.mean(axis=0)) @ weight.T).std()
    tensors[f"{net.classifier}.weight"] = weight.astype(np.float32)
    tensors[f"{net.classifier}.bias"] = (-weight @ pooled.mean(axis=0)).astype(np.float32)
    return tensors


def _images(rng: np.random.Generator) -> list[NDArray[np.float64]]:
    """Coarse blocks and fine noise, (3, 64, 64), with the spread of normalised pixels."""
    return [rng.uniform(-2, 2, (3, n, n)).repeat(64 // n, axis=1).repeat(64 // n, axis=2) for n in (1, 2, 4, 8, 64)]


def make_artifact(store: Path, *, name: str = "tiny", version: str = "1", seed: int = 0, **changes: Any) -> Artifact:
    """A complete, verified artifact in ``store/name/version``; labels are "class 0", "class 1", …

    ``changes`` are to the fields of its architecture and its preprocessing.
    """
    fields = _FIELDS | changes
    architecture = Architecture(**{field: fields.pop(field) for field in Architecture.model_fields if field in fields})
    weights = serialize(random_weights(architecture.network(), seed))
    labels = "".join(f"class {index}\n" for index in range(architecture.num_classes)).encode()
    manifest = Manifest(
        name=name,
        version=version,
        description="random weights",
        licence="none",
        architecture=architecture,
        preprocessing=Preprocessing(**fields),
        source=WeightsSource(kind="local", origin="tests"),
        labels=digest(labels),
        weights=digest(weights),
    )
    directory = store / name / version
    directory.mkdir(parents=True)
    (directory / artifact.WEIGHTS).write_bytes(weights)
    (directory / artifact.LABELS).write_bytes(labels)
    (directory / artifact.MANIFEST).write_bytes(manifest_bytes(manifest))
    return artifact.load(store, name, version)


def rewrite(made: Artifact, weights: dict[str, NDArray[np.float32]]) -> None:
    """Store other ``weights``, which need not be good ones; reload ``made`` to see them."""
    data = serialize(weights)
    (made.directory / artifact.WEIGHTS).write_bytes(data)
    manifest = made.manifest.model_copy(update={"weights": digest(data)})
    (made.directory / artifact.MANIFEST).write_bytes(manifest_bytes(manifest))


def digest(data: bytes) -> FileDigest:
    return FileDigest(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
