"""Locks on directories of the store. They need no write access, and the kernel releases them when the process ends.

    hold       shared, on a version: a service has it for as long as it serves that version
    unserved   exclusive, on a version: a command that changes it, so that what is served never changes
    alone      exclusive, on the store: a command that changes its aliases

On a file system without locks nobody is kept from anything.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from service.errors import ArtifactError, OperatorError


def hold(version: Path) -> AbstractContextManager[None]:
    """Keep every command from changing ``version``, a directory; to be taken before the version is read.

    OperatorError if one is changing it just now. That there is no such version is left to the reader.
    """
    busy = OperatorError(f"{_reference(version)} is being changed by another command; try again")
    return _locked(version, fcntl.LOCK_SH, busy)


def unserved(version: Path) -> AbstractContextManager[None]:
    """Nobody serves ``version``, and nobody begins to. ArtifactError if somebody does."""
    why = f"{_reference(version)} is being served, and what is served does not change"
    return _locked(version, fcntl.LOCK_EX, ArtifactError(f"{why}; make another version, or stop its services first"))


def alone(store: Path) -> AbstractContextManager[None]:
    """OperatorError if another process changes the aliases of ``store``."""
    busy = OperatorError(f"busy: another promote or rollback in {store} is under way; wait until it has ended")
    return _locked(store, fcntl.LOCK_EX, busy)


@contextmanager
def _locked(directory: Path, kind: int, refusal: OperatorError) -> Iterator[None]:
    try:
        descriptor = _lock(directory, kind)
    except BlockingIOError:
        raise refusal from None
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _lock(directory: Path, kind: int) -> int | None:
    """A descriptor that has the lock, None where there can be none. BlockingIOError if another process excludes it."""
    while True:
        try:
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), directory.stat()):
                return descriptor
        except OSError as error:
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                raise
            return None
        os.close(descriptor)  # a command has just put another directory in its place


def _reference(version: Path) -> str:
    return f"{version.parent.name}/{version.name}"
