"""The checkpoint of a MobileNetV2 as Keras has it: array names and layouts. Shares nothing with ``service``.

Written after keras-applications' ``mobilenet_v2.py`` of 2018; ``keras_forward.py`` computes with it.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

TABLE = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]

Arrays = dict[str, NDArray[np.float32]]


def random_arrays(channels: list[int], stem: int, last: int, classes: int) -> Arrays:
    """Path in the HDF5 file to array, for stages of ``channels`` (one number for each row of the table)."""
    rng = np.random.default_rng(0)
    arrays: Arrays = {}

    def put(layer: str, array: str, values: NDArray[np.float64]) -> None:
        arrays[f"{layer}/{layer}/{array}:0"] = values.astype(np.float32)

    def conv(layer: str, norm: str, height: int, inputs: int, outputs: int, depthwise: bool = False) -> None:
        shape = (height, height, inputs, 1 if depthwise else outputs)
        fan_in = height * height * (1 if depthwise else inputs)
        put(layer, "depthwise_kernel" if depthwise else "kernel", rng.normal(0, (2 / fan_in) ** 0.5, shape))
        put(norm, "gamma", rng.uniform(0.8, 1.2, outputs))
        put(norm, "beta", rng.normal(0, 0.1, outputs))
        put(norm, "moving_mean", rng.normal(0, 0.1, outputs))
        # Small enough that an epsilon of 1e-3 instead of 1e-5 is seen, not so small that rounding is magnified.
        put(norm, "moving_variance", rng.uniform(0.05, 1.5, outputs))

    conv("Conv1", "bn_Conv1", 3, 3, stem)
    inputs, block = stem, 0
    for (expansion, _, repeats, _), outputs in zip(TABLE, channels, strict=True):
        for _ in range(repeats):
            conv_name, norm_name = f"mobl{block}_conv_{block}_", f"bn{block}_conv_{block}_bn_"
            hidden = inputs * expansion
            if expansion != 1:
                conv(conv_name + "expand", norm_name + "expand", 1, inputs, hidden)
            conv(conv_name + "depthwise", norm_name + "depthwise", 3, hidden, hidden, depthwise=True)
            conv(conv_name + "project", norm_name + "project", 1, hidden, outputs)
            inputs, block = outputs, block + 1
    conv("Conv_1", "Conv_1_bn", 1, inputs, last)
    put("Logits", "kernel", rng.normal(0, last**-0.5, (last, classes)))
    put("Logits", "bias", rng.normal(0, 0.1, classes))
    return arrays


def save(arrays: Arrays, path: Path) -> None:
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values


def read(path: Path) -> Arrays:
    arrays: Arrays = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            arrays[name] = np.asarray(item)

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return arrays
