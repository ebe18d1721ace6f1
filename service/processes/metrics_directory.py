"""The directory in which all processes of one service keep their metrics (prometheus_client's multiprocess mode), and
their supervisor its copies of what they serve.

It must have a name, so a supervisor that is killed leaves it behind. The next supervisor to start removes every
directory that no living process has locked.
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
#: Until a new directory is locked it has this prefix, which other supervisors do not remove.
_UNLOCKED = "mobilenet-new-"


@contextmanager
def metrics_directory(base: Path | None = None) -> Iterator[Path]:
    """A new directory, in memory if possible; removed at the end. OperatorError if it cannot be created."""
    try:
        base = _default_base() if base is None else base
        _remove_abandoned(base)
        unlocked = Path(tempfile.mkdtemp(prefix=_UNLOCKED, dir=base))
    except OSError as error:
        where = base or "/dev/shm"  # noqa: S108
        raise OperatorError(f"no directory for metrics can be made in {where}: {error.strerror}") from None
    lock = os.open(unlocked, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(lock, fcntl.LOCK_EX)
    directory = unlocked.rename(unlocked.with_name(unlocked.name.replace(_UNLOCKED, _PREFIX)))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def _default_base() -> Path:
    """Memory if possible: on a disk every update would be written back."""
    shared = Path("/dev/shm")  # noqa: S108  # the directory made in it has an unguessable name
    return shared if os.access(shared, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())


def _remove_abandoned(base: Path) -> None:
    for directory in base.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # another user's, or locked, or just removed
            lock = os.open(directory, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(lock).st_uid == os.geteuid():
                    shutil.rmtree(directory)
            finally:
                os.close(lock)
