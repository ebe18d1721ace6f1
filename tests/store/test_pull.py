"""``pull`` from a published URL: what it stores and what it refuses."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from service import errors
from service.errors import ArtifactError, MissingExtra, PullError
from service.model import artifact
from service.model.artifact import FileDigest, WeightsSource
from service.store import write
from service.store.pull import pull
from tests.artifacts import make_artifact
from tests.store.conftest import Behaviour, Published, change_manifest, litter, nothing_was_stored, unpulled


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
    ("behaviour", "more", "message"),
    [
        ("truncated", b"", r"the connection broke \(\d+ bytes are missing\); run the command again"),
        ("missing", b"", r"the server answered 404 Not Found; is the url right\?"),
        ("whole", b"\0", r"not the file that the manifest describes .* nothing was stored"),
    ],
)
def test_failed_downloads(store: Path, published: Published, behaviour: Behaviour, more: bytes, message: str) -> None:
    published.behaviour = behaviour
    published.body += more
    with pytest.raises(PullError, match=message):
        pull(store, "tiny", "1")
    assert nothing_was_stored(store)


@pytest.mark.extra
def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as listener:  # bound and never listening: refuses, and nobody else can take the port
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/x.pth"
        unpulled(tmp_path, WeightsSource(kind="torchvision", origin="tests", url=url, sha256_prefix="00"))
        with pytest.raises(PullError, match=r"cannot be reached \(Connection refused\); is there a network\?"):
            pull(tmp_path, "tiny", "1")


@pytest.mark.extra
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"url": "file:///etc/passwd", "sha256": "0"}, "not http or https: file:///etc/passwd"),
        ({"sha256": "0"}, "not http or https: none given"),
        ({"url": "http://127.0.0.1/x.pth"}, "a file that cannot be checked is not fetched"),
    ],
)
def test_sources_that_are_not_fetched(tmp_path: Path, source: dict[str, str], message: str) -> None:
    unpulled(tmp_path, WeightsSource.model_validate({"kind": "torchvision", "origin": "tests"} | source))
    with pytest.raises(PullError, match=message):
        pull(tmp_path, "tiny", "1")


def test_another_conversion_than_the_manifest_says(store: Path, published: Published) -> None:
    found = change_manifest(artifact.load(store, "tiny", "1"), weights=FileDigest(sha256="0" * 64, bytes=1))
    with pytest.raises(PullError, match=r"the manifest says 00000000…; nothing was stored"):
        pull(store, "tiny", "1")
    assert not (found.directory / artifact.WEIGHTS).exists()


def test_a_published_file_of_another_network(store: Path) -> None:
    found = artifact.load(store, "tiny", "1")
    change_manifest(found, architecture=found.manifest.architecture.model_copy(update={"width_mult": 0.5}))
    with pytest.raises(ArtifactError, match="the architecture needs"):
        pull(store, "tiny", "1")
    assert litter(store) == []


def test_local_models_cannot_be_pulled(tmp_path: Path) -> None:
    unpulled(tmp_path, WeightsSource(kind="local", origin="tests"))
    with pytest.raises(PullError, match=r"cannot be pulled; add the checkpoint again"):
        pull(tmp_path, "tiny", "1")


def test_torch_is_asked_for_before_the_download(
    store: Path, published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errors, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"needs the extra 'torch'"):
        pull(store, "tiny", "1")
    assert published.requests == 0


def test_a_broken_connection_is_not_a_broken_disk(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS errors are OSErrors, as those of writing are."""

    def fail(self: http.client.HTTPResponse, amount: int) -> NoReturn:
        raise ssl.SSLError(1, "decryption failed")

    monkeypatch.setattr(http.client.HTTPResponse, "read", fail)
    with pytest.raises(PullError, match=r"the connection broke \(decryption failed\); run the command again"):
        pull(store, "tiny", "1")
    assert litter(store) == []
