"""What the reader of an artifact accepts, and the sentence with which it refuses everything else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.errors import ArtifactError
from service.model import artifact
from service.model.artifact import Artifact
from service.store.write import serialize
from tests.artifacts import digest, make_artifact

Arrays = dict[str, NDArray[Any]]


@pytest.fixture
def tiny(tmp_path: Path) -> Artifact:
    return make_artifact(tmp_path, width_mult=0.1, num_classes=3)


def edit(found: Artifact, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest's JSON on disk."""
    path = found.directory / artifact.MANIFEST
    content = json.loads(path.read_bytes())
    change(content)
    path.write_text(json.dumps(content))


def put_weights(found: Artifact, data: bytes) -> None:
    """Other weights, with the manifest's digest made to match."""
    (found.directory / artifact.WEIGHTS).write_bytes(data)
    edit(found, lambda content: content.update(weights=digest(data).model_dump()))


def put_labels(found: Artifact, data: bytes) -> None:
    (found.directory / artifact.LABELS).write_bytes(data)
    edit(found, lambda content: content.update(labels=digest(data).model_dump()))


def reload(found: Artifact) -> Artifact:
    return artifact.load(found.directory.parent.parent, found.manifest.name, found.manifest.version)


def test_a_good_artifact_is_read_whole(tiny: Artifact) -> None:
    tensors = tiny.load_weights()
    assert {name: tensor.shape for name, tensor in tensors.items()} == tiny.network.parameter_shapes()
    assert all(tensor.dtype == np.float32 for tensor in tensors.values())
    assert tiny.labels == ("class 0", "class 1", "class 2")
    assert tiny.reference == "tiny/1"
    assert tiny.manifest.weights is not None
    assert tiny.digest == tiny.manifest.weights.sha256


def test_the_transform_is_the_manifests(tmp_path: Path) -> None:
    found = make_artifact(tmp_path, width_mult=0.1, resize_size=232, crop_size=192, interpolation="bicubic")
    transform = found.manifest.preprocessing.transform()
    assert (transform.resize_size, transform.crop_size, transform.interpolation) == (232, 192, "bicubic")


def test_architecture_reaches_the_network(tmp_path: Path) -> None:
    found = make_artifact(
        tmp_path,
        width_mult=0.5,
        num_classes=2,
        round_nearest=4,
        inverted_residual_setting=[(1, 16, 1, 1), (6, 24, 2, 2)],
    )
    assert len(found.network.blocks) == 3
    assert found.network.blocks[-1].out_channels == 12
    assert len(found.load_weights()["classifier.1.bias"]) == 2


@pytest.mark.parametrize("at", [0, 9, 4000, -1, None])
def test_one_flipped_bit_in_the_weights_or_a_byte_less_is_refused(tiny: Artifact, at: int | None) -> None:
    path = tiny.directory / artifact.WEIGHTS
    data = bytearray(path.read_bytes())
    if at is None:
        data.pop()
    else:
        data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match=r"tiny/1: weights.safetensors is corrupt .* models add"):
        tiny.load_weights()


def test_missing_weights_name_the_remedy_of_their_source(tiny: Artifact) -> None:
    (tiny.directory / artifact.WEIGHTS).unlink()
    with pytest.raises(ArtifactError, match=r"is missing; add the checkpoint again with: .* models add"):
        tiny.load_weights()
    edit(tiny, lambda content: content["source"].update(kind="torchvision"))
    with pytest.raises(ArtifactError, match="run: mobilenet-service models pull tiny/1"):
        reload(tiny).load_weights()


def test_unreadable_weights(tiny: Artifact) -> None:
    (tiny.directory / artifact.WEIGHTS).unlink()
    (tiny.directory / artifact.WEIGHTS).mkdir()
    with pytest.raises(ArtifactError, match=r"weights.safetensors cannot be read: Is a directory"):
        tiny.load_weights()


def test_weights_that_were_never_pulled(tiny: Artifact) -> None:
    edit(tiny, lambda content: content.update(weights=None))
    found = reload(tiny)
    with pytest.raises(ArtifactError, match="never pulled"):
        found.load_weights()
    with pytest.raises(ArtifactError, match="never pulled"):
        _ = found.digest


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda tensors: tensors["classifier.1.bias"].put(1, np.nan),
            r"tiny/1: classifier\.1\.bias holds values that are not finite",
        ),
        (
            lambda tensors: tensors["features.1.conv.0.0.weight"].put(0, -np.inf),
            r"features\.1\.conv\.0\.0\.weight holds values that are not finite",
        ),
        (
            lambda tensors: tensors["features.0.1.running_var"].put(0, -1.0),
            r"features\.0\.1\.running_var holds negative variances",
        ),
        (
            lambda tensors: tensors.pop("features.0.1.bias"),
            r"1 tensors are missing, the first is features\.0\.1\.bias",
        ),
        (
            lambda tensors: tensors.update({"features.0.1.num_batches_tracked": np.zeros(1, np.float32)}),
            r"1 tensors do not belong here, the first is features\.0\.1\.num_batches_tracked",
        ),
        (
            lambda tensors: tensors.update({"classifier.1.bias": np.zeros(4, np.float32)}),
            r"classifier\.1\.bias has shape \(4,\), the architecture needs \(3,\)",
        ),
    ],
)
def test_tensors_that_do_not_fit(tiny: Artifact, damage: Callable[[Arrays], object], message: str) -> None:
    tensors = {name: tensor.copy() for name, tensor in tiny.load_weights().items()}
    damage(tensors)
    put_weights(tiny, serialize(tensors))
    with pytest.raises(ArtifactError, match=message):
        reload(tiny).load_weights()


