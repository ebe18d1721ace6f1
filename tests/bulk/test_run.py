"""The pipeline with an ``Infer`` of the test's own: order, bounds, faults."""

from __future__ import annotations

import asyncio
import errno
import random
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from service.bulk import run, shards
from service.bulk.plan import remove_abandoned, temporary_file
from service.bulk.results import Infer, Result, Vectors
from service.bulk.shards import Folder
from service.bulk.sources import Entry, Listing
from service.errors import BadImage, OperatorError
from tests.bulk.conftest import litter, rows

KIND = Vectors(4, unit_length=False)


def vector(data: bytes) -> Result:
    return Result(np.full(4, int(data), np.float32))


async def at_once(name: str, data: bytes) -> Result:
    return vector(data)


@pytest.fixture
def numbers(tmp_path: Path) -> list[str]:
    """Files that hold their number, filled up to 100 bytes."""
    names = [str(tmp_path / f"{index:03}.png") for index in range(100)]
    for index, name in enumerate(names):
        Path(name).write_text(f"{index:0100}")
    return names


def collect(names: list[str], infer: Infer) -> list[Result]:
    async def work() -> list[Result]:
        async with aclosing(run.results(map(Entry, names), infer)) as results:
            found = [(entry.id, result) async for entry, result in results]
        assert [name for name, _ in found] == names
        return [result for _, result in found]

    return asyncio.run(work())


def write(
    names: list[str],
    out: Path,
    infer: Infer = at_once,
    *,
    shard_rows: int = 7,
    suffix: str = ".npy",
    count: Callable[[Result], object] = lambda result: None,
) -> None:
    out.mkdir(exist_ok=True)
    with Listing(names, shard_rows, print) as listing:
        asyncio.run(run.write_shards(listing, Folder(out, suffix, KIND, {"embedding_id": "x"}), (0, 1), infer, count))


def test_results_come_in_order_whatever_the_order_of_answers(numbers: list[str]) -> None:
    chance = random.Random(0)

    async def infer(name: str, data: bytes) -> Result:
        for _ in range(chance.randrange(20)):
            await asyncio.sleep(0)
        return vector(data)

    assert [int(result.value[0]) for result in collect(numbers, infer)] == list(range(100))


@pytest.mark.parametrize(("most_photos", "most_bytes", "bound"), [(10, 2**20, 10), (512, 1000, 9 + 4)])
def test_photos_and_bytes_on_their_way_are_bounded(
    numbers: list[str], monkeypatch: pytest.MonkeyPatch, most_photos: int, most_bytes: int, bound: int
) -> None:
    """Beyond the bytes there may be those that were being read."""
    monkeypatch.setattr(run, "MAX_PHOTOS", most_photos)
    monkeypatch.setattr(run, "MAX_BYTES", most_bytes)
    now = most = 0

    async def infer(name: str, data: bytes) -> Result:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.002)
        now -= 1
        return vector(data)

    assert len(collect(numbers, infer)) == 100
    assert 1 < most <= bound


def test_what_a_photo_lacks_is_its_result(numbers: list[str], tmp_path: Path) -> None:
    async def infer(name: str, data: bytes) -> Result:
        return vector(data) if int(data) % 2 else Result(error=BadImage("even"))

    Path(numbers[3]).unlink()
    found = collect(numbers[:5], infer)
    told = [result.error and result.error.detail for result in found]
    assert told == ["even", None, "even", "No such file or directory", "even"]


def test_a_source_that_vanishes_in_the_middle_leaves_errors(
    numbers: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "MAX_PHOTOS", 8)

    def vanish() -> None:
        for name in numbers:
            Path(name).unlink()

    async def infer(name: str, data: bytes) -> Result:
        if int(data) == 20:
            vanish()
        return vector(data)

    out = tmp_path / "out"
    counts: Counter[str] = Counter()
    write(numbers, out, infer, count=lambda result: counts.update([shards.outcome(result)]))
    made = rows(out)
    assert made.paths == numbers
    assert set(made.errors.values()) == {"No such file or directory"}
    assert counts == {"ok": 100 - len(made.errors), "unreadable": len(made.errors)}
    assert not np.isnan(made.vectors[:20]).any()
    assert np.isnan(made.vectors[40:]).all()


