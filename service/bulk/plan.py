"""What a folder of shards belongs to: _plan.json, written first; _SUCCESS, written when all shards are there.

Any number of processes may work on one folder, on one machine or many. A file appears under its name only when it is
complete and on disk, so that a shard that exists is never made again, and one that two have made is the same.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from service.errors import OperatorError
from service.store.write import TEMPORARY, sync_directory, temporary_name

PLAN = "_plan.json"
SUCCESS = "_SUCCESS"


def begin(folder: Path, plan: Mapping[str, Any], *, resume: bool) -> None:
    """Write ``plan``, or check that it is the one that ``folder`` belongs to.

    OperatorError if it is another, or if there is one and ``resume`` is not set.
    """
    try:
        if (folder / PLAN).exists():
            remove_abandoned(folder)  # in a folder of ours only
        else:
            with temporary_file(folder) as file:
                file.write(json.dumps(plan, indent=1).encode() + b"\n")
                sync(file)
                resume |= _name(file, folder / PLAN)
            sync_directory(folder)
        there = json.loads((folder / PLAN).read_bytes())
    except ValueError:
        raise OperatorError(f"{folder / PLAN} is damaged; choose another folder or empty this one") from None
    if not resume:
        raise OperatorError(f"{folder} holds a run already; --resume goes on with it")
    if there != plan:
        names = [name for name in {**plan, **there} if plan.get(name) != there.get(name)]
        told = ", ".join(f"{name} is {there.get(name)} there and {plan.get(name)} here" for name in names)
        raise OperatorError(f"{folder} belongs to another run: {told}")


def succeed(folder: Path, counts: Counter[str]) -> None:
    """To be called when all shards are there, by however many processes."""
    with temporary_file(folder) as file:
        file.write(json.dumps({"photos": counts.total(), "outcomes": dict(counts)}, indent=1).encode() + b"\n")
        sync(file)
        Path(file.name).replace(folder / SUCCESS)
    sync_directory(folder)


def remove_abandoned(folder: Path) -> None:
    """Delete the temporary files of processes that were killed; a living one holds a lock on each of its own."""
    for path in folder.glob(f"{TEMPORARY}*"):
        with suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


@contextmanager
def temporary_file(folder: Path) -> Iterator[IO[bytes]]:
    """A new file in ``folder``, to be renamed or linked from ``file.name``; what is left under that name is deleted."""
    while True:
        file = temporary_name(folder).open("xb")
        with suppress(OSError):  # a file system without locks: what is abandoned there stays
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            break
        file.close()  # between opening and locking another process has taken it for abandoned
    try:
        with file:
            yield file
    finally:
        Path(file.name).unlink(missing_ok=True)


def _name(file: IO[bytes], path: Path) -> bool:
    """Give ``file`` its name unless that is taken: of processes that begin at once, one makes the plan."""
    try:
        os.link(file.name, path)  # unlike a rename it replaces nothing
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        Path(file.name).replace(path)
    return True


def sync(file: IO[bytes]) -> None:
    """Flush ``file`` to disk."""
    file.flush()
    os.fsync(file.fileno())
