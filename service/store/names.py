"""How each library names the tensors of a MobileNetV2."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from service.errors import ArtifactError
from service.model.network import PAPER_STAGES


class Pair(NamedTuple):
    """Prefixes of the parameters of a convolution and of its batch norm."""

    conv: str
    norm: str


@dataclass(frozen=True, slots=True)
class Layout:
    """The convolutions of a network, in order."""

    family: str
    stem: Pair
    blocks: list[list[Pair]]  # expand (unless the expansion is 1), depthwise, project
    head: Pair
    stages: tuple[int, ...] = tuple(stage.n for stage in PAPER_STAGES)  # blocks of each

    def pairs(self) -> Iterator[Pair]:
        yield self.stem
        for block in self.blocks:
            yield from block
        yield self.head


def find(names: Collection[str], file: str) -> tuple[str, Layout]:
    """The prefix under which the network lies in ``names`` (``module.``, ``model.backbone.``, …), and its layout.

    Raises ArtifactError if there is no such network in ``file``, or more than one.
    """
    for pattern, other in _OTHERS.items():
        if any(re.search(pattern, name) for name in names):
            raise ArtifactError(f"{file} is no MobileNetV2: its tensors are named like those of {other}")
    found = [
        (name.removesuffix(anchor), layout)
        for anchor, layout in _FAMILIES.items()
        for name in names
        if f".{name}".endswith(f".{anchor}")
    ]
    if not found:
        first = f"its first tensor is {min(names)}" if names else "it has no tensors"
        raise ArtifactError(f"{file} is no MobileNetV2 of torchvision, timm, Transformers or Keras: {first}")
    if len(found) > 1:
        prefixes = " and ".join(sorted(prefix or "no prefix" for prefix, _ in found))
        raise ArtifactError(f"{file} holds several networks ({prefixes}); save the one to serve on its own")
    ((prefix, layout),) = found
    return prefix, layout({name.removeprefix(prefix) for name in names if name.startswith(prefix)})


def _torchvision(names: Collection[str]) -> Layout:
    blocks = []
    count = _last(r"features\.(\d+)\.conv\.", names)
    for index in range(1, count + 1):
        at = f"features.{index}.conv"
        expand = [Pair(f"{at}.0.0", f"{at}.0.1")] if f"{at}.1.0.weight" in names else []
        n = len(expand)
        project = Pair(f"{at}.{n + 1}", f"{at}.{n + 2}")
        blocks.append([*expand, Pair(f"{at}.{n}.0", f"{at}.{n}.1"), project])
    head = Pair(f"features.{count + 1}.0", f"features.{count + 1}.1")
    return Layout("torchvision", Pair("features.0.0", "features.0.1"), blocks, head)


def _timm(names: Collection[str]) -> Layout:
    found = {tuple(map(int, match.groups())) for name in names if (match := re.match(r"blocks\.(\d+)\.(\d+)\.", name))}
    blocks = []
    for stage, repeat in sorted(found):
        at = f"blocks.{stage}.{repeat}."
        roles = ("conv_pw", "conv_dw", "conv_pwl") if f"{at}conv_pwl.weight" in names else ("conv_dw", "conv_pw")
        blocks.append([Pair(at + role, f"{at}bn{number}") for number, role in enumerate(roles, 1)])
    stages = Counter(stage for stage, _ in sorted(found))
    return Layout("timm", Pair("conv_stem", "bn1"), blocks, Pair("conv_head", "bn2"), tuple(stages.values()))


def _transformers(names: Collection[str]) -> Layout:
    def pair(at: str) -> Pair:
        return Pair(f"{at}.convolution", f"{at}.normalization")

    roles = ("expand_1x1", "conv_3x3", "reduce_1x1")
    blocks = [[pair(f"conv_stem.{role}") for role in roles[1:]]]
    for index in range(_last(r"layer\.(\d+)\.", names) + 1):
        blocks.append([pair(f"layer.{index}.{role}") for role in roles])
    return Layout("Transformers", pair("conv_stem.first_conv"), blocks, pair("conv_1x1"))


def _keras(names: Collection[str]) -> Layout:
    if "mobl0_conv_0_depthwise.weight" in names:  # as of 2018
        conv, norm = "mobl{0}_conv_{0}_{1}", "bn{0}_conv_{0}_bn_{1}"
        count = _last(r"mobl(\d+)_conv", names)
    else:
        conv, norm = "block_{0}_{1}", "block_{0}_{1}_BN"
        count = _last(r"block_(\d+)_", names)
    roles = ("expand", "depthwise", "project")
    blocks = [
        [Pair(conv.format(index, role), norm.format(index, role)) for role in (roles if index else roles[1:])]
        for index in range(count + 1)
    ]
    if conv.startswith("block"):
        blocks[0] = [Pair(f"expanded_conv_{role}", f"expanded_conv_{role}_BN") for role in roles[1:]]
    return Layout("Keras", Pair("Conv1", "bn_Conv1"), blocks, Pair("Conv_1", "Conv_1_bn"))


def _last(pattern: str, names: Collection[str]) -> int:
    """The largest number that ``pattern`` finds at the start of a name; 0 if none."""
    return max((int(match[1]) for name in names if (match := re.match(pattern, name))), default=0)


#: A name that each library's MobileNetV2 has, and how it names the rest.
_FAMILIES: dict[str, Callable[[Collection[str]], Layout]] = {
    "features.0.0.weight": _torchvision,
    "conv_stem.weight": _timm,
    "conv_stem.first_conv.convolution.weight": _transformers,
    "Conv1.weight": _keras,
}

#: What other networks have and MobileNetV2 has not, in these libraries.
_OTHERS = {
    r"squeeze_excite|conv_head\.bias$|features\.\d+\.block\.": "a MobileNetV3",
    r"\.se\.conv_reduce|features\.\d+\.\d+\.block\.|block1a_": "an EfficientNet or a ConvNeXt",
    r"layer1\.0\.conv1\.|conv2_block1_1_conv|resnet\.encoder\.": "a ResNet",
    r"mobilenet_v1\.|conv_dw_1\.": "a MobileNetV1",
    r"cls_token|\battn\b|attention": "a vision transformer",
    r"denseblock1": "a DenseNet",
    r"segmentation_head": "a MobileNetV2 for segmentation",
}
