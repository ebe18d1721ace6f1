"""``Header``: what ``inspect`` finds out about an image, and the sentences that its readers share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

from service.image.tiff_directory import DamagedDirectory, exif_orientation

Format = Literal["jpeg", "png", "webp", "gif", "bmp", "tiff"]

#: Of files in a folder. Read by their content all the same.
SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})

TRUNCATED = "the image is truncated: its data ends before its last pixel"
CORRUPT = "the image is corrupt and cannot be decoded"
TOO_MANY_BLOCKS = "the image is cut into too many blocks"


@dataclass(frozen=True, slots=True)
class Header:
    """Facts of an encoded image, from its header alone."""

    format: Format
    width: int  # in pixels as stored, before the orientation is applied
    height: int
    orientation: int = 1  # EXIF's 1 to 8; of PNG, WebP and JPEG from EXIF, of TIFF from its own tag
    exif_damaged: bool = False
    animated: bool = False  # or several pages
    components: int = 0  # colours of a JPEG: 1, 3 or 4
    scans: int = 1  # passes that a decoder makes over the pixels
    complete: bool = True  # False: the container's own lengths say that bytes are missing

    @property
    def pixels(self) -> int:
        return self.width * self.height

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height as the orientation wants them shown."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def with_exif(exif: bytes | None, header: Header) -> Header:
    """``header`` with the orientation of its EXIF block, or marked as damaged; the pixels do not depend on it."""
    if exif is None:
        return header
    try:
        return replace(header, orientation=exif_orientation(exif))
    except DamagedDirectory:
        return replace(header, exif_damaged=True)
