"""``service/mobilenetv2.py`` against the paper's table 2 and against torchvision's ``MobileNetV2``."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn
from torchvision.models import MobileNetV2
from torchvision.models.mobilenetv2 import InvertedResidual

from service.model import network as mobilenetv2
from service.model.network import PAPER_STAGES, Network, Stage, make_divisible

SETTING = [[1, 16, 1, 1], [4, 24, 2, 2], [3, 40, 3, 2], [6, 56, 1, 1]]
SMALL_STAGES = tuple(Stage(*row) for row in SETTING)


@pytest.fixture(scope="module")
def paper() -> Network:
    return mobilenetv2.build()


@pytest.fixture(scope="module")
def reference() -> MobileNetV2:
    """On the device "meta": every shape and every module, no arithmetic."""
    with torch.device("meta"):
        return MobileNetV2().eval()


def blocks_of(net: MobileNetV2) -> list[InvertedResidual]:
    return [module for module in net.features if isinstance(module, InvertedResidual)]


def test_the_table_is_the_papers() -> None:
    assert PAPER_STAGES == (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )


def test_each_stage_has_the_papers_output_shape(paper: Network, reference: MobileNetV2) -> None:
    """Table 2 of the paper, and what really comes out of torchvision's modules."""
    papers = [(32, 112), (16, 112), (24, 56), (32, 28), (64, 14), (96, 14), (160, 7), (320, 7), (1280, 7)]
    assert stage_outputs(paper) == papers

    shapes: list[tuple[int, ...]] = []
    hooks = [m.register_forward_hook(lambda _m, _i, y: shapes.append(tuple(y.shape))) for m in reference.features]
    reference(torch.zeros(1, 3, 224, 224, device="meta"))
    for hook in hooks:
        hook.remove()
    ends = stage_ends()
    assert [(shapes[0][1], shapes[0][2]), *((shapes[end][1], shapes[end][2]) for end in ends)] == papers[:-1]
    assert shapes[-1] == (1, 1280, 7, 7)


def stage_ends() -> list[int]:
    """Index into torchvision's ``features`` of the last block of every stage."""
    ends, total = [], 0
    for stage in PAPER_STAGES:
        total += stage.n
        ends.append(total)
    return ends


def stage_outputs(net: Network, size: int = 224) -> list[tuple[int, int]]:
    """(channels, side) after the stem, each stage and the head."""
    size = net.stem.output_size(size)
    outputs = [(net.stem.out_channels, size)]
    ends = stage_ends()
    for index, block in enumerate(net.blocks, start=1):
        for layer in block.convs:
            size = layer.output_size(size)
        if index in ends:
            outputs.append((block.out_channels, size))
    return [*outputs, (net.head.out_channels, net.head.output_size(size))]


def test_the_paper_network_has_its_published_size(paper: Network, reference: MobileNetV2) -> None:
    assert paper.parameter_count() == 3_504_872 == sum(p.numel() for p in reference.parameters())
    # The paper says 300 M multiply-adds and 3.4 M parameters for 1.0 at 224.
    assert paper.multiply_adds(224) == 300_774_272
    assert paper.feature_size(224) == 7
    assert len(paper.blocks) == 17


def test_multiply_adds_are_those_of_the_layers_that_run(paper: Network, reference: MobileNetV2) -> None:
    counted = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal counted
        if isinstance(module, nn.Conv2d):
            counted += output[0].numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            counted += module.weight.numel()

    hooks = [module.register_forward_hook(count) for module in reference.modules()]
    for size in (224, 160):
        counted = 0
        reference(torch.zeros(1, 3, size, size, device="meta"))
        assert counted == paper.multiply_adds(size)
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize(
    ("width", "stages"),
    [
        (0.35, [8, 8, 16, 24, 32, 56, 112]),
        (0.5, [8, 16, 16, 32, 48, 80, 160]),
        (0.75, [16, 24, 24, 48, 72, 120, 240]),
        (1.0, [16, 24, 32, 64, 96, 160, 320]),
        (1.4, [24, 32, 48, 88, 136, 224, 448]),
    ],
)
def test_widths_are_rounded_to_multiples_of_eight(width: float, stages: list[int]) -> None:
    net = mobilenetv2.build(width_mult=width)
    assert [net.blocks[end - 1].out_channels for end in stage_ends()] == stages
    assert all(layer.out_channels % 8 == 0 for layer in net.convs())
    # Below 1.0 the last features stay at 1280, so that embeddings keep their length.
    assert net.embedding_dim == (1792 if width == 1.4 else 1280)


def test_rounding_never_takes_more_than_a_tenth() -> None:
    for tenths in range(1, 5000):
        channels = tenths / 10
        rounded = make_divisible(channels, 8)
        assert rounded % 8 == 0
        assert rounded >= 8
        assert rounded >= 0.9 * channels


