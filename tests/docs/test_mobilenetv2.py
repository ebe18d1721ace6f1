"""``docs/mobilenetv2.md``: its tables and figures are those of ``service/model/network.py``."""

from __future__ import annotations

import math

from service.model import network as mobilenetv2
from service.model.network import PAPER_STAGES, Conv, Stage
from tests.documents import read

PAPER = mobilenetv2.build()


def test_the_documented_tables_are_computed() -> None:
    """Every row of its tables; to change them, print ``documented_rows()``."""
    assert [row for row in documented_rows() if row not in read("docs/mobilenetv2.md")] == []


def test_the_documented_figures_are_computed() -> None:
    size, depthwise, dense = 224, 0, 0
    for layer in PAPER.convs():
        if layer.groups > 1:
            depthwise += layer.multiply_adds(size)
            dense += layer.multiply_adds(size) * layer.groups
        size = layer.output_size(size)
    text = " ".join(read("docs/mobilenetv2.md").split())
    total = PAPER.multiply_adds()
    assert f"need {depthwise / 1e6:.1f} million multiply-adds" in text
    assert f"would need {dense / 1e6:,.0f} million" in text
    rest = total - depthwise - PAPER.num_classes * PAPER.embedding_dim
    assert f"{rest / 1e6:.1f} of the {total / 1e6:.1f} million" in text
    expand, filtered, project = (layer.multiply_adds(56) / 1e6 for layer in PAPER.blocks[2].convs)
    assert f"{expand:.1f} + {filtered:.1f} + {project:.1f} = {expand + filtered + project:.1f} million" in text
    assert f"Of the {len(PAPER.blocks)} blocks {sum(block.residual for block in PAPER.blocks)} have a shortcut" in text


def documented_rows() -> list[str]:
    """The rows of the stage table, then those of the width table, in Markdown."""
    parts: list[tuple[str, Stage | None, list[Conv]]] = [("stem, 3 × 3", None, [PAPER.stem])]
    blocks = iter(PAPER.blocks)
    for number, stage in enumerate(PAPER_STAGES, start=1):
        parts.append((f"stage {number}", stage, [conv for _ in range(stage.n) for conv in next(blocks).convs]))
    parts.append(("head, 1 × 1", None, [PAPER.head]))
    rows, size = [], 224
    for name, row, convs in parts:
        before, adds, parameters = f"{size}² × {convs[0].in_channels}", 0, 0
        for layer in convs:
            adds += layer.multiply_adds(size)
            parameters += math.prod(layer.weight_shape) + 2 * layer.out_channels
            size = layer.output_size(size)
        t, n, s = (row.t, row.n, row.s) if row else ("–", 1, convs[0].stride)
        after = f"{size}² × {convs[-1].out_channels}"
        rows.append(f"| {name} | {t} | {n} | {s} | {before} | {after} | {adds / 1e6:.1f} M | {parameters:,} |")
    features, classes = PAPER.embedding_dim, PAPER.num_classes
    rows.append(f"| pooling | – | 1 | – | {size}² × {features} | {features} | – | – |")
    weights = features * classes
    rows.append(f"| classifier | – | 1 | – | {features} | {classes} | {weights / 1e6:.1f} M | {weights + classes:,} |")
    total = f"**{PAPER.multiply_adds() / 1e6:.1f} M** | **{PAPER.parameter_count():,}**"
    rows.append(f"| **total** | | | | | | {total} |")
    for width in (0.35, 0.5, 0.75, 1.0, 1.4):
        other = mobilenetv2.build(width_mult=width)
        rows.append(f"| {width} | {other.parameter_count():,} | {other.multiply_adds() / 1e6:.1f} M |")
    return rows
