"""The forward pass of Keras' MobileNetV2 in torch: padding and epsilon of its own. Shares nothing with ``service``.

Written after keras-applications' ``mobilenet_v2.py`` of 2018 ("SAME" padding) and TensorFlow's definition of that
padding: output = ceil(input / stride), the odd pixel at the end.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from tests.store.keras_model import TABLE, Arrays

EPSILON = 1e-3


def forward(arrays: Arrays, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(1, 3, S, S) pixels in [-1, 1], float64, to pooled features (1, F) and logits (1, classes)."""

    def get(layer: str, array: str) -> torch.Tensor:
        return torch.from_numpy(arrays[f"{layer}/{layer}/{array}:0"].astype(np.float64))

    def conv(x: torch.Tensor, layer: str, norm: str, stride: int = 1, relu6: bool = True) -> torch.Tensor:
        if layer.endswith("depthwise"):
            kernel, groups = get(layer, "depthwise_kernel").permute(2, 3, 0, 1), x.shape[1]
        else:
            kernel, groups = get(layer, "kernel").permute(3, 2, 0, 1), 1
        y = functional.conv2d(same_padding(x, kernel.shape[-1], stride), kernel, stride=stride, groups=groups)
        mean, variance, gamma, beta = (
            get(norm, array)[:, None, None] for array in ("moving_mean", "moving_variance", "gamma", "beta")
        )
        y = (y - mean) / torch.sqrt(variance + EPSILON) * gamma + beta
        return y.clamp(0, 6) if relu6 else y

    x = conv(image.double(), "Conv1", "bn_Conv1", stride=2)
    block = 0
    for expansion, _, repeats, first_stride in TABLE:
        for repeat in range(repeats):
            conv_name, norm_name = f"mobl{block}_conv_{block}_", f"bn{block}_conv_{block}_bn_"
            stride = first_stride if repeat == 0 else 1
            y = conv(x, conv_name + "expand", norm_name + "expand") if expansion != 1 else x
            y = conv(y, conv_name + "depthwise", norm_name + "depthwise", stride)
            y = conv(y, conv_name + "project", norm_name + "project", relu6=False)
            x = x + y if stride == 1 and x.shape == y.shape else y
            block += 1
    pooled = conv(x, "Conv_1", "Conv_1_bn").mean((2, 3))
    return pooled, pooled @ get("Logits", "kernel") + get("Logits", "bias")


def same_padding(x: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
    size = x.shape[-1]
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    before, after = total // 2, total - total // 2
    return functional.pad(x, (before, after, before, after))
