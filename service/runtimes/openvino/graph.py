"""MobileNetV2 as an OpenVINO model, built in memory from an artifact's tensors.

``build_model`` follows the description in ``service.model.network``, so it covers every width, class count and stage
table of an artifact. Steps that are separate in torchvision are part of the convolutions:

* batch norms and the standard deviation of pixels: see ``folding``;
* the scale of the pixels: the stem receives ``u - 255 * mean``. The subtraction remains a separate step, so that the
  padding's zeros mean the same as in torchvision;
* the rotation of ``rotate_180`` artifacts: see ``_pads``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from service.model.network import Conv, Network
from service.model.outputs import MAPS_PER_ITEM
from service.runtimes.folding import Folded, Weights, fold
from service.runtimes.openvino.imports import ops, ov

#: Names of the outputs, in the order of ``BatchOutputs``.
OUTPUTS = ("logits", "embeddings", "top", "maps")

#: Ending of a residual sum's node name.
SUM = "/sum"


def build_model(
    network: Network,
    weights: Weights,
    *,
    size: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    rotate_180: bool = False,
    precision: str = "fp32",
) -> ov.Model:
    """``images`` uint8 (1, size, size, 3), ``classes`` int32 (1, K) as ``map_rows`` makes it → logits, embeddings, top
    (int32), maps as in ``BatchOutputs``.

    ``weights`` are those of ``Artifact.load_weights()``; ``precision`` is what the model will be compiled for. Maps
    have the orientation of ``images``, whatever ``rotate_180`` is. A convolution's node is named ``layer.conv``, a
    residual sum ``layer.conv + SUM`` after its projection: quantisation excludes some of them by name.
    """
    images = ops.parameter([1, size, size, 3], np.uint8, name="images")
    pixels = ops.subtract(ops.convert(images, "f32"), _constant(255.0 * np.array(mean, np.float32).reshape(1, 1, 1, 3)))
    node = ops.transpose(pixels, np.array([0, 3, 1, 2]))

    folded = fold(network, weights, precision, std)

    def conv(node: ov.Node, layer: Conv) -> ov.Node:
        nonlocal size
        node = _conv(node, layer, folded[layer.conv], _pads(layer, size, rotate_180), rotate_180)
        size = layer.output_size(size)
        return node

    node = conv(node, network.stem)
    for block in network.blocks:
        shortcut = node
        for layer in block.convs:
            node = conv(node, layer)
        if block.residual:
            node = ops.add(node, shortcut, name=block.convs[-1].conv + SUM)
    features = conv(node, network.head)
    classes = ops.parameter([1, min(MAPS_PER_ITEM, network.num_classes)], np.int32, name="classes")
    return ov.Model(_heads(features, classes, network, weights), [images, classes], "mobilenet_v2")


def _heads(features: ov.Node, classes: ov.Node, network: Network, weights: Weights) -> list[ov.Node]:
    """Pooling, classifier, and the class activation maps of ``classes``, from one forward pass.

    A class's map is the product of its classifier row with the features of each cell. Pooling and classifier are
    linear, so the mean of the map plus the class's bias is its logit.
    """
    classifier = _constant(weights[f"{network.classifier}.weight"])
    bias = _constant(weights[f"{network.classifier}.bias"][np.newaxis])
    embeddings = ops.reduce_mean(features, np.array([2, 3]), keep_dims=False)
    logits = ops.add(ops.matmul(embeddings, classifier, transpose_a=False, transpose_b=True), bias)

    k = min(MAPS_PER_ITEM, network.num_classes)
    # stable: equal logits are ordered by index, as in ``outputs.classify``.
    top = ops.topk(logits, np.array(k), axis=1, mode="max", sort="value", stable=True).output(1)
    map_classes = ops.select(ops.less(classes, np.array(0, np.int32)), top, classes)
    rows = ops.gather(classifier, map_classes, np.array(0))  # (B, K, embedding_dim)
    cells = ops.reshape(features, np.array([0, 0, -1]), special_zero=True)  # (B, embedding_dim, S * S)
    flat = ops.matmul(rows, cells, transpose_a=False, transpose_b=False)
    side = features.get_output_partial_shape(0)[2].get_length()
    maps = ops.reshape(flat, np.array([0, 0, side, side]), special_zero=True)

    results = []
    for name, output in zip(OUTPUTS, (logits.output(0), embeddings.output(0), top, maps.output(0)), strict=True):
        output.get_tensor().set_names({name})
        results.append(ops.result(output))
    return results


def _conv(node: ov.Node, layer: Conv, folded: Folded, pads: tuple[int, int], rotate_180: bool) -> ov.Node:
    """Convolution, bias, and ReLU6 if the layer has one."""
    kernel = folded.kernel[:, :, ::-1, ::-1] if rotate_180 else folded.kernel
    strides, begins, ends = [layer.stride] * 2, [pads[0]] * 2, [pads[1]] * 2
    if layer.groups == 1:
        node = ops.convolution(node, _constant(kernel), strides, begins, ends, [1, 1], name=layer.conv)
    else:
        grouped = kernel.reshape(layer.groups, layer.out_channels // layer.groups, *kernel.shape[1:])
        node = ops.group_convolution(node, _constant(grouped), strides, begins, ends, [1, 1], name=layer.conv)
    node = ops.add(node, _constant(folded.bias[np.newaxis, :, np.newaxis, np.newaxis]))
    return ops.clamp(node, 0.0, 6.0) if layer.activation else node


def _pads(layer: Conv, size: int, rotate_180: bool) -> tuple[int, int]:
    """Padding before and after an axis of ``size``, for a kernel that is flipped if ``rotate_180``.

    A ``rotate_180`` artifact is defined as: rotate the image, then apply torchvision's network. Flipping the kernels
    instead of the image gives the same features, upright, if the padding is right. On one axis, where ``f`` is the
    flip, ``x`` has N entries and the kernel ``w`` 3, with stride 2 and padding 1, torchvision computes

        y[i] = Σ_k w[k] · f(x)[2i + k - 1] = Σ_k w[k] · x[N - 2i - k]           (f(x)[j] = x[N - 1 - j])

    Let M be the length of ``y``; the flipped result, with m = 2 - k, is

        f(y)[i] = y[M - 1 - i] = Σ_m w[2 - m] · x[2i + m + N - 2M]

    which is a convolution with the flipped kernel that pads 2M - N entries before: 0 for even N (M = N/2), 1 for odd N
    (M = (N + 1)/2). Both need 1 after. By the same argument the padding for stride 1 stays 1, and a 1×1 kernel has no
    direction. Element-wise steps, residual sums and pooling commute with the flip.
    """
    padding = (layer.kernel - 1) // 2
    if rotate_180 and layer.stride == 2 and layer.kernel == 3:
        return 2 * layer.output_size(size) - size, padding
    return padding, padding


def _constant(values: NDArray[np.float32]) -> ov.Node:
    return ops.constant(np.ascontiguousarray(values))