def test_bottlenecks_are_linear_in_the_description(paper: Network) -> None:
    for block in paper.blocks:
        *inner, projection = block.convs
        assert not projection.activation
        assert projection.kernel == 1
        assert all(layer.activation for layer in inner)
        assert inner[-1].groups == inner[-1].in_channels == inner[-1].out_channels
    assert paper.stem.activation
    assert paper.head.activation


def test_bottlenecks_are_linear_in_torchvision(reference: MobileNetV2) -> None:
    for block in blocks_of(reference):
        *inner, projection, norm = block.conv
        assert isinstance(projection, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        for part in inner:
            assert [type(module) for module in part] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU6]
    activations = [m for m in reference.modules() if isinstance(m, nn.ReLU | nn.ReLU6 | nn.SiLU | nn.Hardswish)]
    assert all(type(module) is nn.ReLU6 for module in activations)


def test_activations_are_where_torchvision_has_them(paper: Network, reference: MobileNetV2) -> None:
    """Every convolution is followed by ReLU6 in torchvision exactly where ``Network`` says so."""
    modules = [(name, m) for name, m in reference.named_modules() if not list(m.children())]
    followed = {
        name: type(modules[at + 2][1]) is nn.ReLU6
        for at, (name, module) in enumerate(modules)
        if isinstance(module, nn.Conv2d)
    }
    assert followed == {layer.conv: layer.activation for layer in paper.convs()}
    assert nn.BatchNorm2d(1).eps == mobilenetv2.BATCH_NORM_EPSILON


def test_residuals_only_where_stride_and_channels_allow(paper: Network, reference: MobileNetV2) -> None:
    for block in paper.blocks:
        same = block.convs[0].in_channels == block.out_channels
        assert block.residual == (same and all(layer.stride == 1 for layer in block.convs))
    assert [block.residual for block in paper.blocks] == [block.use_res_connect for block in blocks_of(reference)]
    assert sum(block.residual for block in paper.blocks) == 10


def test_every_layer_takes_what_the_one_before_gives(paper: Network) -> None:
    for before, after in pairwise(paper.convs()):
        assert after.in_channels == before.out_channels


@pytest.mark.parametrize(
    ("width", "classes", "nearest", "setting"),
    [
        (1.0, 1000, 8, None),
        (0.35, 7, 8, None),
        (0.5, 2, 8, None),
        (0.75, 1, 16, None),
        (1.4, 1000, 8, None),
        (0.1, 3, 8, None),
        (0.33, 5, 1, None),
        (1.3, 11, 4, None),
        (1.0, 4, 8, SETTING),
        (0.5, 6, 8, SETTING),
        (1.0, 3, 8, [[2, 8, 1, 1]]),
    ],
)
def test_parameters_are_those_of_torchvision(
    width: float, classes: int, nearest: int, setting: list[list[int]] | None
) -> None:
    """Names, shapes and order of the state_dict, and the strides and groups that it does not show."""
    with torch.device("meta"):
        theirs = MobileNetV2(classes, width, setting, nearest)
    stages = PAPER_STAGES if setting is None else tuple(Stage(*row) for row in setting)
    ours = mobilenetv2.build(width_mult=width, num_classes=classes, round_nearest=nearest, stages=stages)
    state = {k: tuple(v.shape) for k, v in theirs.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert list(ours.parameter_shapes().items()) == list(state.items())
    assert ours.parameter_count() == sum(p.numel() for p in theirs.parameters())
    for layer in ours.convs():
        conv = theirs.get_submodule(layer.conv)
        assert isinstance(conv, nn.Conv2d)
        padding = (layer.kernel - 1) // 2
        described = ((layer.stride,) * 2, (layer.kernel,) * 2, (padding,) * 2, layer.groups, False)
        assert (conv.stride, conv.kernel_size, conv.padding, conv.groups, conv.bias is not None) == described


@pytest.mark.parametrize("size", [32, 33, 64, 97, 224, 225, 320])
def test_feature_size_at_odd_sizes(size: int) -> None:
    net = mobilenetv2.build(width_mult=0.1, num_classes=2, stages=SMALL_STAGES)
    with torch.device("meta"):
        theirs = MobileNetV2(2, 0.1, SETTING).eval()
        assert theirs.features(torch.zeros(1, 3, size, size)).shape[-1] == net.feature_size(size)


@pytest.mark.parametrize(
    "arguments",
    [
        {"width_mult": 0.0},
        {"width_mult": -1.0},
        {"num_classes": 0},
        {"round_nearest": 0},
        {"stages": ()},
        {"stages": (Stage(0, 16, 1, 1),)},
        {"stages": (Stage(1, 0, 1, 1),)},
        {"stages": (Stage(1, 16, 0, 1),)},
        {"stages": (Stage(1, 16, 1, 0),)},
        {"stages": (Stage(1, 16, 1, 3),)},
        {"stages": (Stage(-6, -16, 1, 1),)},
    ],
)
def test_arguments_that_describe_no_network_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"must be positive|every stage needs"):
        mobilenetv2.build(**arguments)  # type: ignore[arg-type]
