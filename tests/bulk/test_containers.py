"""Tar archives with odd members, cut off or damaged; Parquet tables with and without paths, and with nulls."""

from __future__ import annotations

import io
import random
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.bulk.containers import is_container, open_container
from service.bulk.sources import MAX_FILE_BYTES, Entry, Listing, Reader
from service.errors import OperatorError, ServiceError
from tests.running import png

DAMAGED = "damaged archives and tables, from there on"


def member(name: str, **fields: Any) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def write_tar(path: Path, files: dict[str, bytes], mode: Any = "w") -> None:
    with tarfile.open(path, mode) as tar:
        for name, data in files.items():
            tar.addfile(member(name, size=len(data)), io.BytesIO(data))


def contents(path: Path) -> tuple[dict[str, bytes | str], Counter[str]]:
    """The bytes or the error of each photo, by the part of its id behind the file's name; what was left out."""
    with Listing([str(path)], 2, print) as listing:
        reader = Reader()
        found: dict[str, bytes | str] = {}
        for shard in range(listing.shards):
            for entry in listing.entries(shard):
                name = entry.id.removeprefix(str(path))
                try:
                    found[name] = reader.read(entry)
                except ServiceError as error:
                    found[name] = error.detail
        reader.close()
        return found, listing.left_out


@pytest.mark.parametrize(
    ("suffix", "mode"), [(".tar", "w"), (".tar.gz", "w:gz"), (".tgz", "w:gz"), (".tar.xz", "w:xz")]
)
def test_photos_of_an_archive_as_webdataset_writes_it(suffix: str, mode: str, tmp_path: Path) -> None:
    files = {f"{index:06}.{kind}": png(index) for index in range(5) for kind in ("jpg", "cls")}
    write_tar(tmp_path / f"a.{suffix}", files, mode)
    found, left_out = contents(tmp_path / f"a.{suffix}")
    assert found == {f"/{index:06}.jpg": png(index) for index in range(5)}
    assert left_out == {".cls": 5}


def test_members_that_are_no_files_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    photo = png(1)
    long = "/".join(["x" * 90] * 3) + ".png"
    with tarfile.open(path, "w") as tar:
        tar.addfile(member("folder.png", type=tarfile.DIRTYPE))
        for name in ("./a.png", long, "no suffix", ".hidden.png", "deep/._a.png", "../../up.png"):
            tar.addfile(member(name, size=len(photo)), io.BytesIO(photo))
        tar.addfile(member("README", size=5), io.BytesIO(b"hello"))
        tar.addfile(member("empty.png"))
        tar.addfile(member("hard.png", type=tarfile.LNKTYPE, linkname="a.png"))
        tar.addfile(member("soft.png", type=tarfile.SYMTYPE, linkname="/etc/passwd"))
        tar.addfile(member("device.png", type=tarfile.CHRTYPE))
        tar.addfile(member("pipe.png", type=tarfile.FIFOTYPE))
        sparse = {"GNU.sparse.map": "0,5", "GNU.sparse.size": "99", "GNU.sparse.name": "sparse.png"}
        tar.addfile(member("sparse.png", size=5, pax_headers=sparse), io.BytesIO(b"12345"))
    found, left_out = contents(path)
    assert found == {
        "/./a.png": photo,
        f"/{long}": photo,
        "/no suffix": photo,
        "/../../up.png": photo,  # a name like others: nothing is extracted
        "/empty.png": b"",
    }
    assert left_out == {"links and other members that are no files": 5, "no suffix": 1}


def test_a_member_that_says_it_is_huge_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    head = member("a.png", size=2**40).tobuf(tarfile.GNU_FORMAT)
    path.write_bytes(head + b"x" * 10_000)
    found, left_out = contents(path)
    assert found == {"/a.png": f"the file is larger than {MAX_FILE_BYTES} bytes"}
    assert left_out == {DAMAGED: 1}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("blocks", [1, 2, 3, 9])
def test_a_member_of_negative_size_ends_the_archive(blocks: int, tmp_path: Path) -> None:
    """It leads back to a header that was read already, or to before the file."""
    first, head = (bytearray(member(name, size=0).tobuf(tarfile.GNU_FORMAT)) for name in ("1.png", "2.png"))
    head[124:136] = (-512 * blocks).to_bytes(12, "big", signed=True)
    head[148:156] = b" " * 8
    head[148:155] = b"%06o\0" % sum(head)
    (tmp_path / "a.tar").write_bytes(first + head + bytes(2048))
    found, left_out = contents(tmp_path / "a.tar")
    assert found["/1.png"] == b""
    assert left_out == {DAMAGED: 1}


