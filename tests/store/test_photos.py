"""Which files of a folder are photos, and reading them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from service.errors import OperatorError, ServiceError
from service.store.photos import image_files, read_photo, walk
from tests.running import png


def test_images_of_a_folder_and_of_all_below_it_by_path(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "notes.txt", "285/cat.webp", "285/deep/er/too.jpg", "285.png", "285/.no/a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.jpg").mkdir()
    found = ["285/cat.webp", "285/deep/er/too.jpg", "285.png", "a.png", "b.JPG"]
    assert [str(path.relative_to(tmp_path)) for path in image_files(tmp_path)] == found


def test_the_folder_one_is_in_gives_names_without_a_dot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a.png").touch()
    monkeypatch.chdir(tmp_path)
    assert list(walk(Path(), print)) == ["below/a.png"]


def test_where_there_is_no_suffix_the_content_decides(tmp_path: Path) -> None:
    (tmp_path / "a1b2c3").write_bytes(png(1))
    (tmp_path / "LICENSE").write_text("Do what you like.")
    (tmp_path / "empty").touch()
    told: list[str] = []
    assert [path.name for path in image_files(tmp_path, told.append)] == ["a1b2c3"]
    assert told == [f"left out 2 of 3 files in {tmp_path}: no suffix (2)"]


def test_links_are_followed_and_no_folder_is_entered_twice(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    for folder in (tmp_path / "here" / "deep", elsewhere):
        folder.mkdir(parents=True)
        (folder / "a.png").touch()
    (tmp_path / "here" / "b.png").symlink_to(elsewhere / "a.png")
    (tmp_path / "here" / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "here" / "deep" / "up").symlink_to(tmp_path / "here")
    (tmp_path / "here" / "there").symlink_to(elsewhere)
    (tmp_path / "here" / "there too").symlink_to(elsewhere)
    names = [str(path.relative_to(tmp_path / "here")) for path in image_files(tmp_path / "here")]
    assert names == ["b.png", "deep/a.png", "there/a.png"]


def test_a_folder_that_cannot_be_read_is_one_complaint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").touch()
    scan = os.scandir

    def refusing(path: str) -> object:  # permissions do not stop root, who runs this in containers
        if str(path).endswith("b"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    told: list[str] = []
    assert len(image_files(tmp_path, told.append)) == 2
    assert told == [f"left out 1 of 3 files in {tmp_path}: folders that cannot be read (1)"]


@pytest.mark.slow
def test_folders_may_be_deeper_than_the_stack(tmp_path: Path) -> None:
    folders = [tmp_path.joinpath(*["d"] * depth) for depth in range(1, sys.getrecursionlimit() + 100)]
    for folder in folders:
        folder.mkdir()
    photo = folders[-1] / "a.png"
    photo.touch()
    assert image_files(tmp_path) == [photo]
    photo.unlink()
    for folder in reversed(folders):  # shutil.rmtree is recursive
        folder.rmdir()


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
