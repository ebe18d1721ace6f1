"""Where services of this machine listen for its operator: Unix sockets in a directory that only their user writes to.

    /run/mobilenet-service/                 if it can be made, or was made for this user
    $XDG_RUNTIME_DIR/mobilenet-service/     else
    <tmp>/mobilenet-service-<uid>/          else

A socket is called ``<store>-<pid>.sock``. ``store`` is a digest of the store's path, so that whoever looks for the
services of a store asks no others.
"""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from service.errors import OperatorError

_NAME = "mobilenet-service"
_RUN = Path("/run")


def new_socket(store: Path) -> Path:
    """Where this process is to listen. Makes the directory, without dead services' sockets, or raises OperatorError."""
    for directory in _candidates():
        with suppress(OSError):
            directory.mkdir(mode=0o700, exist_ok=True)
            if _is_ours(directory):
                for path in directory.glob("*.sock"):
                    _remove_if_abandoned(path)
                return directory / f"{_key(store)}-{os.getpid()}.sock"
    raise OperatorError(f"no directory for sockets can be made: {', '.join(map(str, _candidates()))}")


def sockets(store: Path) -> list[Path]:
    """Where the services of ``store`` listen, as far as this user can see; removes what dead ones left."""
    found: list[Path] = []
    for directory in _candidates():
        # What stands in /run was made by root, for whatever user; elsewhere another user's may pretend to be a service.
        if directory.parent == _RUN or _is_ours(directory):
            found += sorted(directory.glob(f"{_key(store)}-*.sock"))
    return [path for path in found if not _remove_if_abandoned(path)]


def process_of(path: Path) -> int:
    """The id of the process that listens at ``path``, one of ``sockets``."""
    return int(path.stem.rpartition("-")[2])


def is_abandoned(path: Path) -> bool:
    """Whether it is a Unix socket on which nobody listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return path.is_socket()
        except OSError:
            pass
    return False


def _candidates() -> Iterator[Path]:
    yield _RUN / _NAME
    if (runtime := Path(os.environ.get("XDG_RUNTIME_DIR", ""))).is_absolute():
        yield runtime / _NAME
    with suppress(FileNotFoundError):  # no directory for temporary files either
        yield Path(tempfile.gettempdir(), f"{_NAME}-{os.geteuid()}")


def _is_ours(directory: Path) -> bool:
    """A directory, no link, that belongs to this user and that no other can write to."""
    try:
        status = directory.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _remove_if_abandoned(path: Path) -> bool:
    abandoned = is_abandoned(path)
    if abandoned:
        with suppress(OSError):
            path.unlink()
    return abandoned


def _key(store: Path) -> str:
    return hashlib.sha256(os.fsencode(store.resolve())).hexdigest()[:16]
