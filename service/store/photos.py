"""Finds and reads photos on the operator's disk, for calibration, parity and the commands that need no server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from service.errors import OperatorError, ServiceError

#: They only select files; a file's format is determined from its content.
_SUFFIXES: Final = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib"),
    *(".tif", ".tiff", ".avif"),
)


def image_files(folder: Path, left_out: Callable[[str], object] = lambda sentence: None) -> list[Path]:
    """Images in ``folder`` and in its direct subfolders, by name. OperatorError if there are none.

    ``left_out`` is called with a sentence if there are other files, apart from hidden ones.
    """
    try:
        every = sorted(path for pattern in ("*", "*/*") for path in folder.glob(pattern) if path.is_file())
        if not folder.is_dir():
            raise OperatorError(f"{folder} is not a folder")
    except OSError as error:
        raise OperatorError(f"{folder} cannot be read: {error.strerror}") from None
    files = [path for path in every if path.suffix.lower() in _SUFFIXES]
    others = Counter(
        (path.suffix.lower() or "no suffix") if path.suffix.isprintable() else "an odd suffix"
        for path in every
        if path.suffix.lower() not in _SUFFIXES and "/." not in f"/{path.relative_to(folder)}"
    )
    kinds = ", ".join([f"{suffix} ({count})" for suffix, count in others.most_common(8)] + ["…"] * (len(others) > 8))
    if not files:
        raise OperatorError(f"there are no images in {folder}" + f", only {kinds}" * bool(others))
    if others:
        left_out(f"left out {others.total()} of {len(files) + others.total()} files in {folder}: {kinds}")
    return files


def read_photo(path: Path) -> bytes:
    """A photo's bytes. ServiceError if it cannot be read, which concerns only this photo."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ServiceError(error.strerror or "cannot be read") from None
