"""``service/model/network.py`` against torchvision's ``MobileNetV2``."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import MobileNetV2
from torchvision.models.mobilenetv2 import InvertedResidual

from service.model import network as mobilenetv2
from service.model.network import PAPER_STAGES, Stage
from tests.model.test_network import PAPER_OUTPUTS, stage_ends

SETTING = [[1, 16, 1, 1], [4, 24, 2, 2], [3, 40, 3, 2], [6, 56, 1, 1]]
SMALL_STAGES = tuple(Stage(*row) for row in SETTING)
PAPER = mobilenetv2.build()


@pytest.fixture(scope="module")
def reference() -> MobileNetV2:
    """On the device "meta": every shape and every module, no arithmetic."""
    with torch.device("meta"):
        return MobileNetV2().eval()


def blocks_of(net: MobileNetV2) -> list[InvertedResidual]:
    return [module for module in net.features if isinstance(module, InvertedResidual)]


def test_each_stage_has_the_papers_output_shape(reference: MobileNetV2) -> None:
    shapes: list[tuple[int, ...]] = []
    hooks = [m.register_forward_hook(lambda _m, _i, y: shapes.append(tuple(y.shape))) for m in reference.features]
    reference(torch.zeros(1, 3, 224, 224, device="meta"))
    for hook in hooks:
        hook.remove()
    ends = stage_ends()
    assert [(shapes[0][1], shapes[0][2]), *((shapes[end][1], shapes[end][2]) for end in ends)] == PAPER_OUTPUTS[:-1]
    assert shapes[-1] == (1, 1280, 7, 7)


def test_residuals_are_where_torchvision_has_them(reference: MobileNetV2) -> None:
    assert [block.residual for block in PAPER.blocks] == [block.use_res_connect for block in blocks_of(reference)]


def test_multiply_adds_are_those_of_the_layers_that_run(reference: MobileNetV2) -> None:
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
        assert counted == PAPER.multiply_adds(size)
    for hook in hooks:
        hook.remove()


def test_activations_are_where_torchvision_has_them(reference: MobileNetV2) -> None:
    """Every convolution is followed by ReLU6 in torchvision exactly where ``Network`` says so, and nothing else is."""
    modules = [(name, module) for name, module in reference.named_modules() if not list(module.children())]
    followed = {
        name: type(modules[at + 2][1]) is nn.ReLU6
        for at, (name, module) in enumerate(modules)
        if isinstance(module, nn.Conv2d)
    }
    assert followed == {layer.conv: layer.activation for layer in PAPER.convs()}
    kinds = [type(module) for _, module in modules if not isinstance(module, nn.Conv2d | nn.BatchNorm2d)]
    assert kinds == [nn.ReLU6] * sum(followed.values()) + [nn.Dropout, nn.Linear]
    assert nn.BatchNorm2d(1).eps == mobilenetv2.BATCH_NORM_EPSILON


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
