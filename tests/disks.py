"""Small file systems in memory, to fill or to make read-only; only root can mount them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


class Disk:
    """A small file system in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self._mount("-t", "tmpfs", "-o", "size=4m", "tmpfs")

    def fill(self) -> None:
        """Leave room for 100 KB."""
        with (self.path / "ballast").open("wb", buffering=0) as file:
            while (free := shutil.disk_usage(self.path).free - 100_000) > 0:
                if not file.write(bytes(min(free, 2**20))):
                    break

    def empty(self) -> None:
        (self.path / "ballast").unlink()

    def read_only(self) -> None:
        self._mount("-o", "remount,ro")

    def _mount(self, *options: str) -> None:
        subprocess.run(["mount", *options, str(self.path)], check=True, capture_output=True, text=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Import it."""
    try:
        made = Disk(tmp_path / "disk")
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        # The same faults are injected, without a disk, by tests/store/test_pull_cut_off.py and tests/bulk/test_run.py.
        pytest.skip(f"only root can mount a small disk: {getattr(error, 'stderr', error)}")
    yield made
    subprocess.run(["umount", str(made.path)], check=True)
