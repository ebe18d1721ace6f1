"""Which files of a folder are photos, and reading them."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.errors import OperatorError, ServiceError
from service.store.photos import image_files, read_photo


def test_images_of_a_folder_and_its_direct_subfolders_by_name(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "notes.txt", "285/cat.webp", "285/deep/too.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.jpg").mkdir()
    assert [str(path.relative_to(tmp_path)) for path in image_files(tmp_path)] == ["285/cat.webp", "a.png", "b.JPG"]


def test_every_suffix_of_images_that_can_be_read_counts_and_the_others_are_told(tmp_path: Path) -> None:
    taken = ["a.jfif", "b.JPE", "c.mpo", "d.avif", "e.apng", "f.dib"]
    for name in (*taken, "g.HEIC", "h.heic", "i.nef", "no suffix", "j.\x1b[31m", ".hidden", ".git/HEAD"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    told: list[str] = []
    assert [path.name for path in image_files(tmp_path, told.append)] == taken
    assert told == [f"left out 5 of 11 files in {tmp_path}: .heic (2), .nef (1), an odd suffix (1), no suffix (1)"]
    for name in taken:
        (tmp_path / name).unlink()
    with pytest.raises(OperatorError, match=r"there are no images in .*, only \.heic \(2\), \.nef"):
        image_files(tmp_path)


def test_many_suffixes_are_not_all_named(tmp_path: Path) -> None:
    for name in ("a.jpg", *(f"a.x{index}" for index in range(20))):
        (tmp_path / name).touch()
    told: list[str] = []
    image_files(tmp_path, told.append)
    assert told[0].startswith("left out 20 of 21 files")
    assert told[0].count("(1)") == 8
    assert told[0].endswith(", …")


def test_a_folder_without_images_and_no_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"there are no images in [^,]*$"):
        image_files(tmp_path)
    with pytest.raises(OperatorError, match="gone is not a folder"):
        image_files(tmp_path / "gone")


def test_a_photo_that_cannot_be_read_is_its_own_error(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"bytes")
    assert read_photo(tmp_path / "a.jpg") == b"bytes"
    with pytest.raises(ServiceError, match="No such file or directory"):
        read_photo(tmp_path / "b.jpg")
