"""Writes to the store: atomically, with one writer per model at a time.

Data goes to a temporary file in the directory of its destination, is flushed to disk and renamed over it, so that a
reader sees either the old file or the new one, even after a crash. A writer holds a lock on the model's directory and
first removes what a killed writer left there.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.errors import OperatorError
from service.model.artifact import Manifest

#: Prefix of temporary files and directories; no valid name of a model or version starts with it.
TEMPORARY = ".tmp-"
_OLD = ".old-"

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EROFS, errno.EACCES, errno.EPERM}


def serialize(tensors: Mapping[str, NDArray[np.float32]]) -> bytes:
    """``tensors`` as a safetensors file; the same tensors always give the same bytes.

    The format is eight bytes of header length (little-endian), a JSON header, the data. We do not use the library
    because the sha256 of the result is part of manifests and must not change with the library's version.
    """
    header: dict[str, object] = {}
    chunks: list[bytes] = []
    offset = 0
    for name in sorted(tensors):
        data = np.ascontiguousarray(tensors[name], dtype="<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": [*tensors[name].shape], "data_offsets": [offset, offset + len(data)]}
        chunks.append(data)
        offset += len(data)
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)  # the data starts aligned
    return b"".join([len(encoded).to_bytes(8, "little"), encoded, *chunks])


def manifest_bytes(manifest: Manifest) -> bytes:
    """The content of model.json for ``manifest``; unset fields are omitted, except the digest that a pull fills in."""
    fields = manifest.model_dump(mode="json", exclude_none=True)
    content = {name: fields.get(name) for name in Manifest.model_fields}
    for name in ("derived", "head"):  # shown only where they say something
        if getattr(manifest, name) == Manifest.model_fields[name].get_default(call_default_factory=True):
            del content[name]
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def replace_file(path: Path, data: bytes) -> None:
    """Write ``path`` atomically: after any exception, including KeyboardInterrupt, the old content stays."""
    replace_files(path.parent, {path.name: data})


def replace_files(directory: Path, files: Mapping[str, bytes]) -> None:
    """Replace several files of ``directory``, in order. All are on disk before the first is renamed, so an earlier
    failure changes nothing. A reader in between finds a digest that does not match."""
    temporaries = {name: temporary_name(directory) for name in files}
    try:
        for name, data in files.items():
            create_file(temporaries[name], data)
        for name, temporary in temporaries.items():
            temporary.replace(directory / name)
    finally:
        for temporary in temporaries.values():
            temporary.unlink(missing_ok=True)
    sync_directory(directory)


def create_directory(directory: Path, files: Mapping[str, bytes]) -> None:
    """Make or replace ``directory`` with exactly ``files`` in it, in one step.

    Replacing takes two renames; after a crash between them ``remove_leftovers`` undoes the first one. The caller must
    hold the lock on ``directory.parent``.
    """
    old = directory.parent / f"{_OLD}{directory.name}"
    with scratch(directory.parent) as temporary:
        for name, data in files.items():
            create_file(temporary / name, data)
        sync_directory(temporary)
        if directory.exists():
            directory.rename(old)
        try:
            temporary.rename(directory)
        except BaseException:
            if old.exists():
                old.rename(directory)
            raise
    sync_directory(directory.parent)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def scratch(directory: Path) -> Iterator[Path]:
    """A temporary directory inside ``directory``, so that files can be renamed from there."""
    temporary = temporary_name(directory)
    temporary.mkdir()
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def exclusive(directory: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the write lock on ``directory`` and remove leftovers; ``waiting`` is called if another process holds it.

    The kernel releases the lock when the process ends. On a file system without locks, leftovers stay, and two writers
    do the same work twice, which is harmless because each write is atomic.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if _lock(descriptor, waiting):
            remove_leftovers(directory)
        yield
    finally:
        os.close(descriptor)


def remove_leftovers(directory: Path) -> None:
    """Delete temporary files in ``directory`` and its versions, and undo or finish interrupted replacements."""
    for old in directory.glob(f"{_OLD}*"):
        original = directory / old.name.removeprefix(_OLD)
        if not original.exists():
            old.rename(original)
        else:
            shutil.rmtree(old, ignore_errors=True)
    for leftover in [*directory.glob(f"{TEMPORARY}*"), *directory.glob(f"[!.]*/{TEMPORARY}*")]:
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            with suppress(OSError):
                leftover.unlink()


@contextmanager
def explained(kind: type[OperatorError], reference: str, store: Path) -> Iterator[None]:
    """Turn an OSError from writing into ``kind``, with one sentence and a remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            why = f"the disk of {store} is full ({error.strerror}); free some space and run the command again"
        elif error.errno in _DENIED:
            why = f"{store} is not writable ({error.strerror}); mount it read-write or choose another --model-store"
        else:
            why = f"{store} cannot be written: {error.strerror or error}; check the disk and run the command again"
        raise kind(f"{reference}: {why}") from error


def _lock(descriptor: int, waiting: Callable[[], None]) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        waiting()
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:
        return False
    return True


def temporary_name(directory: Path) -> Path:
    """A name in ``directory`` that no other process uses."""
    return directory / f"{TEMPORARY}{secrets.token_hex(8)}"


def create_file(path: Path, data: bytes) -> None:
    """Make the file ``path`` and flush it to disk. Its permissions follow the umask, so that a server running as
    another user can read it."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(directory: Path) -> None:
    """Flush renames in ``directory`` to disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # not supported by some network file systems
            raise
    finally:
        os.close(descriptor)
