"""An image in whatever form, as the bytes that are sent."""

from __future__ import annotations

import asyncio
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mobilenet_client.errors import BadImage

if TYPE_CHECKING:
    import PIL.Image

#: A path, an encoded image, a file that is open, a PIL image, or pixels of shape (height, width, 3).
ImageLike: TypeAlias = "str | os.PathLike[str] | bytes | BinaryIO | PIL.Image.Image | NDArray[np.uint8]"


async def encoded(image: ImageLike) -> bytes:
    """BadImage if it cannot be read; files and pixels are read in a thread."""
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    try:
        return await asyncio.to_thread(_read, image)
    except (OSError, ValueError) as error:
        raise BadImage(0, "Unreadable image", str(error)) from error


def _read(image: Any) -> bytes:
    if isinstance(image, str | os.PathLike):
        return Path(image).read_bytes()
    if hasattr(image, "read"):
        return bytes(image.read())
    from PIL import Image  # not installed with this package: most send files

    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"pixels are uint8 of shape (height, width, 3), not {image.dtype} of shape {image.shape}")
        image = Image.fromarray(image)
    if not isinstance(image, Image.Image):
        raise TypeError(f"{type(image).__name__} is no image: give a path, bytes, an open file, pixels or a PIL image")
    upright = image.getexif()  # the service turns the photo as it does the file's
    if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16"):
        image = image.convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1, exif=upright)
    return buffer.getvalue()
