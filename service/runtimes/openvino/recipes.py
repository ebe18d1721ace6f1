"""How a network may be quantised, as data; ``quantization`` does it.

Importing this imports neither OpenVINO nor NNCF.
"""

from __future__ import annotations

from typing import NamedTuple

from service.errors import require_extra


class Recipe(NamedTuple):
    """Weights of convolutions in int8 by output channel, activations in uint8; pooling, classifier and class maps in
    fp32. The biases are corrected layer by layer for what rounding shifts."""

    fp32_convs: int  # so many convolutions from the start stay in fp32
    fp32_sums: bool  # the residual stream is not rounded between blocks, only where a convolution reads it
    about: str


#: docs/quantization.md has the figures of these and of what was tried beside them.
RECIPES = {
    "close": Recipe(3, True, "all but the first three convolutions, residual sums and classifier"),
    "fast": Recipe(0, True, "all but residual sums and classifier"),
}
DEFAULT_RECIPE = "close"


def require_nncf() -> None:
    """Raise MissingExtra unless NNCF is installed."""
    require_extra("quantising a model", "int8", "nncf")
