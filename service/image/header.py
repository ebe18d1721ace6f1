"""What is known of an image before it is decoded (``Header``), and what one image may cost (``Limits``).

A ``Header`` is made by ``inspection`` from an image's first bytes; admission reads its size, ``decode`` the rest. The
limits come from the settings. Also the sentences that several readers of headers say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from service.errors import ImageTooLarge

Format = Literal["jpeg", "png", "webp", "gif", "bmp", "tiff"]

TRUNCATED = "the image is truncated: its data ends before its last pixel"
CORRUPT = "the image is corrupt and cannot be decoded"
TOO_MANY_BLOCKS = "the image is cut into too many blocks"

WARN_FRAMES: Final = "several frames or pages: only the first was used"
WARN_EXIF: Final = "EXIF is damaged: no orientation was applied"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on the work and the memory of one image; each is judged before the work is done."""

    #: Width × height, as stored. 50 megapixels are 200 MB once decoded (four bytes a pixel in Pillow).
    max_pixels: int = 50_000_000

    #: Width or height. Decoders keep whole rows, some two or three of them, and refuse a row of 2 GiB as MemoryError.
    max_side: int = 1_000_000

    #: JPEG scans that are always accepted. Encoders write 1 (baseline) or about 10 (progressive).
    free_scans: int = 16

    #: Scans × pixels beyond ``free_scans``. An empty scan costs a few bytes in the file and still a pass over every
    #: coefficient of the image: 0.33 ns a pixel measured, so 200 kB could ask for a minute. This allows 0.15 s.
    max_scan_pixels: int = 400_000_000

    #: JPEG segments before the first scan, and as many from there on. One holds up to 64 KiB; ``inspect`` steps from
    #: one to the next on the event loop, half a microsecond each.
    max_segments: int = 4096

    #: PNG, WebP and GIF blocks, TIFF strips. Python visits each one, holding the GIL, for up to 5 µs.
    #: A 16 MiB PNG in chunks of 8 KiB has 2,048; 65,536 strips are more than one a row.
    max_blocks: int = 65_536

    #: Run-length encoded BMP is expanded by Pillow in Python, code by code, holding the GIL.
    max_rle_pixels: int = 1_000_000

    def check_size(self, width: int, height: int) -> None:
        """Raises ImageTooLarge if width × height exceeds ``max_pixels``, or one of them ``max_side``."""
        if width * height > self.max_pixels:
            raise ImageTooLarge(
                f"the image is {width} × {height} pixels ({width * height / 1e6:.1f} megapixels);"
                f" at most {self.max_pixels / 1e6:g} megapixels are accepted"
            )
        if max(width, height) > self.max_side:
            raise ImageTooLarge(f"the image is {width} × {height} pixels; a side may have at most {self.max_side}")


DEFAULT_LIMITS = Limits()


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
        """Width and height once the orientation is applied."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)

    @property
    def warnings(self) -> tuple[str, ...]:
        """For the sender, in words; empty for an ordinary image."""
        warnings = []
        if self.animated:
            warnings.append(WARN_FRAMES)
        if self.orientation != 1:
            warnings.append(warn_orientation(self.orientation))
        if self.exif_damaged:
            warnings.append(WARN_EXIF)
        return tuple(warnings)


def warn_orientation(orientation: int) -> str:
    return f"EXIF orientation {orientation} applied"
