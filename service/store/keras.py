"""Converts Keras' MobileNetV2 checkpoint (HDF5) to float32 arrays under torchvision's names.

The converted network computes the same function. The two implementations differ in three ways:

* Layout. Keras' kernels are (height, width, in, out), torchvision's (out, in, height, width); depthwise kernels are
  (height, width, channels, 1) and (channels, 1, height, width).
* Epsilon. Keras' batch norm adds 1e-3 to the variance, torchvision's 1e-5; the difference is added to the running
  variance.
* Padding. For a stride-2 3×3 convolution on an even input, TensorFlow's "SAME" pads at the bottom and right only, torch
  on all sides, of which top and left take effect. One is the other rotated by 180°: with all 3×3 kernels and the image
  rotated, torch computes TensorFlow's result, rotated, and pooling removes the rotation. The manifests of such weights
  have ``rotate_180``. All stride-2 inputs must be even: the image's side must be a multiple of 32.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import PullError
from service.model.network import BATCH_NORM_EPSILON, Conv, Network
from service.store.checkpoint import Arrays

#: The epsilon of every batch norm in Keras' MobileNetV2.
KERAS_EPSILON = 1e-3

#: Keras' names of a batch norm's arrays under torchvision's.
_NORM = {"weight": "gamma:0", "bias": "beta:0", "running_mean": "moving_mean:0", "running_var": "moving_variance:0"}


def convert(path: Path, network: Network) -> Arrays:
    """The tensors of ``network`` from the HDF5 file at ``path``; 3×3 kernels are rotated by 180°.

    Raises PullError if the file is not a checkpoint of this network.
    """
    # Imported here because only a pull needs it.
    import h5py

    try:
        with h5py.File(path, "r") as file:
            tensors = dict(_tensors(file, network))
    except OSError as error:
        raise PullError(f"the Keras checkpoint is not a readable HDF5 file ({error})") from None
    except (KeyError, ValueError) as error:
        raise PullError(f"the Keras checkpoint does not hold this network: {error.args[0]}") from None
    for name, shape in network.parameter_shapes().items():
        if tensors[name].shape != shape:
            raise PullError(f"the Keras checkpoint has {name} of shape {tensors[name].shape}, expected {shape}")
    return tensors


def layer_names(network: Network) -> Iterator[tuple[Conv, str, str]]:
    """Each convolution with Keras' names for it and for its batch norm."""
    yield network.stem, "Conv1", "bn_Conv1"
    for index, block in enumerate(network.blocks):
        roles = ("expand", "depthwise", "project")[-len(block.convs) :]
        for layer, role in zip(block.convs, roles, strict=True):
            yield layer, f"mobl{index}_conv_{index}_{role}", f"bn{index}_conv_{index}_bn_{role}"
    yield network.head, "Conv_1", "Conv_1_bn"


def _tensors(file: Any, network: Network) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for layer, conv, norm in layer_names(network):
        depthwise = layer.groups > 1
        kernel = _read(file, conv, "depthwise_kernel:0" if depthwise else "kernel:0")
        kernel = kernel.transpose(2, 3, 0, 1) if depthwise else kernel.transpose(3, 2, 0, 1)
        yield f"{layer.conv}.weight", np.ascontiguousarray(kernel[:, :, ::-1, ::-1])
        for ours, theirs in _NORM.items():
            values = _read(file, norm, theirs)
            if ours == "running_var":
                values = (values.astype(np.float64) + (KERAS_EPSILON - BATCH_NORM_EPSILON)).astype(np.float32)
            yield f"{layer.norm}.{ours}", values
    yield f"{network.classifier}.weight", np.ascontiguousarray(_read(file, "Logits", "kernel:0").T)
    yield f"{network.classifier}.bias", _read(file, "Logits", "bias:0")


def _read(file: Any, layer: str, array: str) -> NDArray[np.float32]:
    # Keras repeats the layer's name in the path.
    return np.asarray(file[f"{layer}/{layer}/{array}"], dtype=np.float32)
