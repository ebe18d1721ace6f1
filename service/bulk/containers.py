"""Files that hold many photos: tar archives as WebDataset writes them, Parquet tables with a column of images.

A photo is found once, as a place in its container, and read there later, in the order of places: a compressed archive
can only be read forward.
"""

from __future__ import annotations

import bisect
import lzma
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import accumulate, chain, count, islice
from typing import IO, Any

from service.bulk.results import arrow
from service.errors import OperatorError, ServiceError, installed
from service.store.photos import HEAD_BYTES, kind_left_out

_TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_PARQUET = (".parquet",)
_DAMAGED = "damaged archives and tables, from there on"
_TAR_ERRORS = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError, ValueError, RecursionError)

#: What Parquet decodes at once.
_ROWS = 16


def is_container(name: str) -> bool:
    return name.lower().endswith((*_TAR, *_PARQUET))


def open_file(name: str) -> IO[bytes]:
    """A file, or what an address like ``s3://bucket/name`` leads to."""
    if "://" not in name:
        return open(name, "rb")  # noqa: PTH123  # fsspec's files below have no pathlib
    opened: IO[bytes] = file_system(name).open(name, "rb")
    return opened


def file_system(address: str) -> Any:
    """What fsspec reads ``address`` with."""
    if installed("fsspec"):
        import fsspec

        try:
            return fsspec.core.url_to_fs(address)[0]
        except (ImportError, ValueError) as error:
            raise OperatorError(f"{address} cannot be read: {error}") from None
    raise OperatorError(f"{address} cannot be read: install fsspec and what it needs for such addresses, like s3fs")


class Archive:
    """A tar archive, compressed or not. Nothing is ever extracted to disk."""

    def __init__(self, name: str, file: IO[bytes]) -> None:
        self._name, self._file = name, file
        self._tar = tarfile.open(fileobj=file, mode="r:*")  # noqa: SIM115  # ``close`` closes it
        assert self._tar.fileobj is not None
        self._data = self._tar.fileobj  # decompressed

    def members(self, left_out: Counter[str]) -> Iterator[tuple[str, int, int]]:
        """Id, place and size of each photo."""
        at = -1
        try:
            while (member := self._tar.next()) is not None:
                if self._tar.offset <= at:
                    raise tarfile.ReadError("a negative size, which would lead round and round")
                at = self._tar.offset
                vars(self._tar)["members"].clear()  # else it keeps a kilobyte of each
                hidden = any(part.startswith(".") and part.strip(".") for part in member.name.split("/"))
                if member.isdir() or hidden:
                    continue
                if not member.isreg() or member.issparse():
                    left_out["links and other members that are no files"] += 1
                elif (kind := kind_left_out(member.name, partial(self._head, member))) is None:
                    yield f"{self._name}/{member.name}", member.offset_data, member.size
                else:
                    left_out[kind] += 1
            self._data.seek(self._tar.offset)
            end = b""
            while (rest := self._data.read(2**20)) and not rest.strip(b"\0"):
                end = rest
            if rest or not end:  # something behind zeros, which were a hole; or no zeros
                raise tarfile.ReadError("neither a member nor the end")
        except _TAR_ERRORS:
            left_out[_DAMAGED] += 1

    def read(self, place: int, size: int) -> bytes:
        """Raises ServiceError if it cannot be read."""
        try:
            self._data.seek(place)
            data = self._data.read(size)
        except _TAR_ERRORS:
            data = b""
        if len(data) < size:
            raise ServiceError("the archive is damaged or incomplete here")
        return data

    def close(self) -> None:
        self._tar.close()
        self._file.close()

    def _head(self, member: tarfile.TarInfo) -> bytes:
        self._data.seek(member.offset_data)
        return self._data.read(min(member.size, HEAD_BYTES))


class Table:
    """A Parquet table; images are its column ``bytes`` or ``content``, or ``image``, which may be {bytes, path}."""

    def __init__(self, name: str, file: IO[bytes]) -> None:
        arrow()
        import pyarrow.parquet

        self._name, self._file = name, file
        self._table = pyarrow.parquet.ParquetFile(file, buffer_size=2**20, pre_buffer=False)
        leaves = {self._table.schema.column(index).path for index in range(len(self._table.schema))}
        self._image = next((leaf for leaf in ("image.bytes", "image", "bytes", "content") if leaf in leaves), None)
        if self._image is None:
            raise OperatorError(f"{name} has no column image, bytes or content")
        self._path = next((leaf for leaf in ("image.path", "path") if leaf in leaves), None)
        groups = map(self._table.metadata.row_group, range(self._table.metadata.num_row_groups))
        self._starts = [*accumulate((group.num_rows for group in groups), initial=0)]  # of row groups, and the end
        self._values: Iterator[Any] = iter(())  # of rows from _next on, up to _end, where their row group ends
        self._next = self._end = 0

    def members(self, left_out: Counter[str]) -> Iterator[tuple[str, int, int]]:
        rows = count()
        if self._path is None:
            yield from ((f"{self._name}#{row}", row, 0) for row in range(self._table.metadata.num_rows))
            return
        try:
            for batch in self._table.iter_batches(columns=[self._path]):
                for path in _leaf(batch, "path"):
                    row = next(rows)
                    yield path or f"{self._name}#{row}", row, 0
        except (OSError, ValueError):
            left_out[_DAMAGED] += 1

    def read(self, place: int, size: int) -> bytes:
        try:
            if not self._next <= place < self._end:
                group = bisect.bisect_right(self._starts, place) - 1
                self._next, self._end = self._starts[group : group + 2]
                batches = self._table.iter_batches(_ROWS, row_groups=[group], columns=[self._image])
                self._values = chain.from_iterable(_leaf(batch, "bytes") for batch in batches)
            value = next(islice(self._values, place - self._next, None))
            self._next = place + 1
        except (OSError, ValueError):
            self._end = 0
            raise ServiceError("the table is damaged here") from None
        if not isinstance(value, bytes):
            raise ServiceError("there is no image in this row")
        return value

    def close(self) -> None:
        self._table.close()
        self._file.close()


#: An open file with photos in it.
Container = Archive | Table


def open_container(name: str) -> Container:
    """Raises OperatorError if it cannot be read."""
    kind: type[Container] = Table if name.lower().endswith(_PARQUET) else Archive
    try:
        with ExitStack() as opened:
            container = kind(name, opened.enter_context(open_file(name)))
            opened.pop_all()  # ``close`` closes the file
        return container
    except _TAR_ERRORS as error:  # pyarrow's are OSErrors and ValueErrors
        reason = getattr(error, "strerror", None) or "it is damaged or of another format"
        raise OperatorError(f"{name} cannot be read: {reason}") from None


def _leaf(batch: Any, name: str) -> Sequence[Any]:
    """The values of the one column of ``batch``, or of its field ``name``."""
    return [value.get(name) if isinstance(value, dict) else value for value in batch.column(0).to_pylist()]
