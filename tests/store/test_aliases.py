"""Writing ``aliases.json``: alone, atomically, and never over somebody else's change."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from service.errors import OperatorError
from service.model.aliases import ALIASES, Aliases, dump, read
from service.store import aliases
from tests.store.conftest import fail_with

ONE, TWO = {"tiny": Aliases("1")}, {"tiny": Aliases("2")}


def names(store: Path) -> list[str]:
    return sorted(path.name for path in store.iterdir())


def test_the_file_is_made_and_replaced(tmp_path: Path) -> None:
    for desired in (ONE, TWO):
        aliases.write(tmp_path, desired)
        assert read(tmp_path) == desired
        assert names(tmp_path) == [ALIASES]


def test_what_is_only_prepared_changes_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    aliases.write(tmp_path, ONE)
    with aliases.changing(tmp_path) as change:
        assert change.before == ONE
        change.prepare(TWO)
        assert read(tmp_path) == ONE
    assert not change.committed
    assert read(tmp_path) == ONE
    assert names(tmp_path) == [ALIASES]


def test_a_second_writer_is_refused_at_once(tmp_path: Path) -> None:
    with (
        aliases.changing(tmp_path),
        pytest.raises(OperatorError, match=r"busy: another promote or rollback in .* is under way"),
    ):
        aliases.write(tmp_path, ONE)
    aliases.write(tmp_path, TWO)
    assert read(tmp_path) == TWO


@pytest.mark.parametrize(
    ("before", "meanwhile"), [(None, TWO), (ONE, None), (ONE, TWO)], ids=["made", "removed", "replaced"]
)
def test_what_somebody_else_wrote_meanwhile_stays(
    before: dict[str, Aliases] | None, meanwhile: dict[str, Aliases] | None, tmp_path: Path
) -> None:
    if before is not None:
        aliases.write(tmp_path, before)
    with aliases.changing(tmp_path) as change:
        change.prepare({"tiny": Aliases("3")})
        (tmp_path / ALIASES).unlink(missing_ok=True)
        if meanwhile is not None:
            (tmp_path / ALIASES).write_bytes(dump(meanwhile))
        with pytest.raises(OperatorError, match="has been changed by somebody else meanwhile"):
            change.commit()
    assert read(tmp_path) == (meanwhile or {})
    assert not change.committed


def test_a_full_disk_shows_before_anything_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aliases.write(tmp_path, ONE)
    monkeypatch.setattr(os, "fsync", fail_with(errno.ENOSPC))
    with (
        aliases.changing(tmp_path) as change,
        pytest.raises(OperatorError, match=r"aliases.json: the disk of .* is full"),
    ):
        change.prepare(TWO)
    assert read(tmp_path) == ONE
    assert names(tmp_path) == [ALIASES]


def test_a_store_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"aliases.json: .*absent cannot be written: No such file"):
        aliases.write(tmp_path / "absent", ONE)


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    aliases.write(tmp_path, ONE)
    with pytest.raises(OperatorError, match="at most 8"):
        aliases.write(tmp_path, {f"m{n}": Aliases("1") for n in range(9)})
    assert read(tmp_path) == ONE


def test_an_invalid_file_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / ALIASES).write_text("{")
    with pytest.raises(OperatorError, match=r"aliases.json is invalid"):
        aliases.write(tmp_path, ONE)
    assert (tmp_path / ALIASES).read_text() == "{"


def test_what_a_killed_writer_left_goes_and_the_rest_stays(tmp_path: Path) -> None:
    (tmp_path / ".tmp-0123").touch()
    (tmp_path / ".hidden").touch()
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / ".tmp-4567").touch()  # of a pull, perhaps one that is running
    aliases.write(tmp_path, ONE)
    assert names(tmp_path) == [".hidden", ALIASES, "tiny"]
    assert names(tmp_path / "tiny") == [".tmp-4567"]
