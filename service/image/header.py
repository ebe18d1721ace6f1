"""What is known about an image before it is decoded (``Header``), and bounds on the cost of one image (``Limits``).

``inspection`` makes a ``Header`` from encoded bytes; admission uses its size, ``decode`` the rest. ``max_pixels`` comes
from the settings. Messages that several readers of headers use are here, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from service.errors import ImageTooLarge

Format = Literal["jpeg", "png", "webp", "gif", "bmp", "tiff", "avif", "heic"]

TRUNCATED = "the image is truncated: its data ends before its last pixel"
CORRUPT = "the image is corrupt and cannot be decoded"
TOO_MANY_BLOCKS = "the image is cut into too many blocks"

WARN_FRAMES: Final = "several frames or pages: only the first was used"
WARN_EXIF: Final = "EXIF is damaged: no orientation was applied"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on the work and memory of one image, each checked before the work."""

    #: Width × height, as stored. 50 megapixels are 200 MB once decoded (four bytes per pixel in Pillow).
    max_pixels: int = 50_000_000

    #: Width or height. Decoders keep up to three whole rows, and raise MemoryError for a row of 2 GiB.
    max_side: int = 1_000_000

    #: JPEG scans that are always allowed. Encoders write 1 (baseline) or about 10 (progressive).
    free_scans: int = 16

    #: Scans × pixels with more than ``free_scans``. An empty scan takes a few bytes in the file, but decoding it visits
    #: all coefficients of the image (measured: 0.33 ns per pixel), so 200 kB could take a minute. This allows 0.15 s.
    max_scan_pixels: int = 400_000_000

    #: JPEG segments before the first scan, and again after it. Each holds up to 64 KiB, and ``inspect`` takes half a
    #: microsecond for each on the event loop.
    max_segments: int = 4096

    #: PNG, WebP and GIF blocks, TIFF strips; a quarter as many numbers in AVIF and HEIC boxes. Each takes up to 5 µs
    #: in Python, with the GIL held. A 16 MiB PNG in chunks of 8 KiB has 2,048; most images have fewer than 65,536 rows,
    #: so one strip per row is allowed.
    max_blocks: int = 65_536

    #: Pillow expands run-length encoded BMP in Python, with the GIL held.
    max_rle_pixels: int = 1_000_000

    def check_size(self, width: int, height: int) -> None:
        """Raise ImageTooLarge if width × height exceeds ``max_pixels`` or a side exceeds ``max_side``."""
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
    """Facts about an encoded image, from its header."""

    format: Format
    width: int  # in pixels as stored, before the orientation is applied
    height: int
    exif: bytes | None = None  # of JPEG, PNG and WebP, until ``inspect`` has read the orientation from it
    orientation: int = 1  # 1 to 8 as in EXIF; of TIFF, AVIF and HEIC from their own tags, otherwise from EXIF
    exif_damaged: bool = False
    animated: bool = False  # or has several pages
    components: int = 0  # JPEG: 1, 3 or 4 colour components
    scans: int = 1  # passes of a decoder over the pixels
    complete: bool = True  # False: lengths in the file show that bytes are missing

    @property
    def pixels(self) -> int:
        return self.width * self.height

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height after the orientation is applied."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Messages for the sender; empty for an ordinary image."""
        warnings = []
        if self.animated:
            warnings.append(WARN_FRAMES)
        if self.orientation != 1:
            source = "" if self.format in ("avif", "heic") else "EXIF "
            warnings.append(f"{source}orientation {self.orientation} applied")
        if self.exif_damaged:
            warnings.append(WARN_EXIF)
        return tuple(warnings)
