"""``pull`` interrupted, killed, doubled or without room: nothing half-written, and the next one works."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.errors import PullError
from service.model import artifact
from service.store.catalog import list_models
from service.store.pull import pull
from tests.store.conftest import Published, child, fail_with, litter, nothing_was_stored

#: A pull in a process of its own, after some preparation.
PULL = """
import sys
from pathlib import Path
from service.store.pull import pull
{prepare}
pull(Path(sys.argv[1]), "tiny", "1")
"""


def test_ctrl_c_leaves_nothing(store: Path) -> None:
    def interrupt(description: str, done: int, total: int | None) -> None:
        if done > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(store, "tiny", "1", interrupt)
    assert nothing_was_stored(store)


def test_kill_during_the_download(store: Path, published: Published) -> None:
    published.behaviour = "stalled"
    with child(PULL.format(prepare="pass"), store) as process:
        assert published.half_sent.wait(30)
        process.kill()
    assert artifact.load(store, "tiny", "1").manifest.weights is None
    assert [entry.state for entry in list_models(store)] == ["not pulled"]
    published.behaviour = "whole"
    pull(store, "tiny", "1").load_weights()
    assert litter(store) == []


@pytest.mark.parametrize("moment", ["weights", "manifest"])
def test_kill_just_before_a_file_appears(store: Path, moment: str) -> None:
    """Stops at the rename of the weights, or of the manifest after it, and dies there."""
    stop = "(print('here', flush=True), signal.pause()) if name in str(b) else r(a, b)"
    name = artifact.WEIGHTS if moment == "weights" else artifact.MANIFEST
    prepare = f"import signal; r, name = Path.replace, {name!r}; Path.replace = lambda a, b: {stop}"
    with child(PULL.format(prepare=prepare), store) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.kill()
    assert artifact.load(store, "tiny", "1").manifest.weights is None
    assert litter(store) != []
    pull(store, "tiny", "1").load_weights()
    assert litter(store) == []


def test_two_pulls_at_once_download_once(store: Path, published: Published) -> None:
    published.behaviour = "stalled"
    waiting = threading.Event()

    def second(description: str, done: int, total: int | None) -> None:
        if description.startswith("waiting"):
            waiting.set()

    with ThreadPoolExecutor(2) as pool:
        pulls = [pool.submit(pull, store, "tiny", "1")]
        assert published.half_sent.wait(30)
        pulls.append(pool.submit(pull, store, "tiny", "1", second))
        assert waiting.wait(30)
        published.go_on.set()
    assert len({done.result().digest for done in pulls}) == 1
    assert published.requests == 1
    assert litter(store) == []


def test_a_file_system_without_locks(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", fail_with(errno.ENOLCK))
    pull(store, "tiny", "1").load_weights()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.ENOSPC, r"tiny/1: the disk of .* is full \(No space left on device\); free some space"),
        (errno.EIO, r"cannot be written: Input/output error; check the disk"),
    ],
)
def test_a_disk_that_fails_at_the_last_moment(
    store: Path, monkeypatch: pytest.MonkeyPatch, code: int, message: str
) -> None:
    monkeypatch.setattr(os, "fsync", fail_with(code))
    with pytest.raises(PullError, match=message):
        pull(store, "tiny", "1")
    assert nothing_was_stored(store)


def test_no_room_for_the_download(store: Path) -> None:
    """A real write that really fails: the child may not write files over 4 KiB."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))"
    with child(PULL.format(prepare=limit), store, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}) as process:
        _, errors = process.communicate()
    assert "PullError: tiny/1: the disk of" in errors
    assert nothing_was_stored(store)


def test_a_read_only_store(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "mkdir", fail_with(errno.EROFS))
    with pytest.raises(PullError, match=r"is not writable \(Read-only file system\); mount it read-write"):
        pull(store, "tiny", "1")
    assert nothing_was_stored(store)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_write_permission(store: Path) -> None:
    (store / "tiny").chmod(0o555)
    with pytest.raises(PullError, match=r"is not writable \(Permission denied\)"):
        pull(store, "tiny", "1")
    (store / "tiny").chmod(0o755)
