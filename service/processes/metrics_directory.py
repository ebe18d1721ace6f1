"""The directory in which all processes of one service keep their metrics (prometheus_client's multiprocess mode).

It must have a name, so a supervisor that is killed leaves it behind; the next one to start removes it. Which ones are
in use shows in a lock that ends with its process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.errors import OperatorError

_PREFIX = "mobilenet-metrics-"
#: Its name until it is locked, by which nobody removes it.
_UNLOCKED = "mobilenet-new-"


@contextmanager
def metrics_directory(base: Path | None = None) -> Iterator[Path]:
    """A new one, in memory where that is possible; removed at the end. OperatorError if there can be none."""
    where = _base() if base is None else base
    _sweep(where)
    try:
        made = Path(tempfile.mkdtemp(prefix=_UNLOCKED, dir=where))
    except OSError as error:
        raise OperatorError(f"no directory for metrics can be made in {where}: {error.strerror}") from None
    lock = os.open(made, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(lock, fcntl.LOCK_EX)
    directory = made.rename(made.with_name(made.name.replace(_UNLOCKED, _PREFIX)))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def _base() -> Path:
    """Memory rather than a disk that every update would be written back to."""
    shared = Path("/dev/shm")  # noqa: S108  # the directory made in it has an unguessable name
    return shared if os.access(shared, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())


def _sweep(base: Path) -> None:
    for left in base.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # another user's, or in use, or just removed
            lock = os.open(left, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(lock).st_uid == os.geteuid():
                    shutil.rmtree(left)
            finally:
                os.close(lock)
