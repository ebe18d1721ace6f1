"""Every case, for a server of given limits."""

from __future__ import annotations

from service.image import Limits
from tests.hostile.images import bmps, foreign, gifs, heifs, jpegs, pngs, sizes, tiffs, webps
from tests.hostile.images.case import Case


def corpus(limits: Limits, max_body_bytes: int) -> list[Case]:
    """The same cases each time. Only those of ``sizes`` depend on the limits."""
    formats = (jpegs, pngs, gifs, bmps, tiffs, webps, heifs, foreign)
    cases = [*(case for module in formats for case in module.cases()), *sizes.cases(limits, max_body_bytes)]
    names = [case.name for case in cases]
    assert len(set(names)) == len(names), [name for name in names if names.count(name) > 1]
    return cases