@pytest.mark.parametrize("kind", [np.float16, np.float64, np.int32])
def test_other_types_are_refused(tiny: Artifact, kind: type[np.generic]) -> None:
    from safetensors.numpy import save

    put_weights(tiny, save({name: tensor.astype(kind) for name, tensor in tiny.load_weights().items()}))
    with pytest.raises(ArtifactError, match=rf"is {np.dtype(kind).name}, not float32"):
        reload(tiny).load_weights()


@pytest.mark.parametrize("data", [b"", b"\x00" * 64, b"\xff" * 64, b"PK\x03\x04 not tensors", b"\x80\x02}q\x00."])
def test_a_file_that_is_not_safetensors(tiny: Artifact, data: bytes) -> None:
    put_weights(tiny, data)
    with pytest.raises(ArtifactError, match="not a readable safetensors file"):
        reload(tiny).load_weights()


def test_labels_that_are_not_there_or_not_the_manifests(tiny: Artifact) -> None:
    path = tiny.directory / artifact.LABELS
    path.write_text("cat\ndog\nbird\n")
    with pytest.raises(ArtifactError, match=r"labels.txt is not the file that the manifest describes"):
        reload(tiny)
    path.unlink()
    with pytest.raises(ArtifactError, match=r"tiny/1: labels.txt cannot be read: No such file"):
        reload(tiny)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a\nb\n", "2 labels for 3 classes"),
        (b"a\nb\nc\nd\n", "4 labels for 3 classes"),
        (b"", "1 labels for 3 classes"),
        ("Käse\nb\nc\n".encode("latin-1"), "not UTF-8"),
    ],
)
def test_labels_that_are_none_or_not_as_many_as_classes(tiny: Artifact, data: bytes, message: str) -> None:
    put_labels(tiny, data)
    with pytest.raises(ArtifactError, match=message):
        reload(tiny)


def test_labels_may_be_any_text(tiny: Artifact) -> None:
    put_labels(tiny, "猫\r\n black-and-tan coonhound \r\n🦆\r\n\r\n".encode())
    assert reload(tiny).labels == ("猫", "black-and-tan coonhound", "🦆")


def test_no_such_model(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no model absent/1 in .*; see: .* models list"):
        artifact.load(tmp_path, "absent", "1")


def test_a_manifest_of_another_version(tiny: Artifact) -> None:
    tiny.directory.rename(tiny.directory.parent / "2")
    with pytest.raises(ArtifactError, match=r"tiny/2: its model.json is that of tiny/1"):
        artifact.load(tiny.directory.parent.parent, "tiny", "2")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"name": "tiny"}', "\x00"])
def test_a_manifest_that_is_not_one(tiny: Artifact, text: str) -> None:
    (tiny.directory / artifact.MANIFEST).write_text(text)
    with pytest.raises(ArtifactError, match=r"tiny/1: model.json is invalid at "):
        reload(tiny)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"name": "../escape"}, "name"),
        ({"name": ".hidden"}, "name"),
        ({"version": "1/2"}, "version"),
        ({"surprise": 1}, "surprise"),
        ({"source": {"kind": "keras_wheel", "origin": "x", "package": "--index-url=http://x"}}, "source.package"),
        ({"source": {"kind": "keras_wheel", "origin": "x", "package": "x==1 --pre"}}, "source.package"),
        ({"source": {"kind": "keras_wheel", "origin": "x", "package": "x"}}, "source.package"),
        ({"weights": {"sha256": "abc", "bytes": 1}}, "weights.sha256"),
        ({"labels": {"sha256": "0" * 64, "bytes": -1}}, "labels.bytes"),
        ({"architecture": {"width_mult": 0}}, "architecture.width_mult"),
        ({"architecture": {"width_mult": float("inf")}}, "architecture.width_mult"),
        ({"architecture": {"num_classes": 0}}, "architecture.num_classes"),
        ({"architecture": {"inverted_residual_setting": []}}, "architecture"),
        ({"architecture": {"inverted_residual_setting": [[1, 16, 1]]}}, "architecture.inverted_residual_setting.0"),
        ({"architecture": {"inverted_residual_setting": [[1, 16, 1, 3]]}}, "architecture"),
        ({"preprocessing": {"std": [0.5, 0.0, 0.5]}}, "preprocessing.std"),
        ({"preprocessing": {"std": [0.5, -0.5, 0.5]}}, "preprocessing.std"),
        ({"preprocessing": {"mean": [0.5, 0.5]}}, "preprocessing.mean"),
        ({"preprocessing": {"mean": [float("nan"), 0.5, 0.5]}}, "preprocessing.mean"),
        ({"preprocessing": {"crop_size": 31}}, "preprocessing.crop_size"),
        ({"preprocessing": {"resize_size": 0}}, "preprocessing.resize_size"),
        ({"preprocessing": {"interpolation": "nearest"}}, "preprocessing.interpolation"),
    ],
)
def test_manifest_fields_are_checked(tiny: Artifact, change: dict[str, Any], where: str) -> None:
    preprocessing = tiny.manifest.preprocessing.model_dump() | change.get("preprocessing", {})
    edit(tiny, lambda content: content.update(change | {"preprocessing": preprocessing}))
    with pytest.raises(ArtifactError, match=rf"model.json is invalid at {where}"):
        reload(tiny)


def test_errors_are_one_line(tiny: Artifact) -> None:
    edit(tiny, lambda content: content.update(name=5, version=[], labels=None))
    with pytest.raises(ArtifactError) as caught:
        reload(tiny)
    assert "\n" not in str(caught.value)
