"""What is served does not change: the lock of a service against the commands that change a version."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.errors import ArtifactError, OperatorError
from service.model import artifact
from service.store import locks, quantize, write
from service.store.add import add
from service.store.parity import ParityReport, record
from service.store.pull import pull
from tests.artifacts import make_artifact
from tests.disks import Disk, disk
from tests.store.conftest import child

__all__ = ["disk"]

REPORT = ParityReport([], 0, False, "none", [])
SERVED = "tiny/1 is being served, and what is served does not change; make another version, or stop its services first"


@pytest.fixture
def version(tmp_path: Path) -> Path:
    return make_artifact(tmp_path / "store", width_mult=0.1, num_classes=3).directory


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def force(version: Path) -> Any:
    return add(
        version.parent.parent,
        version / artifact.WEIGHTS,
        version / artifact.LABELS,
        name="tiny",
        width_mult=0.1,
        description=f"{artifact.read_manifest(version).description}, again",
        force=True,
    )


def save(version: Path) -> None:
    record(version.parent.parent, "tiny", "1", REPORT)


def make_int8(version: Path) -> Any:
    return quantize.quantize(version.parent.parent, "tiny", "1", images=version.parent)


@pytest.fixture(autouse=True)
def _nncf_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal comes before it is needed."""
    monkeypatch.setattr(quantize, "require_extra", lambda *arguments: None)


@pytest.mark.parametrize("change", [force, save, make_int8])
def test_a_served_version_is_not_changed(change: Callable[[Path], Any], version: Path) -> None:
    before = content(version)
    with locks.hold(version), locks.hold(version), pytest.raises(ArtifactError) as caught:  # two services
        change(version)
    assert str(caught.value) == SERVED
    assert content(version) == before
    assert [path.name for path in version.parent.iterdir()] == ["1"]


@pytest.mark.parametrize("change", [force, save])
def test_it_is_once_nobody_serves_it(change: Callable[[Path], Any], version: Path) -> None:
    before = content(version)
    with locks.hold(version):
        pass
    change(version)
    assert content(version) != before
    with locks.hold(version):  # the lock is on what stands there now
        with pytest.raises(ArtifactError):
            change(version)
        pull(version.parent.parent, "tiny", "1")  # intact weights: nothing to do


def test_another_version_may_be_added_while_one_is_served(version: Path) -> None:
    with locks.hold(version):
        add(
            version.parent.parent,
            version / artifact.WEIGHTS,
            version / artifact.LABELS,
            name="tiny",
            width_mult=0.1,
            version="2",
        )
    assert sorted(path.name for path in version.parent.iterdir()) == ["1", "2"]


def test_nobody_begins_to_serve_what_is_being_changed(version: Path) -> None:
    with (
        locks.unserved(version),
        pytest.raises(OperatorError, match="tiny/1 is being changed by another command; try again"),
        locks.hold(version),
    ):
        raise AssertionError


def test_a_version_that_is_replaced_before_it_is_locked(version: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock is then on the new directory; one on the old would protect nothing."""
    flock = fcntl.flock
    calls = []

    def late(descriptor: int, kind: int) -> None:
        calls.append(descriptor)
        if len(calls) == 1:
            write.create_directory(version, content(version))
        flock(descriptor, kind)

    monkeypatch.setattr(fcntl, "flock", late)
    with locks.hold(version):
        assert len(calls) == 2
        with pytest.raises(ArtifactError), locks.unserved(version):
            raise AssertionError


def test_the_lock_ends_with_its_process(version: Path) -> None:
    service = child(
        "import sys, pathlib; from service.store.locks import hold\n"
        "with hold(pathlib.Path(sys.argv[1])): print(flush=True); sys.stdin.read()",
        version,
        stdin=-1,
    )
    with service:
        assert service.stdout is not None
        service.stdout.readline()
        with pytest.raises(ArtifactError):
            save(version)
        service.kill()
        service.wait()
    save(version)


def test_a_version_that_is_not_there_is_left_to_the_reader(tmp_path: Path) -> None:
    with locks.hold(tmp_path / "tiny" / "9"):
        pass


def test_a_file_system_without_locks(version: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(descriptor: int, kind: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with locks.hold(version), locks.unserved(version):
        save(version)


def test_a_version_on_a_read_only_disk_is_held(version: Path, disk: Disk) -> None:
    shutil.copytree(version.parent.parent, disk.path / "store")
    disk.read_only()
    there = disk.path / "store" / "tiny" / "1"
    with locks.hold(there), pytest.raises(ArtifactError, match="is being served"), locks.unserved(there):
        raise AssertionError
