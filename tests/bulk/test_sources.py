"""Lists of names, addresses, and how photos are cut into shards."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.bulk.sources import MAX_FILE_BYTES, Entry, Listing, Reader, listed
from service.errors import BodyTooLarge, OperatorError, ServiceError
from tests.running import png


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (b"a.jpg\nb c.jpg\n\nd.jpg", ["a.jpg", "b c.jpg", "d.jpg"]),
        (b"a.jpg\r\nb.jpg\r\n", ["a.jpg", "b.jpg"]),
        (b"a\nb.jpg\0c.jpg\0", ["a\nb.jpg", "c.jpg"]),
        (b"latin \xe9.jpg\n", [os.fsdecode(b"latin \xe9.jpg")]),
        (b"", []),
        (b"x" * 70_000 + b"\ny\n", ["x" * 70_000, "y"]),
    ],
    ids=["lines", "CRLF", "NUL", "latin", "empty", "long"],
)
def test_a_list_is_lines_or_ended_by_nuls(
    text: bytes, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "list").write_bytes(text)
    assert list(listed(str(tmp_path / "list"))) == names
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert list(listed("-")) == names


def test_a_list_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="gone cannot be read: No such file"):
        list(listed(str(tmp_path / "gone")))


def test_shards_are_cut_in_order_whatever_the_sources(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("b.png", "a.png"):
        (tmp_path / "folder" / name).touch()
    names = ["one.jpg", str(tmp_path / "folder"), "two.jpg", "one.jpg"]
    found = ["one.jpg", f"{tmp_path}/folder/a.png", f"{tmp_path}/folder/b.png", "two.jpg", "one.jpg"]
    with Listing(names, 2, print) as listing:
        assert (listing.count, listing.shards) == (5, 3)
        assert [listing.rows(shard) for shard in range(3)] == [2, 2, 1]
        for shard in (2, 0, 1):  # any of them
            assert [entry.id for entry in listing.entries(shard)] == found[2 * shard : 2 * shard + 2]
        digest = listing.sha256
    with Listing(found, 3, print) as listing:
        assert listing.sha256 == digest, "of ids, in their order"
    with Listing(reversed(found), 3, print) as listing:
        assert listing.sha256 != digest


def test_nothing_at_all_is_no_shards(tmp_path: Path) -> None:
    with Listing([], 10, print) as listing:
        assert (listing.count, listing.shards) == (0, 0)


def test_a_photo_that_cannot_be_read_is_its_own_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, told in (("gone", "No such file"), ("", "Is a directory"), ("a\0b", "cannot be read")):
        with pytest.raises(ServiceError, match=told):
            Reader().read(Entry(f"{tmp_path}/{name}"))
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(BodyTooLarge, match="larger than"):
        Reader().read(Entry(str(tmp_path / "huge")))


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"bytes")
    os.close(writing)
    assert Reader().read(Entry(f"/dev/fd/{reading}")) == b"bytes"
    os.close(reading)


@pytest.fixture
def memory() -> Iterator[str]:
    """A folder at an address."""
    fsspec = pytest.importorskip("fsspec")  # comes with torch
    files = fsspec.filesystem("memory")
    for name in ("b.png", "a.png", "deep/c", "notes.txt"):
        files.pipe(f"/bucket/{name}", png(1) if name != "notes.txt" else b"text")
    yield "memory://bucket"
    files.rm("/bucket", recursive=True)


@pytest.mark.extra
def test_addresses_are_read_by_fsspec(memory: str) -> None:
    with Listing([memory, f"{memory}/b.png", f"{memory}/gone.png"], 10, print) as listing:
        entries = list(listing.entries(0))
        assert listing.left_out == {".txt": 1}
    assert [entry.id for entry in entries] == [
        f"memory://{name}" for name in ("/bucket/a.png", "/bucket/b.png", "/bucket/deep/c")
    ] + [f"{memory}/b.png"]
    assert {Reader().read(entry) for entry in entries} == {png(1)}


def test_without_fsspec_an_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(OperatorError, match="s3://bucket/x cannot be read: install fsspec"):
        Listing(["s3://bucket/x"], 10, print)
