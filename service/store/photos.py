"""Finds and reads photos on the operator's disk, for calibration, parity and the commands that need no server."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from service.errors import OperatorError, ServiceError

#: They only select files; a file's format is determined from its content.
_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})


def image_files(folder: Path) -> list[Path]:
    """Images in ``folder`` and in its direct subfolders, by name. OperatorError if there are none."""
    try:
        files = sorted(
            path
            for pattern in ("*", "*/*")
            for path in folder.glob(pattern)
            if path.suffix.lower() in _SUFFIXES and path.is_file()
        )
        if not folder.is_dir():
            raise OperatorError(f"{folder} is not a folder")
    except OSError as error:
        raise OperatorError(f"{folder} cannot be read: {error.strerror}") from None
    if not files:
        raise OperatorError(f"there are no images in {folder}")
    return files


def read_photo(path: Path) -> bytes:
    """A photo's bytes. ServiceError if it cannot be read, which concerns only this photo."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ServiceError(error.strerror or "cannot be read") from None
