"""Where services listen for their operator, and what is left of dead ones."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.errors import OperatorError
from service.host import runtime_directory
from service.host.runtime_directory import new_socket, process_of, sockets


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Path]]:
    """The three parents of the directory, in order; short, because the path of a socket has 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="mn-") as root:
        found = {name: Path(root, name) for name in ("run", "user", "tmp")}
        for path in found.values():
            path.mkdir()
        monkeypatch.setattr(runtime_directory, "_RUN", found["run"])
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(found["user"]))
        monkeypatch.setattr(tempfile, "tempdir", str(found["tmp"]))
        yield found


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path


def listening(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    return listener


def test_the_first_place_that_can_be_is_taken(places: dict[str, Path], store: Path) -> None:
    for name, directory in (("run", "mobilenet-service"), ("user", "mobilenet-service"),
                            ("tmp", f"mobilenet-service-{os.geteuid()}")):  # fmt: skip
        path = new_socket(store)
        assert path.parent == places[name] / directory
        assert process_of(path) == os.getpid()
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        path.parent.rmdir()
        path.parent.touch()  # from now on it cannot be made
    with pytest.raises(OperatorError, match=r"no directory for sockets can be made: .*/run/mobilenet-service, "):
        new_socket(store)
    assert sockets(store) == []


def test_a_relative_runtime_directory_is_none(
    places: dict[str, Path], store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(places["run"])
    monkeypatch.setenv("XDG_RUNTIME_DIR", "user")
    assert new_socket(store).parent.parent == places["tmp"]
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert new_socket(store).parent.parent == places["tmp"]


@pytest.mark.parametrize("fault", ["link", "writable"])
def test_a_directory_that_another_user_could_change_is_passed_over(
    fault: str, places: dict[str, Path], store: Path
) -> None:
    shutil.rmtree(places["run"])
    directory = places["user"] / "mobilenet-service"
    (places["user"] / "elsewhere").mkdir(mode=0o700)
    if fault == "link":
        directory.symlink_to(places["user"] / "elsewhere")
    else:
        directory.mkdir()
        directory.chmod(0o770)
    assert new_socket(store).parent.parent == places["tmp"]
    with listening(directory / new_socket(store).name):
        assert sockets(store) == []


def test_a_directory_of_another_user_is_none(
    places: dict[str, Path], store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(places["run"])
    with listening(new_socket(store)) as listener:
        assert [str(path) for path in sockets(store)] == [listener.getsockname()]
        own = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: own + 1)
        assert sockets(store) == []
        with pytest.raises(OperatorError, match="no directory for sockets can be made"):
            new_socket(store)


def test_a_directory_that_others_may_only_look_into_is_taken_as_it_is(places: dict[str, Path], store: Path) -> None:
    """As a service manager makes it; another socket in it may be for everyone."""
    made = places["run"] / "mobilenet-service"
    made.mkdir(mode=0o755)
    assert new_socket(store).parent == made
    assert stat.S_IMODE(made.stat().st_mode) == 0o755


def test_services_of_this_store_are_found_wherever_they_listen(places: dict[str, Path], store: Path) -> None:
    first = new_socket(store)
    shutil.rmtree(places["run"])
    second = new_socket(store)
    assert second.parent.parent == places["user"]
    first.parent.mkdir(parents=True)
    other = new_socket(store / "another")
    with listening(first), listening(second), listening(other):
        assert sockets(store) == [first, second]
        assert sockets(store / "another") == [other]
    assert sockets(store) == []


def test_a_store_is_the_same_under_every_name(
    places: dict[str, Path], store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (store / "real").mkdir()
    (store / "link").symlink_to(store / "real")
    monkeypatch.chdir(store)
    assert new_socket(Path("real")) == new_socket(store / "link") == new_socket(store / "real")


def test_what_dead_services_left_goes_and_living_ones_stay(places: dict[str, Path], store: Path) -> None:
    path = new_socket(store)
    dead, alive, note = (path.with_name(name) for name in ("0123-1.sock", "4567-2.sock", "8901-3.sock"))
    listening(dead).close()
    note.touch()  # no socket at all
    with listening(alive):
        new_socket(store)
        assert sorted(path.parent.iterdir()) == [alive, note]
        listening(path).close()
        assert sockets(store) == []
        assert sorted(path.parent.iterdir()) == [alive, note]