@pytest.mark.parametrize("cut", ["in a photo", "in a header", "between members", "before the end"])
def test_of_an_archive_that_is_cut_off_what_is_there_is_taken(cut: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    write_tar(path, {f"{index}.png": bytes([index]) * 700 for index in range(3)})
    each = 512 + 1024
    end = {
        "in a photo": 3 * each - 900,
        "in a header": 2 * each + 100,
        "between members": 2 * each,
        "before the end": 3 * each,
    }
    path.write_bytes(path.read_bytes()[: end[cut]])
    found, left_out = contents(path)
    photos: dict[str, bytes | str] = {f"/{index}.png": bytes([index]) * 700 for index in range(3)}
    if cut == "in a photo":
        photos["/2.png"] = "the archive is damaged or incomplete here"
    elif cut != "before the end":
        del photos["/2.png"]
    assert found == photos
    assert left_out == {DAMAGED: 1}


@pytest.mark.parametrize("damage", [slice(3072 + 20, 3072 + 21), slice(3072, 3584)], ids=["a name", "a hole"])
def test_of_an_archive_with_a_damaged_header_what_is_before_is_taken(damage: slice, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    write_tar(path, {f"{'long' * 6}{index}.png": b"x" * 700 for index in range(3)})
    data = bytearray(path.read_bytes())
    data[damage] = bytes(len(data[damage]))
    path.write_bytes(data)
    found, left_out = contents(path)
    assert [name[-5:] for name in found] == ["0.png", "1.png"]
    assert left_out == {DAMAGED: 1}


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
@pytest.mark.parametrize("cut_off", [True, False])
def test_of_an_archive_with_damaged_compression_what_is_before_is_taken(
    kind: str, cut_off: bool, tmp_path: Path
) -> None:
    path = tmp_path / f"a.tar.{kind}"
    photos = {f"{index}.png": random.Random(index).randbytes(200_000) for index in range(10)}
    write_tar(path, photos, f"w:{kind}")
    data = bytearray(path.read_bytes())
    half = len(data) // 2
    data[half:] = b"" if cut_off else b"\xff" * (len(data) - half)
    path.write_bytes(data)
    found, left_out = contents(path)
    assert found["/0.png"] == photos["0.png"]
    assert len(found) < 10
    assert left_out == {DAMAGED: 1}


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", pytest.param("a.parquet", marks=pytest.mark.extra)])
@pytest.mark.parametrize("data", [b"", b"no archive" * 100])
def test_what_is_no_archive_or_table_is_refused(name: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(OperatorError, match=f"{name} cannot be read: it is damaged or of another format"):
        open_container(str(tmp_path / name))
    with pytest.raises(OperatorError, match=r"gone\.tar cannot be read: No such file"):
        open_container(str(tmp_path / "gone.tar"))


def test_a_container_that_vanishes_is_the_error_of_its_photos(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    write_tar(path, {"1.png": png(1), "2.png": png(2)})
    with Listing([str(path)], 10, print) as listing:
        entries = list(listing.entries(0))
    path.unlink()
    for entry in entries:
        with pytest.raises(ServiceError, match="cannot be read"):
            Reader().read(entry)


def test_containers_are_known_by_their_suffix() -> None:
    assert [name for name in ("a.tar", "a.TAR", "a.tgz", "b.parquet", "tar", "a.tar.jpg") if is_container(name)] == [
        "a.tar",
        "a.TAR",
        "a.tgz",
        "b.parquet",
    ]


Write = Callable[[dict[str, Any]], Path]


@pytest.fixture
def write_table(tmp_path: Path) -> Write:
    """Writes columns to a table with several row groups."""

    def write(columns: dict[str, Any]) -> Path:
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet", row_group_size=20)
        return tmp_path / "a.parquet"

    return write


@pytest.mark.extra
def test_rows_are_named_by_their_path_or_their_number(write_table: Write) -> None:
    photos = [bytes([index]) * 10 for index in range(50)]
    found, _ = contents(write_table({"bytes": photos, "other": list(range(50))}))
    assert found == {f"#{index}": photo for index, photo in enumerate(photos)}
    paths = [None if index % 7 == 0 else f"photo {index}" for index in range(50)]
    found, _ = contents(write_table({"content": photos, "path": paths}))
    assert found == {path or f"#{index}": photo for index, (path, photo) in enumerate(zip(paths, photos, strict=True))}


@pytest.mark.extra
def test_tables_as_hugging_face_writes_them_with_nulls(write_table: Write) -> None:
    rows = [
        {"bytes": b"one", "path": "1.jpg"},
        None,
        {"bytes": None, "path": "3.jpg"},
        {"bytes": b"four", "path": None},
    ]
    found, _ = contents(write_table({"image": rows, "label": [1, 2, 3, 4]}))
    nothing = "there is no image in this row"
    assert found == {"1.jpg": b"one", "#1": nothing, "3.jpg": nothing, "#3": b"four"}


@pytest.mark.extra
def test_rows_are_read_from_any_place_on(write_table: Write) -> None:
    path = write_table({"bytes": [bytes([index]) for index in range(100)]})
    reader = Reader()
    for row in (3, 4, 18, 39, 40, 41, 99, 0, 60):
        assert reader.read(Entry("", str(path), row)) == bytes([row])
    reader.close()


@pytest.mark.extra
def test_a_table_without_images_is_refused(write_table: Write) -> None:
    with pytest.raises(OperatorError, match="has no column image, bytes or content"):
        open_container(str(write_table({"label": [1]})))


@pytest.mark.extra
def test_a_damaged_page_is_the_error_of_its_rows(write_table: Write) -> None:
    path = write_table({"bytes": [bytes([index]) * 1000 for index in range(40)]})
    data = bytearray(path.read_bytes())
    data[10:400] = bytes(390)
    path.write_bytes(data)
    found, _ = contents(path)
    assert found["#0"] == "the table is damaged here"
    assert found["#39"] == bytes([39]) * 1000
