"""Finds and reads photos on the operator's disk: for calibration and parity, the local commands and bulk work."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from service.errors import OperatorError, ServiceError
from service.image import is_image

#: They only select files; a file's format is determined from its content.
_SUFFIXES: Final = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib"),
    *(".tif", ".tiff", ".avif"),
)
#: What ``is_image`` needs.
HEAD_BYTES: Final = 1024
UNREADABLE: Final = "folders that cannot be read"


def image_files(folder: Path, left_out: Callable[[str], object] = lambda sentence: None) -> list[Path]:
    """Images in ``folder`` and below, as ``walk`` finds them."""
    return [Path(name) for name in walk(folder, left_out)]


def walk(folder: Path, left_out: Callable[[str], object], kinds: Counter[str] | None = None) -> Iterator[str]:
    """Paths of the images in ``folder`` and below, sorted. OperatorError if there are none, or no folder.

    Hidden files and folders are left out. Links are followed, but no folder is entered twice. ``left_out`` is called
    with a sentence if there are other files, which ``kinds`` counts.
    """
    taken, others = 0, Counter[str]()
    try:
        if not folder.is_dir():
            raise OperatorError(f"{folder} is not a folder")
        os.scandir(folder).close()
    except OSError as error:
        raise OperatorError(f"{folder} cannot be read: {error.strerror}") from None
    for path in _files_below(str(folder), others):
        if (kind := kind_left_out(path, partial(_head, path))) is None:
            taken += 1
            yield path
        else:
            others[kind] += 1
    told = describe(others)
    if not taken:
        raise OperatorError(f"there are no images in {folder}" + f", only {told}" * bool(others))
    if others:
        left_out(f"left out {others.total()} of {taken + others.total()} files in {folder}: {told}")
    if kinds is not None:
        kinds.update(others)


def kind_left_out(name: str, head: Callable[[], bytes]) -> str | None:
    """Why the file ``name`` is no photo, in a word: its suffix; None if it is one.

    Where there is no suffix, its ``head`` decides.
    """
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122  # a million times, and names may hold anything
    if suffix in _SUFFIXES or (not suffix and is_image(head())):
        return None
    return (suffix or "no suffix") if suffix.isprintable() else "an odd suffix"


def describe(kinds: Counter[str]) -> str:
    """``.txt (3), .nef (1)``: the most frequent ones."""
    named = [f"{kind} ({count})" for kind, count in kinds.most_common(8)]
    return ", ".join(named + ["…"] * (len(kinds) > 8))


def read_photo(path: Path) -> bytes:
    """A photo's bytes. ServiceError if it cannot be read, which concerns only this photo."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ServiceError(error.strerror or "cannot be read") from None


def _files_below(folder: str, others: Counter[str]) -> Iterator[str]:
    entered: set[tuple[int, int]] = set()

    def enter(path: str) -> Iterator[tuple[str, bool]]:
        names, folders = list[str](), set[str]()
        try:
            status = os.stat(path)  # noqa: PTH116
            if (key := (status.st_dev, status.st_ino)) in entered:
                return iter(())
            entered.add(key)
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        folders.add(entry.name)
                    elif not entry.is_file():
                        continue
                    names.append(entry.name)
        except OSError:
            others[UNREADABLE] += 1
            return iter(())
        start = "" if path == os.curdir else os.path.join(path, "")  # noqa: PTH118
        return ((start + name, name in folders) for name in sorted(names))

    stack = [enter(folder)]  # not recursive: a folder may be deeper than Python's stack
    while stack:
        for path, is_folder in stack[-1]:
            if is_folder:
                stack.append(enter(path))
                break
            yield path
        else:
            stack.pop()


def _head(path: str) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return file.read(HEAD_BYTES)
    except OSError:
        return b""
