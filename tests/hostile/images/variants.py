"""What is made of an encoded picture: its bytes with an edit, and series of cases."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from tests.hostile.images.case import ANY, BAD, OK, SAME, UNSUPPORTED, Case, same
from tests.hostile.images.pictures import plain_image
from tests.image.samples import encode, exif, stored


def overwritten(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def inserted(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at:]


def lies_about_size(
    kind: str, make: Callable[[int, int], bytes], *lies: tuple[frozenset[int], Iterable[tuple[int, int]]]
) -> Iterator[Case]:
    """What ``make`` returns for each width and height, which its header claims."""
    for statuses, sizes in lies:
        yield from (Case(f"{kind}: says that it is {w}x{h}", make(w, h), statuses) for w, h in sizes)


def orientations(kind: str, cosine: float = SAME, **options: Any) -> Iterator[Case]:
    """The clean picture, stored in every orientation that EXIF knows."""
    for orientation in range(1, 9):
        data = encode(stored(plain_image(), orientation), kind, exif=exif(orientation), **options)
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


def flipped(kind: str, data: bytes, count: int) -> Iterator[Case]:
    """``data`` with a few bytes overwritten, half of them near its beginning, where headers are."""
    randomness = np.random.default_rng(0)
    for index in range(count):
        damaged = bytearray(data)
        reach = min(len(data), 200) if index % 2 else len(data)
        for at in randomness.integers(0, reach, 1 + index % 4):
            damaged[at] = randomness.choice((0, 1, 127, 255, int(randomness.integers(256))))
        yield Case(f"{kind}: {1 + index % 4} bytes overwritten, no. {index}", bytes(damaged), ANY)
