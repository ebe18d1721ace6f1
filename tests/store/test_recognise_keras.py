"""The files of Keras, of every age."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from service.errors import ArtifactError
from service.store import keras
from service.store.add import add
from tests.store import libraries
from tests.store.libraries import Tensors

SAVED: dict[str, Callable[[Tensors, Path], object]] = {
    # The weights of keras.applications, and what Keras 2 writes.
    "weights of Keras 2": lambda arrays, path: libraries.save_by_name(arrays, path, "{layer}/{layer}/{array}:0"),
    "model of Keras 2": lambda arrays, path: libraries.save_by_name(
        arrays,
        path,
        "model_weights/mobilenetv2_0.10_160/{layer}/{array}:0",
        model_config=json.dumps(libraries.keras_config(160, "softmax")),
    ),
    "model of Keras 3": lambda arrays, path: libraries.save_by_name(
        arrays,
        path,
        "model_weights/{layer}/{layer}/{array}",
        model_config=json.dumps(libraries.keras_config(160, "softmax")),
    ),
    "numbered weights": lambda arrays, path: path.write_bytes(libraries.by_number(arrays, "layers")),
    "archive": lambda arrays, path: libraries.archive(
        path, libraries.by_number(arrays, "layers/functional/layers"), libraries.keras_config(160, "softmax")
    ),
}


@pytest.mark.parametrize("how", SAVED)
def test_keras(how: str, weights: Tensors, labels: Path, tmp_path: Path) -> None:
    SAVED[how](libraries.to_keras(weights), tmp_path / "x.keras")
    found = add(tmp_path / "store", tmp_path / "x.keras", labels, name="pets")
    for name, values in found.load_weights().items():
        np.testing.assert_allclose(values, weights[name], rtol=1e-6, atol=1e-7 if "var" in name else 0)
    p = found.manifest.preprocessing
    assert p.rotate_180
    assert (p.mean, p.std, p.interpolation) == ((0.5,) * 3, (0.5,) * 3, "bilinear")
    assert (p.resize_size, p.crop_size) == ((256, 224) if "weights" in how else (183, 160))
    assert found.manifest.head.activation == "softmax"


def test_what_a_model_of_keras_says(weights: Tensors, labels: Path, tmp_path: Path) -> None:
    rescaling = {"class_name": "Rescaling", "config": {"scale": 1 / 255, "offset": 0.0}}
    config = libraries.keras_config(96, "sigmoid", rescaling)
    weights_file = libraries.by_number(libraries.to_keras(weights), "layers/functional/layers")
    libraries.archive(tmp_path / "x.keras", weights_file, config)
    manifest = add(tmp_path / "store", tmp_path / "x.keras", labels, name="pets").manifest
    assert manifest.head.activation == "sigmoid"
    p = manifest.preprocessing
    assert (*p.mean, *p.std) == pytest.approx((0, 0, 0, 1, 1, 1))
    assert (p.resize_size, p.crop_size) == (110, 96)


def damaged(arrays: Tensors, path: Path) -> None:
    libraries.archive(path, libraries.by_number(arrays, "layers")[:-1000], {})


def elsewhere(arrays: Tensors, path: Path) -> None:
    path.with_suffix(".raw").write_bytes(bytes(432))
    libraries.save_by_name(arrays, path, "{layer}/{array}")
    with h5py.File(path, "a") as file:
        del file["Conv1/kernel"]
        file.create_dataset("Conv1/kernel", (3, 3, 3, 4), "f4", external=[(str(path.with_suffix(".raw")), 0, 432)])


def many(arrays: Tensors, path: Path) -> None:
    libraries.save_by_name(arrays, path, "{layer}/{array}")
    with h5py.File(path, "a") as file:
        file.create_dataset("dense/kernel", (1280, 2**30), "f4", chunks=(1280, 1024), compression="gzip")


def other(arrays: Tensors, path: Path) -> None:
    path.write_bytes(
        libraries.by_number({name: values for name, values in arrays.items() if "Conv_1_bn" not in name}, "layers")
    )


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (damaged, "is not a readable file of Keras"),
        (elsewhere, "Conv1/kernel lies in another file"),
        (many, "more numbers than any MobileNetV2"),
        (other, r"tensors are missing, the first is Conv_1_bn.weight"),
        (lambda arrays, path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)), "is not a readable file of Keras"),
        (lambda arrays, path: libraries.archive(path, b"", "[" * 100000), "is not a readable file of Keras"),
        (lambda arrays, path: libraries.save_by_name(arrays | {"mean/mean": np.ones(3)}, path, "{layer}/{array}"),
         "1 tensors do not belong here, the first is mean.mean"),
    ],
)  # fmt: skip
def test_files_of_keras_that_are_refused(
    how: Callable[[Tensors, Path], object], message: str, weights: Tensors, labels: Path, tmp_path: Path
) -> None:
    how(libraries.to_keras(weights), tmp_path / "x.keras")
    with pytest.raises(ArtifactError, match=message) as caught:
        add(tmp_path / "store", tmp_path / "x.keras", labels, name="pets")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "store").exists()


def test_an_archive_that_would_fill_the_memory(
    weights: Tensors, labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What counts is the size that is unpacked."""
    libraries.archive(tmp_path / "x.keras", libraries.by_number(libraries.to_keras(weights), "layers"), {})
    monkeypatch.setattr(keras, "LIMIT", 100_000)
    with pytest.raises(ArtifactError, match="more bytes than any MobileNetV2"):
        add(tmp_path / "store", tmp_path / "x.keras", labels, name="pets")
