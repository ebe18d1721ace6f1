"""What a process sees to before anything else: its standard streams, signals that come early, its open files.

Imports nothing that takes time: it runs before the imports that do.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
from typing import TextIO

from service.errors import OperatorError

#: They must never end a service: a lost terminal, and whatever others send to reopen logs or to write profiles.
HARMLESS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

#: Open files that are not connections: 14 on a CPU, 27 of a worker, more with a GPU driver, and those of /docs.
_OTHER_FILES = 128
#: What a supervisor has open for each worker: two pipes and, since Python 3.12, the process; twice while workers are
#: replaced. An engine has two.
_FILES_PER_WORKER = 6


def open_standard_streams() -> None:
    """Open those that are closed on /dev/null. Else the next file, perhaps a client's connection, would take their
    place, and whatever a library prints would be sent to it."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number: this one
            # Stays open as long as the process, as those that Python makes.
            stream: TextIO = open(descriptor, "w" if descriptor else "r", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


def say(line: str) -> None:
    """Write it to standard error. Where its terminal is gone or its disk is full, a service goes on, or ends as it was
    about to."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"{line}\n")


def flush_standard_streams() -> None:
    """Before ``os._exit``. Where a terminal or a disk is gone, nothing can be done about it any more."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


def end_on_sigterm(status: int) -> None:
    """Until another handler is set, SIGTERM ends the process with ``status``.

    Without a handler the kernel ignores it for process 1 of a container.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(status))


def ignore_harmless_signals() -> None:
    """Until another handler is set. The processes that are started from now on inherit it."""
    for number in HARMLESS:
        signal.signal(number, signal.SIG_IGN)


def connection_limit(most: int, *, workers: int = 0) -> int:
    """How many connections the limit on open files allows, at most ``most``; raises that limit to its maximum.

    ``workers`` is how many processes this one starts, which have the same limit.

    The default is often 1024 for select(), which is not used here. OperatorError if none is allowed.
    """
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    others = _OTHER_FILES + _FILES_PER_WORKER * workers
    if limit <= others:
        raise OperatorError(
            f"the limit on open files is {limit}, and the service needs {others} beside its connections; "
            f"raise it: ulimit -n {others + 1024}"
        )
    return min(most, limit - others)
