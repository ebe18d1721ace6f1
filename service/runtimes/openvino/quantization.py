"""Post-training quantisation of ``openvino_graph``'s fp32 network with NNCF; used by ``store.quantize`` only.

images (uint8) ─► ranges of activations (histograms) ─► FakeQuantize operations ─► biases corrected ─► XML + constants
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.model.artifact import Artifact
from service.model.network import Network
from service.model.outputs import MAPS_PER_ITEM
from service.runtimes.openvino.graph import SUM
from service.runtimes.openvino.imports import ov
from service.runtimes.openvino.recipes import Recipe, require_nncf
from service.runtimes.openvino.runtime import graph_from_weights

#: Of the graph, for one image.
Inputs = tuple[NDArray[np.uint8], NDArray[np.int32]]


def quantize_network(
    artifact: Artifact,
    images: Sequence[NDArray[np.uint8]],
    recipe: Recipe,
    advance: Callable[[int], object] = lambda calls: None,
) -> tuple[bytes, bytes]:
    """(graph, constants) of ``artifact`` in int8, calibrated on ``images``, each (S, S, 3).

    ``advance`` hears how many images have been read: one pass for the ranges, another for the biases. Takes some
    ten seconds for 200 images. Raises MissingExtra or ArtifactError.
    """
    require_nncf()
    model = graph_from_weights(artifact, "fp32")
    calls = 0

    no_classes = np.full((1, min(MAPS_PER_ITEM, artifact.network.num_classes)), -1, np.int32)

    def feed(image: NDArray[np.uint8]) -> Inputs:
        nonlocal calls
        calls += 1
        advance(calls)
        return image[np.newaxis], no_classes

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NNCF's and its dependencies', which are none of the operator's business
        with contextlib.redirect_stdout(io.StringIO()):  # it draws bars of its own
            quantized = _nncf_quantize(model, images, feed, recipe, artifact.network)
    return xml_and_constants(quantized)


def _nncf_quantize(
    model: ov.Model,
    images: Sequence[NDArray[np.uint8]],
    feed: Callable[[NDArray[np.uint8]], Inputs],
    recipe: Recipe,
    net: Network,
) -> Any:
    # Where torch is installed, NNCF imports it, and torch complains that there is no GPU.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    import nncf
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    logging.getLogger("nncf").setLevel(logging.ERROR)
    return nncf.quantize(
        model,
        nncf.Dataset(list(images), feed),
        # Symmetric weights; activations by their range, for those that ReLU6 leaves are never negative.
        preset=nncf.QuantizationPreset.MIXED,
        target_device=nncf.TargetDevice.CPU,
        subset_size=len(images),
        fast_bias_correction=False,
        ignored_scope=nncf.IgnoredScope(
            names=kept_in_fp32(recipe, net), types=["MatMul", "Gather", "ReduceMean"], validate=False
        ),
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            # Not the extremes: rare outliers would widen every step.
            activations_range_estimator_params=RangeEstimatorParametersSet.HISTOGRAM
        ),
    )


def kept_in_fp32(recipe: Recipe, net: Network) -> list[str]:
    """Names of the graph's operations that ``recipe`` leaves alone."""
    convs = [layer.conv for layer in net.convs()][: recipe.fp32_convs]
    sums = [block.convs[-1].conv + SUM for block in net.blocks if block.residual]
    return convs + (sums if recipe.fp32_sums else [])


def xml_and_constants(model: ov.Model) -> tuple[bytes, bytes]:
    """XML and constants as ``Core.read_model`` takes them; nodes that nobody named are numbered from zero.

    OpenVINO numbers them by a counter of the process, and the same graph would be another file each time.
    """
    for index, operation in enumerate(model.get_ordered_ops()):
        if re.fullmatch(r"[A-Za-z]+_\d+(/.*)?", operation.get_friendly_name()):
            operation.set_friendly_name(f"{operation.get_type_name()}_{index}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        ov.save_model(model, path, compress_to_fp16=False)
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()
