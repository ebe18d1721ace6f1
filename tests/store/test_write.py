"""The safetensors writer, and the file operations under it."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load

from service.store import write


def test_serialize_is_read_by_the_library() -> None:
    rng = np.random.default_rng(0)
    tensors: dict[str, NDArray[np.float32]] = {
        "b": rng.normal(size=(3, 4)).astype(np.float32),
        "a": rng.normal(size=7).astype(np.float32),
        "scalar": np.array(5, np.float32),
        "empty": np.zeros((0, 3), np.float32),
        "strided": rng.normal(size=(4, 6)).astype(np.float32)[:, ::-2].T,
    }
    back = load(write.serialize(tensors))
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(back[name], tensor)


def test_serialize_does_not_depend_on_the_order() -> None:
    tensors = {name: np.full(3, index, np.float32) for index, name in enumerate("dacb")}
    assert write.serialize(tensors) == write.serialize(dict(sorted(tensors.items())))


def test_data_starts_aligned() -> None:
    for length in range(1, 9):
        data = write.serialize({"x" * length: np.ones(2, np.float32)})
        assert int.from_bytes(data[:8], "little") % 8 == 0
        assert len(data) == 8 + int.from_bytes(data[:8], "little") + 8


def test_a_failed_write_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write.replace_file(path, b"old")

    def interrupt(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write.replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    write.replace_file(path, b"new")
    assert path.read_bytes() == b"new"


def test_leftovers_go_and_the_rest_stays(tmp_path: Path) -> None:
    (tmp_path / ".tmp-directory").mkdir()
    (tmp_path / ".tmp-directory" / "part").touch()
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / ".tmp-file").touch()
    (tmp_path / "1" / "model.json").touch()
    (tmp_path / ".old-1").mkdir()  # replaced, only the deletion was cut off
    (tmp_path / ".old-2").mkdir()  # not replaced any more: comes back
    (tmp_path / ".old-2" / "model.json").touch()
    write.remove_leftovers(tmp_path)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "1",
        "1/model.json",
        "2",
        "2/model.json",
    ]


def test_a_file_system_that_cannot_flush_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def only_files(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    write.replace_file(tmp_path / "file", b"content")
    write.create_directory(tmp_path / "directory", {"file": b"content"})
    assert (tmp_path / "directory" / "file").read_bytes() == b"content"
