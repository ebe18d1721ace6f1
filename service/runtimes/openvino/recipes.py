"""Recipes for quantising a network, as data; ``quantization`` applies them.

Importing this imports neither OpenVINO nor NNCF.
"""

from __future__ import annotations

from typing import NamedTuple


class Recipe(NamedTuple):
    """Convolutions with int8 weights, scaled per output channel, and uint8 activations; pooling, classifier and class
    maps in fp32. Residual sums stay in fp32 and are rounded only as inputs of convolutions. Biases are corrected layer
    by layer for the error of rounding."""

    fp32_convs: int  # number of convolutions from the start that stay in fp32
    about: str


#: docs/quantization.md has figures of these recipes and of others that were tried.
RECIPES = {
    "close": Recipe(3, "all but the first three convolutions, residual sums and classifier"),
    "fast": Recipe(0, "all but residual sums and classifier"),
}
DEFAULT_RECIPE = "close"
