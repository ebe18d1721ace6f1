"""torchvision's own ``MobileNetV2`` with what a request needs around it, as one module from pixels to class maps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.mobilenetv2 import MobileNetV2

from service.artifact import Artifact
from service.errors import ArtifactError
from service.network import Network
from service.postprocess import MAPS_PER_ITEM
from service.runtimes.folding import Weights, fold

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Answers(NamedTuple):
    """``BatchOutputs`` as tensors on the device."""

    logits: Tensor  # (B, num_classes) float32
    embeddings: Tensor  # (B, embedding_dim) float32
    top: Tensor  # (B, K) int64
    maps: Tensor  # (B, K, S, S) float32


class Classifier(nn.Module):
    """uint8 (B, S, S, 3) on the module's device → ``Answers``.

    Pixels are normalised in float32 and then take the precision of the features; pooling, classifier and maps are
    float32 whatever that precision is: they cost nothing, and logits in half precision would lose the order of
    close classes.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: MobileNetV2, mean: tuple[float, ...], std: tuple[float, ...], rotate_180: bool) -> None:
        super().__init__()
        self.features = model.features
        linear = model.classifier[-1]  # before it stands a dropout, which does nothing at inference
        assert isinstance(linear, nn.Linear)
        self.linear = linear
        self.rotate_180 = rotate_180
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Answers:
        # A view: packed RGB pixels are what torch calls channels_last.
        pixels = images.permute(0, 3, 1, 2).float() / 255
        normalized = (pixels - self.mean) / self.std
        if self.rotate_180:
            normalized = torch.flip(normalized, (2, 3))
        dtype = next(self.features.parameters()).dtype
        features = self.features(normalized.to(dtype)).float()
        embeddings = features.mean((2, 3))
        logits = self.linear(embeddings)

        k = min(MAPS_PER_ITEM, self.linear.out_features)
        # A stable sort, for topk leaves the order of equal logits open: here they come by rising index.
        top = torch.sort(logits, dim=1, descending=True, stable=True).indices[:, :k].contiguous()
        maps = (self.linear.weight[top] @ features.flatten(2)).unflatten(2, features.shape[2:])
        if self.rotate_180:
            maps = torch.flip(maps, (2, 3))
        return Answers(logits, embeddings, top, maps)


def load_classifier(artifact: Artifact, precision: str = "fp32") -> Classifier:
    """The artifact's network in eval mode on the CPU, channels_last, its features in ``precision``.

    In fp32 it is torchvision's graph, untouched. In fp16 and bf16 the batch norms are folded by ``folding``, whose
    corrected rounding loses less than rounding the parameters of both.
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
    # np.array: a copy that torch may write to, as from_numpy demands.
    weights = artifact.load_weights()
    state = {name: torch.from_numpy(np.array(value)) for name, value in weights.items()}
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise ArtifactError(f"{artifact.reference}: weights do not fit torchvision's MobileNetV2 ({error})") from None
    # A counter of training steps, which only a momentum of None would use.
    missing = [name for name in missing if not name.endswith(".num_batches_tracked")]
    if missing or unexpected:
        raise ArtifactError(
            f"{artifact.reference}: weights do not fit torchvision's MobileNetV2: {missing + unexpected}"
        )

    model.eval().requires_grad_(False)
    if precision != "fp32":
        fold_batch_norms(model, artifact.network, weights, precision)
    model.features.to(DTYPES[precision])
    classifier = Classifier(model, preprocessing.mean, preprocessing.std, preprocessing.rotate_180)
    return classifier.eval().to(memory_format=torch.channels_last)


def fold_batch_norms(model: MobileNetV2, net: Network, weights: Weights, precision: str) -> None:
    """Give every convolution of ``model`` its folded kernel and bias, and remove the batch norms; in place."""
    folded = fold(net, weights, precision)
    for layer in net.convs():
        conv = model.get_submodule(layer.conv)
        conv.weight, conv.bias = (
            nn.Parameter(torch.from_numpy(values), requires_grad=False) for values in folded[layer.conv]
        )
        parent, _, name = layer.norm.rpartition(".")
        setattr(model.get_submodule(parent), name, nn.Identity())
