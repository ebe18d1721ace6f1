"""What Pillow leaves undone for PNG: transparent colours at the depth of the pixels, and pictures without metadata."""

from __future__ import annotations

from typing import Final

from PIL import PngImagePlugin

#: Chunks that pixels depend on, and the end.
_PICTURE: Final = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
#: Pillow spreads 2- and 4-bit grey over 0 to 255 by these factors, but not the grey that tRNS names.
_GREY_FACTORS: Final = {"L;2": 85, "L;4": 17}


def scale_transparency(image: PngImagePlugin.PngImageFile) -> None:
    """Bring the colour that tRNS names, in place, to the 8 bits at which Pillow will deliver the pixels."""
    clear = image.info.get("transparency")
    if clear is None or not image.tile:
        return
    rawmode = image.tile[0].args
    if isinstance(clear, int) and isinstance(rawmode, str):
        image.info["transparency"] = clear * _GREY_FACTORS.get(rawmode, 1)
    elif isinstance(clear, tuple) and rawmode == "RGB;16B":
        image.info["transparency"] = tuple(sample >> 8 for sample in clear)


def without_metadata(data: bytes) -> bytes:
    """The same picture without the chunks that no pixel depends on: profiles, texts, EXIF, animation."""
    kept = [data[:8]]
    position = 8
    while position + 12 <= len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        if data[position + 4 : position + 8] in _PICTURE:
            kept.append(data[position:end])
        position = end
    return b"".join(kept)
