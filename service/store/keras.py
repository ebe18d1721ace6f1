"""Reads what Keras saves of its MobileNetV2, and moves TensorFlow's conventions into the numbers.

Three kinds of file: HDF5 whose arrays have names (weights or whole models; Keras 1, 2 and 3), ``.weights.h5`` and the
archive ``.keras`` around one, where arrays are numbered in the order of the layers. All become arrays in torch's layout
under ``<Keras' layer>.<torch's parameter>``. Kernels are (height, width, in, out) in Keras and (out, in, height, width)
in torch; depthwise kernels are (height, width, channels, 1) and (channels, 1, height, width).

``to_torchvision`` makes torchvision's network compute the same function. Two differences are left:

* Epsilon. Keras' batch norm adds 1e-3 to the variance, torchvision's 1e-5; the difference is added to the running
  variance.
* Padding. For a stride-2 3×3 convolution on an even input, TensorFlow's "SAME" pads at the bottom and right only, torch
  on all sides, of which top and left take effect. One is the other rotated by 180°: with all 3×3 kernels and the image
  rotated, torch computes TensorFlow's result, rotated, and pooling removes the rotation. On an odd input both pad all
  sides, so that the rotation changes nothing. The manifests of such weights have ``rotate_180``.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from service.errors import ArtifactError
from service.model.network import BATCH_NORM_EPSILON
from service.store.checkpoint import LIMIT, Arrays

#: The epsilon of every batch norm in Keras' MobileNetV2.
KERAS_EPSILON = 1e-3

#: Torch's names of the arrays, by Keras' names and, where arrays are numbered, by position.
_PARTS = {
    **{"kernel": "weight", "depthwise_kernel": "weight", "bias": "bias"},
    **{"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"},
}
_NUMBERED = {
    **dict.fromkeys(("conv2d", "depthwise_conv2d", "dense"), ("weight", "bias")),
    "batch_normalization": ("weight", "bias", "running_mean", "running_var"),
}
_LAYER = re.compile(rf"(.*)/({'|'.join(_NUMBERED)})(?:_(\d+))?/vars")
#: State that only training needs.
_IGNORED = re.compile(r"^optimizer|seed_generator")
#: The archive's members.
_WEIGHTS, _CONFIG = "model.weights.h5", "config.json"


def is_archive(path: Path) -> bool:
    """Whether ``path`` is Keras' zip and not PyTorch's."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return _WEIGHTS in archive.namelist()


def read(path: Path) -> tuple[Arrays, Any]:
    """The arrays of the file at ``path``, and the model's description if it holds one.

    Raises ArtifactError if the file is damaged, or larger inside than any MobileNetV2.
    """
    # Imported here because only these files need it.
    import h5py

    try:
        if not is_archive(path):
            with h5py.File(path, "r") as file:
                return _arrays(file), json.loads(file.attrs.get("model_config", "null"))
        with zipfile.ZipFile(path) as archive:
            if sum(archive.getinfo(name).file_size for name in (_WEIGHTS, _CONFIG)) > LIMIT:
                raise ValueError("more bytes than any MobileNetV2")
            with h5py.File(io.BytesIO(archive.read(_WEIGHTS)), "r") as file:
                return _arrays(file), json.loads(archive.read(_CONFIG))
    except (OSError, EOFError, KeyError, TypeError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        raise ArtifactError(
            f"{path.name} is not a readable file of Keras ({str(error) or type(error).__name__})"
        ) from None


def _arrays(file: Any) -> Arrays:
    """Every array that inference needs."""
    import h5py

    found: dict[str, Any] = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and not _IGNORED.search(name):
            if item.external or item.is_virtual:
                raise ValueError(f"{name} lies in another file")
            found[name] = item

    file.visititems(visit)
    if sum(item.size for item in found.values()) * 4 > LIMIT:
        raise ValueError("more numbers than any MobileNetV2")
    named = _by_number(found) if any("/vars/" in name for name in found) else _by_name(found)
    return {name: _torch_layout(name, np.asarray(item, np.float32)) for name, item in named}


def _by_name(found: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, item in found.items():
        layer, part = name.removesuffix(":0").split("/")[-2:]
        yield f"{layer}.{_PARTS.get(part, part)}", item


def _by_number(found: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Layers of one class are numbered in their order, which is that of the network: its convolutions are a chain."""
    layers: dict[tuple[str, str], dict[int, dict[str, Any]]] = defaultdict(lambda: defaultdict(dict))
    for name, item in found.items():
        group, _, position = name.rpartition("/")
        if match := _LAYER.fullmatch(group):
            folder, kind, number = match.groups()
            layers[folder, kind][int(number or 0)][_NUMBERED[kind][int(position)]] = item
        else:
            yield name, item
    cores = [folder for folder, kind in layers if kind == "depthwise_conv2d"]
    names = _names(len(layers[cores[0], "depthwise_conv2d"])) if len(cores) == 1 else {}
    for (folder, kind), numbered in layers.items():
        known = names.get(kind, []) if folder in cores else []
        for index, number in enumerate(sorted(numbered)):
            layer = known[index] if index < len(known) else f"{folder}/{kind}_{number}"
            for part, item in numbered[number].items():
                yield f"{layer}.{part}", item


def _names(blocks: int) -> dict[str, list[str]]:
    """Keras' names of the layers of each class, in order."""
    prefixes = ["expanded_conv", *(f"block_{index}" for index in range(1, blocks))]
    roles = [f"{prefix}_{role}" for prefix in prefixes for role in ("expand", "depthwise", "project")][1:]
    return {
        "conv2d": ["Conv1", *(role for role in roles if not role.endswith("depthwise")), "Conv_1"],
        "depthwise_conv2d": [role for role in roles if role.endswith("depthwise")],
        "batch_normalization": ["bn_Conv1", *(f"{role}_BN" for role in roles), "Conv_1_bn"],
    }


def _torch_layout(name: str, values: Any) -> Any:
    if values.ndim == 4:
        values = values.transpose((2, 3, 0, 1) if name.endswith("depthwise.weight") else (3, 2, 0, 1))
    return np.ascontiguousarray(values.T if values.ndim == 2 else values)


def to_torchvision(tensors: Arrays, epsilon: float, *, rotate: bool) -> Arrays:
    """``tensors`` (torchvision's names) of a network whose batch norms add ``epsilon``, for one whose add 1e-5.

    With ``rotate``, kernels are rotated by 180°.
    """
    converted = {}
    for name, values in tensors.items():
        if name.endswith("running_var"):
            values = (values.astype(np.float64) + (epsilon - BATCH_NORM_EPSILON)).astype(np.float32)
        elif rotate and values.ndim == 4 and values.shape[-1] > 1:
            values = np.ascontiguousarray(values[:, :, ::-1, ::-1])
        converted[name] = values
    return converted
