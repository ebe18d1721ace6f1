"""Every case, for a server of given limits."""

from __future__ import annotations

from service.image import Limits
from tests.hostile.images import bmps, foreign, gifs, heifs, jpegs, pngs, sizes, tiffs, webps
from tests.hostile.images.case import Case, named_once

FORMATS = (jpegs, pngs, gifs, bmps, tiffs, webps, heifs, foreign)


def corpus(limits: Limits, max_body_bytes: int) -> list[Case]:
    """The same cases each time. Only those of ``sizes`` depend on the limits."""
    return named_once([*(case for module in FORMATS for case in module.cases()), *sizes.cases(limits, max_body_bytes)])
