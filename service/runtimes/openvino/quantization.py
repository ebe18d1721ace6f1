"""Post-training quantisation of the fp32 network of ``graph`` with NNCF; used only by ``store.quantize``.

images (uint8) ─► ranges of activations (histograms) ─► FakeQuantize operations ─► bias correction ─► XML + constants
"""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import re
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.model.artifact import Artifact
from service.model.network import Network
from service.model.outputs import MAPS_PER_ITEM
from service.runtimes.openvino.graph import SUM
from service.runtimes.openvino.imports import ov
from service.runtimes.openvino.recipes import Recipe
from service.runtimes.openvino.runtime import graph_from_weights


def quantize_network(
    artifact: Artifact,
    images: Sequence[NDArray[np.uint8]],
    recipe: Recipe,
    advance: Callable[[int], object],
) -> tuple[bytes, bytes]:
    """(graph, constants) of ``artifact`` in int8, calibrated on ``images``, each (S, S, 3).

    ``advance`` is called with the number of images read so far: one pass for the ranges, another for the biases. Takes
    about ten seconds for 200 images. Raises ArtifactError.
    """
    model = graph_from_weights(artifact, "fp32")
    calls = itertools.count(1)
    no_classes = np.full((1, min(MAPS_PER_ITEM, artifact.network.num_classes)), -1, np.int32)

    def feed(image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """The graph's inputs for ``image``."""
        advance(next(calls))
        return image[np.newaxis], no_classes

    # NNCF and its dependencies warn; its progress bars go to standard output.
    with warnings.catch_warnings(action="ignore"), contextlib.redirect_stdout(io.StringIO()):
        # NNCF imports torch if it is installed, and torch logs that there is no GPU.
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
        import nncf
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet

        logging.getLogger("nncf").setLevel(logging.ERROR)
        quantized = nncf.quantize(
            model,
            nncf.Dataset(list(images), feed),
            # Symmetric weights; asymmetric activations, because after ReLU6 they are never negative.
            preset=nncf.QuantizationPreset.MIXED,
            target_device=nncf.TargetDevice.CPU,
            subset_size=len(images),
            fast_bias_correction=False,
            ignored_scope=nncf.IgnoredScope(
                names=kept_in_fp32(recipe, artifact.network), types=["MatMul", "Gather", "ReduceMean"], validate=False
            ),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                # Not minimum and maximum: rare outliers would make every step wider.
                activations_range_estimator_params=RangeEstimatorParametersSet.HISTOGRAM
            ),
        )
    return xml_and_constants(quantized)


def kept_in_fp32(recipe: Recipe, network: Network) -> list[str]:
    """Names of the graph's operations that ``recipe`` does not quantise."""
    convs = [layer.conv for layer in network.convs()][: recipe.fp32_convs]
    return convs + [block.convs[-1].conv + SUM for block in network.blocks if block.residual]


def xml_and_constants(model: ov.Model) -> tuple[bytes, bytes]:
    """XML and constants as ``Core.read_model`` takes them; unnamed nodes are numbered from zero.

    OpenVINO numbers them with a counter of the process, so the same graph would give different files.
    """
    for index, operation in enumerate(model.get_ordered_ops()):
        if re.fullmatch(r"[A-Za-z]+_\d+(/.*)?", operation.get_friendly_name()):
            operation.set_friendly_name(f"{operation.get_type_name()}_{index}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        ov.save_model(model, path, compress_to_fp16=False)
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()
