"""``pull`` from a published URL: what it stores, what it refuses, and what is left when it is cut off."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from service import artifact
from service.artifact import FileDigest, Source
from service.errors import ArtifactError, MissingExtra, PullError
from service.store import checkpoint, write
from service.store.catalog import list_models
from service.store.pull import pull
from tests.artifacts import make_artifact
from tests.store.conftest import Behaviour, Published, litter, unpulled

REPOSITORY = Path(__file__).parents[2]
#: A pull in a process of its own, after some preparation.
PULL = """
import sys
from pathlib import Path
from service.store.pull import pull
{prepare}
pull(Path(sys.argv[1]), "tiny", "1")
"""


def child(store: Path, prepare: str = "pass", **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PULL.format(prepare=prepare), str(store)]
    return subprocess.Popen(
        command, cwd=REPOSITORY, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )


def nothing_was_stored(store: Path) -> bool:
    return (
        not (store / "tiny/1" / artifact.WEIGHTS).exists()
        and artifact.load(store, "tiny", "1").manifest.weights is None
    )


def test_pull_stores_what_was_published(store: Path, tmp_path: Path) -> None:
    steps: list[tuple[str, int, int | None]] = []
    found = pull(store, "tiny", "1", lambda *step: steps.append(step))
    original = make_artifact(tmp_path / "original", width_mult=0.1, num_classes=3)
    for name, tensor in original.load_weights().items():
        np.testing.assert_array_equal(found.load_weights()[name], tensor)
    # Trust on first use: the converted digest now stands in the manifest, and nothing else changed there.
    assert found.manifest.weights == original.manifest.weights
    assert litter(store) == []
    downloads = [step for step in steps if step[0] == "downloading mobilenet_v2-tiny.pth"]
    assert downloads[0][1] == 0
    assert downloads[-1][1] == downloads[-1][2]
    assert [done for _, done, _ in downloads] == sorted(done for _, done, _ in downloads)


def test_a_second_pull_does_nothing(store: Path, published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    pull(store, "tiny", "1")
    monkeypatch.setattr(write, "exclusive", None)  # a store that is read-only must do, too
    pull(store, "tiny", "1", lambda *step: pytest.fail(f"unexpected step {step}"))
    assert published.requests == 1


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_pull_repairs_what_is_damaged(store: Path, damage: str) -> None:
    good = pull(store, "tiny", "1").load_weights()
    path = store / "tiny/1" / artifact.WEIGHTS
    if damage == "remove":
        path.unlink()
    else:
        data = path.read_bytes()
        path.write_bytes(data[:-1] if damage == "truncate" else data[:-1] + bytes([data[-1] ^ 1]))
    assert pull(store, "tiny", "1").load_weights().keys() == good.keys()


def test_pulled_files_are_readable_by_others(store: Path) -> None:
    pull(store, "tiny", "1")
    umask = os.umask(0o022)
    os.umask(umask)
    for name in (artifact.WEIGHTS, artifact.MANIFEST):
        assert (store / "tiny/1" / name).stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_body_without_length(store: Path, published: Published) -> None:
    published.behaviour = "no length"
    pull(store, "tiny", "1")


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ("truncated", r"the connection broke \(\d+ bytes are missing\); run the command again"),
        ("missing", r"the server answered 404 Not Found; is the url right\?"),
    ],
)
def test_failed_downloads(store: Path, published: Published, behaviour: Behaviour, message: str) -> None:
    published.behaviour = behaviour
    with pytest.raises(PullError, match=message):
        pull(store, "tiny", "1")
    assert nothing_was_stored(store)
    assert litter(store) == []


def test_a_file_with_another_hash(store: Path, published: Published) -> None:
    published.body += b"\0"
    with pytest.raises(PullError, match=r"not the file that the manifest describes .* nothing was kept"):
        pull(store, "tiny", "1")
    assert nothing_was_stored(store)
    assert litter(store) == []


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as listener:  # bound and never listening: refuses, and nobody else can take the port
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/x.pth"
        unpulled(tmp_path, Source(kind="torchvision", origin="tests", url=url, sha256_prefix="00"))
        with pytest.raises(PullError, match=r"cannot be reached \(Connection refused\); is there a network\?"):
            pull(tmp_path, "tiny", "1")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"url": "file:///etc/passwd", "sha256": "0"}, "not http or https: file:///etc/passwd"),
        ({"sha256": "0"}, "not http or https: none given"),
        ({"url": "http://127.0.0.1/x.pth"}, "a file that cannot be checked is not fetched"),
    ],
)
def test_sources_that_are_not_fetched(tmp_path: Path, source: dict[str, str], message: str) -> None:
    unpulled(tmp_path, Source.model_validate({"kind": "torchvision", "origin": "tests"} | source))
    with pytest.raises(PullError, match=message):
        pull(tmp_path, "tiny", "1")


def test_another_conversion_than_the_manifest_says(store: Path, published: Published) -> None:
    found = artifact.load(store, "tiny", "1")
    manifest = found.manifest.model_copy(update={"weights": FileDigest(sha256="0" * 64, bytes=1)})
    (found.directory / artifact.MANIFEST).write_bytes(write.manifest_bytes(manifest))
    with pytest.raises(PullError, match=r"the manifest says 00000000…; nothing was kept"):
        pull(store, "tiny", "1")
    assert not (found.directory / artifact.WEIGHTS).exists()


def test_a_published_file_of_another_network(store: Path) -> None:
    found = artifact.load(store, "tiny", "1")
    architecture = found.manifest.architecture.model_copy(update={"width_mult": 0.5})
    manifest = found.manifest.model_copy(update={"architecture": architecture})
    (found.directory / artifact.MANIFEST).write_bytes(write.manifest_bytes(manifest))
    with pytest.raises(ArtifactError, match="the architecture needs"):
        pull(store, "tiny", "1")
    assert litter(store) == []


def test_local_models_cannot_be_pulled(tmp_path: Path) -> None:
    unpulled(tmp_path, Source(kind="local", origin="tests"))
    with pytest.raises(PullError, match=r"cannot be pulled; add the checkpoint again"):
        pull(tmp_path, "tiny", "1")


def test_torch_is_asked_for_before_the_download(
    store: Path, published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"mobilenet-service\[torch\]"):
        pull(store, "tiny", "1")
    assert published.requests == 0


def test_ctrl_c_leaves_nothing(store: Path) -> None:
    def interrupt(description: str, done: int, total: int | None) -> None:
        if done > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(store, "tiny", "1", interrupt)
    assert nothing_was_stored(store)
    assert litter(store) == []


def test_kill_during_the_download(store: Path, published: Published) -> None:
    published.behaviour = "stalled"
    with child(store) as process:
        assert published.half_sent.wait(30)
        process.kill()
    assert nothing_was_stored(store)
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
    with child(store, prepare) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.kill()
    assert artifact.load(store, "tiny", "1").manifest.weights is None
    assert litter(store) != []
    pull(store, "tiny", "1").load_weights()
    assert litter(store) == []


def test_two_pulls_at_once_download_once(store: Path, published: Published) -> None:
    published.behaviour = "stalled"
    digests: list[str] = []
    waiting = threading.Event()

    def second(description: str, done: int, total: int | None) -> None:
        if description.startswith("waiting"):
            waiting.set()

    threads = [threading.Thread(target=lambda: digests.append(pull(store, "tiny", "1").digest))]
    threads[0].start()
    assert published.half_sent.wait(30)
    threads.append(threading.Thread(target=lambda: digests.append(pull(store, "tiny", "1", second).digest)))
    threads[1].start()
    assert waiting.wait(30)
    published.go_on.set()
    for thread in threads:
        thread.join()
    assert len(digests) == 2
    assert len(set(digests)) == 1
    assert published.requests == 1
    assert litter(store) == []


def test_a_file_system_without_locks(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> NoReturn:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    pull(store, "tiny", "1").load_weights()


def fail_with(code: int) -> Any:
    def fail(*args: Any, **kwargs: Any) -> NoReturn:
        raise OSError(code, os.strerror(code))

    return fail


def test_a_full_disk_at_the_last_moment(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", fail_with(errno.ENOSPC))
    with pytest.raises(PullError, match=r"tiny/1: the disk of .* is full \(No space left on device\); free some space"):
        pull(store, "tiny", "1")
    assert nothing_was_stored(store)
    assert litter(store) == []


def test_no_room_for_the_download(store: Path) -> None:
    """A real write that really fails: the child may not write files over 4 KiB."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))"
    with child(store, limit, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}) as process:
        _, errors = process.communicate()
    assert "PullError: tiny/1: the disk of" in errors
    assert nothing_was_stored(store)
    assert litter(store) == []


def test_a_read_only_store(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "mkdtemp", fail_with(errno.EROFS))
    with pytest.raises(PullError, match=r"is not writable \(Read-only file system\); mount it read-write"):
        pull(store, "tiny", "1")
    assert nothing_was_stored(store)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_write_permission(store: Path) -> None:
    (store / "tiny").chmod(0o555)
    with pytest.raises(PullError, match=r"is not writable \(Permission denied\)"):
        pull(store, "tiny", "1")
    (store / "tiny").chmod(0o755)


def test_another_failure_of_the_disk(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", fail_with(errno.EIO))
    with pytest.raises(PullError, match=r"cannot be written: Input/output error; check the disk"):
        pull(store, "tiny", "1")
