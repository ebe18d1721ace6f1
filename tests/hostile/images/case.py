"""``Case``: hostile or strange bytes and what the service must answer to them; and the clean picture behind them all.

Formats' modules make cases, ``corpus`` gathers them, ``verdict`` judges the answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tests.image import samples
from tests.image.samples import STORED as STORED  # for the modules of this package too
from tests.image.samples import encode as encode
from tests.image.samples import exif as exif

UInt8 = NDArray[np.uint8]

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


@cache
def plain() -> UInt8:
    """(240, 320, 3): a landscape with a house, different in every corner and in every direction."""
    y, x = np.mgrid[0:240, 0:320]
    sky = np.stack((90 + y / 3, 140 + y / 3, 235 - x / 8), axis=-1)
    image = Image.fromarray(sky.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.ellipse((236, 18, 290, 72), fill=(250, 225, 90))
    draw.polygon([(0, 190), (90, 70), (190, 190)], fill=(110, 105, 120))
    draw.polygon([(66, 102), (90, 70), (116, 102), (92, 96)], fill=(245, 245, 250))
    draw.rectangle((0, 186, 320, 240), fill=(80, 150, 60))
    draw.rectangle((190, 130, 280, 205), fill=(200, 90, 60))
    draw.polygon([(178, 132), (235, 92), (292, 132)], fill=(90, 40, 35))
    draw.rectangle((205, 150, 228, 172), fill=(240, 230, 170))
    draw.rectangle((246, 160, 268, 205), fill=(70, 45, 30))
    draw.ellipse((20, 150, 74, 206), fill=(30, 95, 40))
    draw.rectangle((43, 200, 51, 226), fill=(95, 60, 30))
    grain = np.random.default_rng(4).integers(-4, 5, (240, 320, 1))
    return (np.asarray(image) + grain).clip(0, 255).astype(np.uint8)


def plain_image() -> Image.Image:
    return Image.fromarray(plain())


@cache
def grey() -> UInt8:
    """(240, 320)."""
    return np.asarray(plain_image().convert("L"))


@cache
def indexed(colours: int) -> Image.Image:
    """The clean picture with a palette."""
    return plain_image().quantize(colours)


@cache
def references() -> dict[str, bytes]:
    """The pictures that ``Case.like`` names, without loss."""
    found: dict[str, UInt8 | Image.Image] = {
        "plain": plain(),
        "grey": grey(),
        "grey in pairs": np.repeat(grey()[:, ::2], 2, axis=1),
        **{
            f"{bits} bits": ((grey() >> (8 - bits)) * (255 // ((1 << bits) - 1))).astype(np.uint8) for bits in (1, 2, 4)
        },
        **{f"{colours} colours": indexed(colours).convert("RGB") for colours in (2, 4, 16, 200, 255, 256)},
    }
    return {name: encode(picture, "PNG") for name, picture in found.items()}


def stored(orientation: int) -> Image.Image:
    """The clean picture as a camera held that way would store it."""
    return samples.stored(plain_image(), orientation)


def lies_about_size(
    kind: str, make: Callable[[int, int], bytes], *lies: tuple[frozenset[int], Iterable[tuple[int, int]]]
) -> Iterator[Case]:
    """What ``make`` returns for each width and height, which its header claims."""
    for statuses, sizes in lies:
        yield from (Case(f"{kind}: says that it is {w}x{h}", make(w, h), statuses) for w, h in sizes)


def orientations(kind: str, cosine: float = SAME, **options: Any) -> Iterator[Case]:
    """The clean picture, stored in every orientation that EXIF knows."""
    for orientation in range(1, 9):
        data = encode(stored(orientation), kind, exif=exif(orientation), **options)
        warnings = () if orientation == 1 else (f"EXIF orientation {orientation} applied",)
        note = "".join(f", {option}" for option in options)
        yield same(f"{kind.lower()}{note}: orientation {orientation}", data, cosine, warnings=warnings)


def truncations(kind: str, data: bytes, header: int, statuses: frozenset[int] = BAD) -> Iterator[Case]:
    """``data`` cut in its ``header`` bytes, byte by byte at first, and at every sixteenth of the rest.

    A cut that leaves too little to recognise the format is 415; where it does not show, the picture is still whole.
    """
    cuts = [*range(1, 8), *range(8, header, max(1, header // 8))]
    cuts += [len(data) * sixteenth // 16 for sixteenth in range(1, 16)]
    cuts += [len(data) - 2, len(data) - 1]
    for cut in sorted({cut for cut in cuts if 0 < cut < len(data)}):
        early = statuses | UNSUPPORTED if cut < 20 else statuses
        late = early | OK if cut > len(data) - 40 else early
        yield Case(f"{kind}: cut after {cut} of {len(data)} bytes", data[:cut], late)


def flipped(kind: str, data: bytes, count: int, seed: int = 0) -> Iterator[Case]:
    """``data`` with a few bytes overwritten, half of them near its beginning, where headers are."""
    randomness = np.random.default_rng(seed)
    for index in range(count):
        damaged = bytearray(data)
        reach = min(len(data), 200) if index % 2 else len(data)
        for at in randomness.integers(0, reach, 1 + index % 4):
            damaged[at] = randomness.choice((0, 1, 127, 255, int(randomness.integers(256))))
        yield Case(f"{kind}: {1 + index % 4} bytes overwritten, no. {index}", bytes(damaged), ANY)


def named_once(cases: Iterable[Case]) -> list[Case]:
    """``cases`` as a list; each name once, so that a report means one of them."""
    gathered = list(cases)
    names = [case.name for case in gathered]
    assert len(set(names)) == len(names), [name for name in names if names.count(name) > 1]
    return gathered
