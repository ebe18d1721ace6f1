"""MobileNetV2's forward pass in plain numpy, float64: slow, short, and shares no code with any runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.model.network import BATCH_NORM_EPSILON, Conv, Network

Float64 = NDArray[np.float64]
Tensors = Mapping[str, NDArray[Any]]


def features(tensors: Tensors, net: Network, image: Float64) -> Float64:
    """Normalised pixels (3, S, S) to pooled features (embedding_dim,)."""
    x = _layer(tensors, net.stem, image)
    for block in net.blocks:
        y = x
        for layer in block.convs:
            y = _layer(tensors, layer, y)
        x = x + y if block.residual else y
    pooled: Float64 = _layer(tensors, net.head, x).mean(axis=(1, 2))
    return pooled


def logits(tensors: Tensors, net: Network, image: Float64) -> Float64:
    """Normalised pixels (3, S, S) to logits (num_classes,)."""
    weight, bias = (tensors[f"{net.classifier}.{part}"].astype(np.float64) for part in ("weight", "bias"))
    result: Float64 = weight @ features(tensors, net, image) + bias
    return result


def _layer(tensors: Tensors, layer: Conv, x: Float64) -> Float64:
    kernel = tensors[f"{layer.conv}.weight"].astype(np.float64)
    gamma, beta, mean, variance = (
        tensors[f"{layer.norm}.{part}"].astype(np.float64)[:, None, None]
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    pad = (layer.kernel - 1) // 2
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    size = (x.shape[1] - layer.kernel) // layer.stride + 1
    y: Float64 = np.zeros((layer.out_channels, size, size))
    for row in range(layer.kernel):
        for column in range(layer.kernel):
            end_row, end_column = row + layer.stride * size, column + layer.stride * size
            window = x[:, row : end_row : layer.stride, column : end_column : layer.stride]
            taps = kernel[:, :, row, column]
            y += taps[:, :, None] * window if layer.groups > 1 else np.tensordot(taps, window, 1)
    y = gamma * (y - mean) / np.sqrt(variance + BATCH_NORM_EPSILON) + beta
    return np.clip(y, 0, 6) if layer.activation else y
