"""torchvision's ``MobileNetV2`` as one module from pixels to logits, embeddings and class maps.

Unchanged, it is the reference. Folded, it runs on a GPU: batch norms, standard deviation and the factor 255 of the
pixels are part of the convolutions, which leaves one subtraction before them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.mobilenetv2 import MobileNetV2

from service.errors import ArtifactError
from service.model.artifact import Artifact
from service.model.network import Network
from service.model.outputs import MAPS_PER_ITEM
from service.runtimes.folding import Weights, fold

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class DeviceOutputs(NamedTuple):
    """``BatchOutputs`` as tensors on the device."""

    logits: Tensor  # (B, num_classes) float32
    embeddings: Tensor  # (B, embedding_dim) float32
    top: Tensor  # (B, K) int64
    maps: Tensor  # (B, K, S, S) float32


class Classifier(nn.Module):
    """uint8 (B, S, S, 3) and ``map_rows`` (B, K) on the module's device → ``DeviceOutputs``.

    ``normalize`` converts pixels for the features, to float32 or their own precision. Pooling, classifier and maps are
    always float32: they take little time, and half precision could change the order of close logits.
    """

    def __init__(self, model: MobileNetV2, normalize: nn.Module, rotate_180: bool) -> None:
        super().__init__()
        self.features = model.features
        linear = model.classifier[-1]  # the dropout before it does nothing at inference
        assert isinstance(linear, nn.Linear)
        self.linear = linear
        self.normalize = normalize
        self.rotate_180 = rotate_180

    @property
    def maps(self) -> int:
        """K."""
        return min(MAPS_PER_ITEM, self.linear.out_features)

    def forward(self, images: Tensor, classes: Tensor) -> DeviceOutputs:
        # A view: packed RGB pixels are already channels_last.
        normalized = self.normalize(images.permute(0, 3, 1, 2))
        if self.rotate_180:
            normalized = torch.flip(normalized, (2, 3))
        features = self.features(normalized).float()
        embeddings = features.mean((2, 3))
        logits = self.linear(embeddings)

        # A stable sort orders equal logits by index; the order of topk is undefined.
        top = torch.sort(logits, dim=1, descending=True, stable=True).indices[:, : self.maps].contiguous()
        map_classes = torch.where(classes < 0, top, classes)
        maps = (self.linear.weight[map_classes] @ features.flatten(2)).unflatten(2, features.shape[2:])
        if self.rotate_180:
            maps = torch.flip(maps, (2, 3))
        return DeviceOutputs(logits, embeddings, top, maps)


class Normalize(nn.Module):
    """uint8 (B, 3, S, S) → float32, as torchvision does it: ``(u / 255 - mean) / std``."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels.float() / 255 - self.mean) / self.std


class Center(nn.Module):
    """uint8 (B, 3, S, S) → ``u - 255 * mean``, subtracted in float32, rounded to ``dtype``.

    It is not folded into the stem, so that the padding's zeros mean the same as in torchvision.
    """

    center: Tensor

    def __init__(self, mean: tuple[float, ...], dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.register_buffer("center", 255 * torch.tensor(mean).view(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        # With ``out`` one kernel converts, subtracts and rounds.
        return torch.sub(pixels, self.center, out=torch.empty_like(pixels, dtype=self.dtype))


def load_classifier(artifact: Artifact, *, folded_to: str | None = None) -> Classifier:
    """The artifact's network in eval mode on the CPU, channels_last.

    Without ``folded_to`` it is torchvision's graph in fp32. With it, the graph is folded (``folding``) and its features
    have that precision; corrected rounding to fp16 and bf16 loses less than rounding convolutions and batch norms.
    Raises ArtifactError if the weights are not exactly those that torchvision's class expects.
    """
    architecture, preprocessing = artifact.manifest.architecture, artifact.manifest.preprocessing
    rows = architecture.inverted_residual_setting
    model = MobileNetV2(
        num_classes=architecture.num_classes,
        width_mult=architecture.width_mult,
        inverted_residual_setting=None if rows is None else [list(row) for row in rows],
        round_nearest=architecture.round_nearest,
    )
    # np.array makes a writable copy, which from_numpy requires.
    weights = artifact.load_weights()
    state = {name: torch.from_numpy(np.array(value)) for name, value in weights.items()}
    try:
        model.load_state_dict(state)  # which does not ask for the batch norms' counters of training steps
    except RuntimeError as error:
        raise ArtifactError(f"{artifact.reference}: weights do not fit torchvision's MobileNetV2 ({error})") from None
    model.eval().requires_grad_(False)
    normalize: nn.Module
    if folded_to is None:
        normalize = Normalize(preprocessing.mean, preprocessing.std)
    else:
        _fold_into(model, artifact.network, weights, folded_to, preprocessing.std)
        model.features.to(DTYPES[folded_to])
        normalize = Center(preprocessing.mean, DTYPES[folded_to])
    classifier = Classifier(model, normalize, preprocessing.rotate_180)
    return classifier.eval().to(memory_format=torch.channels_last)


def _fold_into(
    model: MobileNetV2, network: Network, weights: Weights, precision: str, std: tuple[float, float, float]
) -> None:
    """Give every convolution of ``model`` its folded kernel and bias, and remove the batch norms; in place.

    The stem then expects ``Center``'s output.
    """
    folded = fold(network, weights, precision, std)
    for layer in network.convs():
        conv = model.get_submodule(layer.conv)
        conv.weight, conv.bias = (
            nn.Parameter(torch.from_numpy(values), requires_grad=False) for values in folded[layer.conv]
        )
        parent, _, name = layer.norm.rpartition(".")
        setattr(model.get_submodule(parent), name, nn.Identity())
