"""torchvision's tensors as other libraries save them. Shares nothing with ``service``.

The names are those that timm 1.0, Transformers 5 and Keras 3 gave when this was written; ``test_libraries.py`` compares
with the libraries themselves.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

Tensors = dict[str, NDArray[np.float32]]

#: Blocks of each stage.
STAGES = (1, 2, 3, 4, 3, 3, 1)
NORM = ("weight", "bias", "running_mean", "running_var")


def torchvision_pairs(blocks: int = 17) -> Iterator[tuple[str, str]]:
    """Convolution and batch norm, in order."""
    yield "features.0.0", "features.0.1"
    for block in range(1, blocks + 1):
        at = f"features.{block}.conv"
        yield f"{at}.0.0", f"{at}.0.1"
        if block > 1:
            yield f"{at}.1.0", f"{at}.1.1"
            yield f"{at}.2", f"{at}.3"
        else:
            yield f"{at}.1", f"{at}.2"
    yield f"features.{blocks + 1}.0", f"features.{blocks + 1}.1"


def timm_pairs(stages: Sequence[int] = STAGES) -> Iterator[tuple[str, str]]:
    yield "conv_stem", "bn1"
    for stage, repeats in enumerate(stages):
        for repeat in range(repeats):
            roles = ["conv_pw", "conv_dw", "conv_pwl"] if stage else ["conv_dw", "conv_pw"]
            for number, role in enumerate(roles, 1):
                yield f"blocks.{stage}.{repeat}.{role}", f"blocks.{stage}.{repeat}.bn{number}"
    yield "conv_head", "bn2"


def transformers_pairs() -> Iterator[tuple[str, str]]:
    layers = ["conv_stem.first_conv", "conv_stem.conv_3x3", "conv_stem.reduce_1x1"]
    for block in range(16):
        layers += [f"layer.{block}.{role}" for role in ("expand_1x1", "conv_3x3", "reduce_1x1")]
    for layer in [*layers, "conv_1x1"]:
        yield f"mobilenet_v2.{layer}.convolution", f"mobilenet_v2.{layer}.normalization"


def keras_pairs() -> Iterator[tuple[str, str]]:
    yield "Conv1", "bn_Conv1"
    for block in range(17):
        prefix = f"block_{block}" if block else "expanded_conv"
        for role in ("expand", "depthwise", "project") if block else ("depthwise", "project"):
            yield f"{prefix}_{role}", f"{prefix}_{role}_BN"
    yield "Conv_1", "Conv_1_bn"


def renamed(tensors: Tensors, pairs: Iterable[tuple[str, str]], classifier: str, blocks: int = 17) -> Tensors:
    found = {f"{classifier}.{part}": tensors[f"classifier.1.{part}"] for part in ("weight", "bias")}
    for (conv, norm), (ours, our_norm) in zip(pairs, torchvision_pairs(blocks), strict=True):
        found[f"{conv}.weight"] = tensors[f"{ours}.weight"]
        found |= {f"{norm}.{part}": tensors[f"{our_norm}.{part}"] for part in NORM}
    return found


def to_keras(tensors: Tensors) -> Tensors:
    """``layer/array`` of Keras to its values: the layout, and a variance that the larger epsilon belongs to."""
    found: Tensors = {}
    for name, values in renamed(tensors, keras_pairs(), "predictions").items():
        layer, part = name.rsplit(".", 1)
        if values.ndim == 4:
            axes = (2, 3, 0, 1) if layer.endswith("depthwise") else (2, 3, 1, 0)
            found[f"{layer}/kernel"] = values.transpose(axes)[::-1, ::-1]
        elif layer == "predictions":
            found[f"{layer}/{'kernel' if part == 'weight' else 'bias'}"] = values.T
        else:
            array = dict(zip(NORM, ("gamma", "beta", "moving_mean", "moving_variance"), strict=True))[part]
            shift = 1e-3 - 1e-5 if part == "running_var" else 0
            found[f"{layer}/{array}"] = (values.astype(np.float64) - shift).astype(np.float32)
    return found


def save_by_name(arrays: Tensors, path: Path, where: str, **attributes: Any) -> None:
    """``where``: with ``{layer}`` and ``{array}``."""
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            layer, array = name.split("/")
            if layer.endswith("depthwise") and where.endswith(":0"):
                array = "depthwise_kernel"  # Keras 2
            file[where.format(layer=layer, array=array)] = values
        file["optimizer_weights/iteration"] = np.int64(7)
        file.attrs.update(attributes)


def by_number(arrays: Tensors, folder: str) -> bytes:
    """``model.weights.h5`` of Keras 3."""
    numbered: dict[str, int] = {}
    places: dict[str, str] = {}
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for conv, norm in keras_pairs():
            kind = "depthwise_conv2d" if conv.endswith("depthwise") else "conv2d"
            for layer, its in ((conv, kind), (norm, "batch_normalization")):
                number = numbered[its] = numbered.get(its, -1) + 1
                places[layer] = f"{folder}/{its}" + (f"_{number}" if number else "")
        places["predictions"] = "layers/dense"
        order = ["gamma", "beta", "moving_mean", "moving_variance"]
        for name, values in arrays.items():
            layer, array = name.split("/")
            position = order.index(array) if array in order else ["kernel", "bias"].index(array)
            file[f"{places[layer]}/vars/{position}"] = values
        file["layers/dropout/seed_generator/vars/0"] = np.zeros(2, np.uint32)
        file["optimizer/vars/0"] = np.int64(7)
        file.create_group("vars")
    return buffer.getvalue()


def archive(path: Path, weights: bytes, config: object) -> None:
    """The file ``.keras``."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("metadata.json", "{}")
        file.writestr("config.json", json.dumps(config))
        file.writestr("model.weights.h5", weights)


def keras_config(size: int, activation: str, *layers: dict[str, Any]) -> dict[str, Any]:
    """The description of a model as in the file: the network inside another, with ``layers`` before it."""
    shape = [None, size, size, 3]
    inner = [{"class_name": "InputLayer", "config": {"batch_shape": shape}}]
    outer = [*inner, *layers, {"class_name": "Functional", "config": {"layers": inner}}]
    dense = {"class_name": "Dense", "config": {"units": 3, "activation": activation}}
    return {"class_name": "Functional", "config": {"layers": [*outer, dense]}}