@pytest.mark.parametrize("block", [1, 3, 7, 1000])
def test_shards_do_not_depend_on_blocks(
    numbers: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(run, "BLOCK_ROWS", block)
    write(numbers, tmp_path / "out")
    made = rows(tmp_path / "out")
    assert made.paths == numbers
    assert made.vectors[:, 0].tolist() == list(range(100))
    assert litter(tmp_path / "out") == []


@pytest.mark.parametrize("suffix", [".npy", pytest.param(".parquet", marks=pytest.mark.extra)])
def test_a_model_that_has_failed_for_good_stops_the_run(numbers: list[str], tmp_path: Path, suffix: str) -> None:
    async def infer(name: str, data: bytes) -> Result:
        if int(data) == 30:
            raise OperatorError("the work has stopped: the device was lost")
        return vector(data)

    out = tmp_path / "out"
    with pytest.raises(OperatorError, match="the device was lost"):
        write(numbers, out, infer, suffix=suffix)
    assert litter(out) == []
    assert 0 < len(list(out.glob(f"*{suffix}"))) <= 4
    write(numbers, out, suffix=suffix)
    assert len(list(out.glob(f"*{suffix}"))) == 15


@pytest.mark.parametrize("fault", ["writing", "syncing"])
def test_a_disk_that_fails_stops_the_run_with_whole_shards(
    numbers: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    times = 0

    def full(*arguments: object) -> None:
        nonlocal times
        times += 1
        if times > 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        if fault == "syncing":
            patch.setattr(shards, "sync", full)
        else:
            add = shards.NpyOutput.add

            def failing(*arguments: Any) -> None:
                full()
                add(*arguments)

            patch.setattr(shards.NpyOutput, "add", failing)
        with pytest.raises(OSError, match="No space left"):
            write(numbers, out)
    assert litter(out) == []
    assert len(list(out.glob("*.npy"))) in (1, 3)
    write(numbers, out)
    assert rows(out).paths == numbers


def test_a_shard_that_appears_meanwhile_is_not_made_again(
    numbers: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "MAX_PHOTOS", 8)
    out = tmp_path / "out"
    seen: list[int] = []

    async def infer(name: str, data: bytes) -> Result:
        if not seen:
            for index in (5, 6):  # of another process
                for suffix in (".npy", ".json"):
                    (out / f"part-{index:05}{suffix}").write_bytes(b"another's")
        seen.append(int(data))
        return vector(data)

    write(numbers, out, infer)
    assert sorted(seen) == [*range(35), *range(49, 100)]
    assert (out / "part-00005.npy").read_bytes() == b"another's"


def test_abandoned_files_are_removed_and_those_in_use_stay(tmp_path: Path) -> None:
    (tmp_path / ".tmp-abandoned").write_bytes(b"half")
    (tmp_path / ".other").touch()
    with temporary_file(tmp_path) as file:
        remove_abandoned(tmp_path)
        file.write(b"whole")
        file.flush()
        assert sorted(litter(tmp_path)) == [".other", Path(file.name).name]
        Path(file.name).rename(tmp_path / "kept")
        remove_abandoned(tmp_path)
    assert (tmp_path / "kept").read_bytes() == b"whole"
    assert litter(tmp_path) == [".other"]


def test_a_file_that_was_taken_for_abandoned_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its opening and its lock."""
    import fcntl

    lock, names = fcntl.flock, []

    def late(file: IO[bytes], operation: int) -> None:
        names.append(file.name)
        if len(names) == 1:
            Path(file.name).unlink()
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with temporary_file(tmp_path) as file:
        assert Path(file.name).exists()
        assert len(names) == 2


def test_where_there_are_no_locks_and_no_links_the_work_is_done(
    numbers: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl
    import os

    from service.bulk import plan

    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(os, "link", refuse)
    out = tmp_path / "out"
    out.mkdir()
    plan.begin(out, {"photos": 100}, resume=False)
    write(numbers, out)
    with pytest.raises(OperatorError, match="holds a run already"):
        plan.begin(out, {"photos": 100}, resume=False)
    plan.begin(out, {"photos": 100}, resume=True)
    assert rows(out).paths == numbers
    assert litter(out) == []
