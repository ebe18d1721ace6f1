"""Services in namespaces of the kernel: as process 1, or where nothing can be written."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

import pytest

#: Where temporary files could go, and the working directory; ``exec`` at last.
_READ_ONLY = """
for folder in /dev/shm /tmp /var/tmp "$PWD"; do
    mount --bind "$folder" "$folder" && mount -o remount,ro,bind "$folder" || exit 77
done
cd "$PWD" && unset TMPDIR TEMP TMP && exec "$@"
"""

_PROCESS_1 = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
_NOTHING_WRITABLE = ("unshare", "--mount", "sh", "-c", _READ_ONLY, "sh")


def as_process_1() -> tuple[str, ...]:
    """A ``program`` for ``tests.e2e.process.server``: its process is then ``unshare``, whose only child the service is.

    Skips the test where that is not allowed.
    """
    return _program(_PROCESS_1)


def where_nothing_can_be_written() -> tuple[str, ...]:
    """The same, where /dev/shm, /tmp, /var/tmp and the working directory are read-only."""
    return _program(_NOTHING_WRITABLE)


def _program(prefix: Sequence[str]) -> tuple[str, ...]:
    try:
        subprocess.run([*prefix, "true"], check=True, capture_output=True, text=True)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"only root can make such a namespace: {getattr(error, 'stderr', error)}")
    command = f"[*{list(prefix)!r}, sys.executable, '-m', 'service', *sys.argv[1:]]"
    return "-c", f"import os, sys; os.execvp({prefix[0]!r}, {command})"
