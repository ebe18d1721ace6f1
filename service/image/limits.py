"""What one image may cost. Filled by the composition root from the settings; read by ``headers`` and ``decode``."""

from __future__ import annotations

from dataclasses import dataclass


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
    #: coefficient of the picture: 0.33 ns a pixel measured, so 200 kB could ask for a minute. This allows 0.15 s.
    max_scan_pixels: int = 400_000_000

    #: JPEG segments before the first scan, and as many from there on. One holds up to 64 KiB; ``inspect`` steps from
    #: one to the next on the event loop, half a microsecond each.
    max_segments: int = 4096

    #: PNG, WebP and GIF blocks, TIFF strips. Python visits each one, holding the GIL, for up to 5 µs.
    #: A 16 MiB PNG in chunks of 8 KiB has 2,048; 65,536 strips are more than one a row.
    max_blocks: int = 65_536

    #: Run-length encoded BMP is expanded by Pillow in Python, code by code, holding the GIL.
    max_rle_pixels: int = 1_000_000


DEFAULT_LIMITS = Limits()
