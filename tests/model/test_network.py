"""``service/model/network.py`` against the paper; ``test_torchvision.py`` has torchvision's model."""

from __future__ import annotations

from itertools import accumulate, pairwise

import pytest

from service.model import network as mobilenetv2
from service.model.network import PAPER_STAGES, Network, Stage, make_divisible

#: Table 2: (channels, side) after the stem, each stage and the head.
PAPER_OUTPUTS = [(32, 112), (16, 112), (24, 56), (32, 28), (64, 14), (96, 14), (160, 7), (320, 7), (1280, 7)]


@pytest.fixture(scope="module")
def paper() -> Network:
    return mobilenetv2.build()


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


def test_each_stage_has_the_papers_output_shape(paper: Network) -> None:
    assert stage_outputs(paper) == PAPER_OUTPUTS


def stage_ends() -> list[int]:
    """Index into torchvision's ``features``, where the stem is the first, of the last block of every stage."""
    return list(accumulate(stage.n for stage in PAPER_STAGES))


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


def test_the_paper_network_has_its_published_size(paper: Network) -> None:
    assert paper.parameter_count() == 3_504_872
    # The paper says 300 M multiply-adds and 3.4 M parameters for 1.0 at 224.
    assert paper.multiply_adds(224) == 300_774_272
    assert paper.feature_size(224) == 7
    assert len(paper.blocks) == 17


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


def test_residuals_only_where_stride_and_channels_allow(paper: Network) -> None:
    for block in paper.blocks:
        same = block.convs[0].in_channels == block.out_channels
        assert block.residual == (same and all(layer.stride == 1 for layer in block.convs))
    assert sum(block.residual for block in paper.blocks) == 10


def test_every_layer_takes_what_the_one_before_gives(paper: Network) -> None:
    for before, after in pairwise(paper.convs()):
        assert after.in_channels == before.out_channels


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
