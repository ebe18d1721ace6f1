"""``Case``: hostile or strange bytes and what the service must answer to them.

Formats' modules make cases, ``corpus`` gathers them, ``verdict`` judges the answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

OK: Final = frozenset({200})
TOO_LARGE: Final = frozenset({413})
UNSUPPORTED: Final = frozenset({415})
BAD: Final = frozenset({422})
#: Damage may or may not reach what a decoder looks at; but it is never our fault.
ANY: Final = OK | TOO_LARGE | UNSUPPORTED | BAD
OK_OR_BAD: Final = OK | BAD

#: Least cosine similarity to the reference's embedding. The clean picture mirrored is at 0.962, turned at 0.81 or
#: less, in grey at 0.84.
SAME: Final = 0.9999  # the same pixels, but for rounding
LOSSY: Final = 0.975  # JPEG, WebP
COARSE: Final = 0.95  # a quarter or less of the colour samples, colours of five bits

FRAMES: Final = ("several frames or pages: only the first was used",)
EXIF: Final = ("EXIF is damaged: no orientation was applied",)


@dataclass(frozen=True)
class Case:
    """One body and what is allowed to come back."""

    name: str
    data: bytes
    statuses: frozenset[int] = BAD
    #: Least cosine of its embedding to that of the reference named by ``like``; None: any picture will do.
    cosine: float | None = None
    like: str = "plain"
    #: Exactly these, where the answer is 200; None: whatever they are.
    warnings: tuple[str, ...] | None = None
    content_type: str = "application/octet-stream"

    def __post_init__(self) -> None:
        assert self.cosine is None or self.statuses == OK, f"{self.name}: an embedding needs a 200"


def same(name: str, data: bytes, cosine: float = SAME, **more: Any) -> Case:
    """A picture that must come out like the reference."""
    return Case(name, data, OK, cosine, **{"warnings": (), **more})
