"""MobileNetV2 as an OpenVINO model, built in memory from an artifact's tensors.

``build_model`` walks ``service.model.network``'s description, so that every width, class count and stage table that an
artifact can name is covered. What torchvision does in separate steps goes into the convolutions:

* batch norms: see ``folding``;
* the scale of the pixels: the stem sees ``u - 255 * mean`` and its kernel carries ``1 / (255 * std)``. The
  subtraction stays a step of its own, so that the zeros of the padding mean what they mean in torchvision;
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
    net: Network,
    weights: Weights,
    *,
    size: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    rotate_180: bool = False,
    precision: str = "fp32",
    batch: int = 1,
) -> ov.Model:
    """``images`` uint8 (batch, size, size, 3), ``classes`` int32 (batch, K) as ``map_rows`` makes it → logits,
    embeddings, top (int32), maps as in ``BatchOutputs``.

    ``weights`` are those of ``Artifact.load_weights()``; ``precision`` is what the model will be compiled for;
    ``batch=-1`` leaves the batch dimension open. The maps and the features behind them lie in the frame of the image
    as given, whatever ``rotate_180`` says. A convolution's node is named ``layer.conv``, a residual sum its project
    layer's ``layer.conv + SUM``: quantisation leaves some of them alone by name.
    """
    images = ops.parameter([batch, size, size, 3], np.uint8, name="images")
    pixels = ops.subtract(ops.convert(images, "f32"), _constant(255.0 * np.array(mean, np.float32).reshape(1, 1, 1, 3)))
    node = ops.transpose(pixels, np.array([0, 3, 1, 2]))

    red, green, blue = (1.0 / (255.0 * value) for value in std)
    folded = fold(net, weights, precision, (red, green, blue))

    def conv(node: ov.Node, layer: Conv) -> ov.Node:
        nonlocal size
        node = _conv(node, layer, folded[layer.conv], _pads(layer, size, rotate_180), rotate_180)
        size = layer.output_size(size)
        return node

    node = conv(node, net.stem)
    for block in net.blocks:
        shortcut = node
        for layer in block.convs:
            node = conv(node, layer)
        if block.residual:
            node = ops.add(node, shortcut, name=block.convs[-1].conv + SUM)
    features = conv(node, net.head)
    classes = ops.parameter([batch, min(MAPS_PER_ITEM, net.num_classes)], np.int32, name="classes")
    return ov.Model(_heads(features, classes, net, weights), [images, classes], "mobilenet_v2")


def _heads(features: ov.Node, classes: ov.Node, net: Network, weights: Weights) -> list[ov.Node]:
    """Pooling, classifier, and the class activation maps of ``classes``, from one forward pass.

    A class's map is its classifier row times the features of every place. Pooling and classifier are linear, so
    the mean of the map plus the class's bias is its logit.
    """
    classifier = _constant(weights[f"{net.classifier}.weight"])
    bias = _constant(weights[f"{net.classifier}.bias"][np.newaxis])
    embeddings = ops.reduce_mean(features, np.array([2, 3]), keep_dims=False)
    logits = ops.add(ops.matmul(embeddings, classifier, transpose_a=False, transpose_b=True), bias)

    k = min(MAPS_PER_ITEM, net.num_classes)
    # stable: equal logits come by rising index, as in postprocess.classify.
    top = ops.topk(logits, np.array(k), axis=1, mode="max", sort="value", stable=True).output(1)
    mapped = ops.select(ops.less(classes, np.array(0, np.int32)), top, classes)
    rows = ops.gather(classifier, mapped, np.array(0))  # (B, K, embedding_dim)
    places = ops.reshape(features, np.array([0, 0, -1]), special_zero=True)  # (B, embedding_dim, S * S)
    flat = ops.matmul(rows, places, transpose_a=False, transpose_b=False)
    side = features.get_output_partial_shape(0)[2].get_length()
    maps = ops.reshape(flat, np.array([0, 0, side, side]), special_zero=True)

    results = []
    for name, output in zip(OUTPUTS, (logits.output(0), embeddings.output(0), top, maps.output(0)), strict=True):
        output.get_tensor().set_names({name})
        results.append(ops.result(output))
    return results


def _conv(node: ov.Node, layer: Conv, folded: Folded, pads: tuple[int, int], rotate_180: bool) -> ov.Node:
    """Convolution, bias, and ReLU6 where the layer has one."""
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
    """Padding before and after a side of ``size``, for the kernel flipped if ``rotate_180``.

    A ``rotate_180`` artifact is defined as: rotate the image, apply torchvision's network. Rotating nothing and
    flipping the kernels instead gives the same features, upright, if the padding follows. On one axis, with
    ``f`` the flip, ``x`` of N entries, kernel ``w`` of 3, stride 2 and padding 1, torchvision computes

        y[i] = Σ_k w[k] · f(x)[2i + k - 1] = Σ_k w[k] · x[N - 2i - k]           (f(x)[j] = x[N - 1 - j])

    Let M be the length of ``y``; the flipped result, with m = 2 - k, is

        f(y)[i] = y[M - 1 - i] = Σ_m w[2 - m] · x[2i + m + N - 2M]

    which is a convolution with the flipped kernel that pads 2M - N entries before: none for even N (M = N/2),
    one for odd N (M = (N + 1)/2). After, both need one. By the same argument stride 1 keeps its padding of 1,
    and a 1×1 kernel knows no direction. Element-wise steps, residual sums and pooling commute with the flip.
    """
    padding = (layer.kernel - 1) // 2
    if rotate_180 and layer.stride == 2 and layer.kernel == 3:
        return 2 * layer.output_size(size) - size, padding
    return padding, padding


def _constant(values: NDArray[np.float32]) -> ov.Node:
    return ops.constant(np.ascontiguousarray(values))
