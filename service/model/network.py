"""MobileNetV2 as data: its convolutions in order, with shapes and parameter names.

Read by the store (does a checkpoint fit?), by both runtimes (which layers?) and by tests against the paper's figures.
Parameter names are those of torchvision's ``MobileNetV2.state_dict()``.

Source: Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", table 2; the rounding of
widths, and the 1280 features that stay below width 1.0, as in torchvision's implementation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

#: Added to the variance by every batch norm; PyTorch's default, which torchvision's model keeps.
BATCH_NORM_EPSILON = 1e-5


class Stage(NamedTuple):
    """One row of the paper's table 2: ``n`` blocks of expansion ``t`` and width ``c``, the first with stride ``s``."""

    t: int
    c: int
    n: int
    s: int


PAPER_STAGES: tuple[Stage, ...] = (
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 2),
    Stage(6, 32, 3, 2),
    Stage(6, 64, 4, 2),
    Stage(6, 96, 3, 1),
    Stage(6, 160, 3, 2),
    Stage(6, 320, 1, 1),
)


@dataclass(frozen=True, slots=True)
class Conv:
    """A bias-free convolution, its batch norm and, if ``activation``, ReLU6. Padding is (kernel - 1) // 2."""

    conv: str  # parameter prefix of the convolution: f"{conv}.weight" is (out, in / groups, kernel, kernel)
    norm: str  # parameter prefix of the batch norm: weight, bias, running_mean, running_var, each (out,)
    in_channels: int
    out_channels: int
    kernel: int
    stride: int
    groups: int
    activation: bool

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        return (self.out_channels, self.in_channels // self.groups, self.kernel, self.kernel)

    def output_size(self, size: int) -> int:
        padding = (self.kernel - 1) // 2
        return (size + 2 * padding - self.kernel) // self.stride + 1

    def multiply_adds(self, size: int) -> int:
        """Multiply-adds on a ``size`` × ``size`` input."""
        out_channels, per_group, kernel, _ = self.weight_shape
        return self.output_size(size) ** 2 * out_channels * per_group * kernel**2


@dataclass(frozen=True, slots=True)
class InvertedResidual:
    """Expand 1×1 (unless t = 1), depthwise 3×3, project 1×1 without activation: the linear bottleneck."""

    expansion: int
    convs: tuple[Conv, ...]
    residual: bool  # the input is added to the output: stride 1 and equal channels only

    @property
    def out_channels(self) -> int:
        return self.convs[-1].out_channels


@dataclass(frozen=True, slots=True)
class Network:
    """Stem, blocks, head, global average pooling, linear classifier."""

    stem: Conv
    blocks: tuple[InvertedResidual, ...]
    head: Conv
    num_classes: int
    classifier: str = "classifier.1"  # weight (num_classes, embedding_dim), bias (num_classes,)

    @property
    def embedding_dim(self) -> int:
        return self.head.out_channels

    def convs(self) -> Iterator[Conv]:
        yield self.stem
        for block in self.blocks:
            yield from block.convs
        yield self.head

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor of an artifact: learnt parameters and running statistics (no ``num_batches_tracked``)."""
        shapes: dict[str, tuple[int, ...]] = {}
        for layer in self.convs():
            shapes[f"{layer.conv}.weight"] = layer.weight_shape
            for part in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"{layer.norm}.{part}"] = (layer.out_channels,)
        shapes[f"{self.classifier}.weight"] = (self.num_classes, self.embedding_dim)
        shapes[f"{self.classifier}.bias"] = (self.num_classes,)
        return shapes

    def parameter_count(self) -> int:
        """Learnt parameters; running statistics are not counted."""
        running = ("running_mean", "running_var")
        return sum(math.prod(shape) for name, shape in self.parameter_shapes().items() if not name.endswith(running))

    def multiply_adds(self, size: int = 224) -> int:
        """Multiply-adds of convolutions and classifier on a ``size`` × ``size`` image, as the paper counts them."""
        total = 0
        for layer in self.convs():
            total += layer.multiply_adds(size)
            size = layer.output_size(size)
        return total + self.num_classes * self.embedding_dim

    def feature_size(self, size: int = 224) -> int:
        """Side of the last feature map for a ``size`` × ``size`` image: 7 at 224."""
        for layer in self.convs():
            size = layer.output_size(size)
        return size


def make_divisible(channels: float, divisor: int) -> int:
    """Round to the nearest multiple of ``divisor``, at least ``divisor``, never below 90 % of ``channels``."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def build(
    *,
    width_mult: float = 1.0,
    num_classes: int = 1000,
    round_nearest: int = 8,
    stages: tuple[Stage, ...] = PAPER_STAGES,
) -> Network:
    """The network that torchvision's ``MobileNetV2`` builds from the same arguments.

    Raises ValueError for arguments that do not describe a network.
    """
    if width_mult <= 0 or num_classes < 1 or round_nearest < 1 or not stages:
        raise ValueError("width_mult, num_classes, round_nearest and the stages must be positive")
    if any(min(stage) < 1 or stage.s > 2 for stage in stages):
        raise ValueError("every stage needs t, c, n >= 1 and a stride of 1 or 2")

    channels = make_divisible(32 * width_mult, round_nearest)
    stem = Conv("features.0.0", "features.0.1", 3, channels, kernel=3, stride=2, groups=1, activation=True)
    blocks: list[InvertedResidual] = []
    for stage in stages:
        out_channels = make_divisible(stage.c * width_mult, round_nearest)
        for repeat in range(stage.n):
            stride = stage.s if repeat == 0 else 1
            prefix = f"features.{len(blocks) + 1}.conv"
            blocks.append(_block(prefix, channels, out_channels, stride, stage.t))
            channels = out_channels
    last = make_divisible(1280 * max(1.0, width_mult), round_nearest)
    index = len(blocks) + 1
    head = Conv(
        f"features.{index}.0", f"features.{index}.1", channels, last, kernel=1, stride=1, groups=1, activation=True
    )
    return Network(stem, tuple(blocks), head, num_classes)


def _block(prefix: str, in_channels: int, out_channels: int, stride: int, expansion: int) -> InvertedResidual:
    hidden = in_channels * expansion
    convs: list[Conv] = []
    if expansion != 1:
        convs.append(
            Conv(f"{prefix}.0.0", f"{prefix}.0.1", in_channels, hidden, kernel=1, stride=1, groups=1, activation=True)
        )
    at = len(convs)
    convs.append(
        Conv(f"{prefix}.{at}.0", f"{prefix}.{at}.1", hidden, hidden, 3, stride, groups=hidden, activation=True)
    )
    convs.append(
        Conv(f"{prefix}.{at + 1}", f"{prefix}.{at + 2}", hidden, out_channels, 1, 1, groups=1, activation=False)
    )
    return InvertedResidual(expansion, tuple(convs), residual=stride == 1 and in_channels == out_channels)
