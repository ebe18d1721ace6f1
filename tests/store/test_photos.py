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


def test_a_folder_without_images_and_no_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="there are no images in "):
        image_files(tmp_path)
    with pytest.raises(OperatorError, match="gone is not a folder"):
        image_files(tmp_path / "gone")


def test_a_photo_that_cannot_be_read_is_its_own_error(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"bytes")
    assert read_photo(tmp_path / "a.jpg") == b"bytes"
    with pytest.raises(ServiceError, match="No such file or directory"):
        read_photo(tmp_path / "b.jpg")
