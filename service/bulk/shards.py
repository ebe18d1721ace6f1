"""Files of results: Parquet, or NPY with a JSON file beside it. They appear under their names when they are complete.

part-00017.parquet    path, the columns of the kind, warnings, error; counts and metadata in its footer
part-00017.npy        one row per photo, NaN where there is an error
part-00017.json       metadata, paths, errors by row, counts; renamed before its .npy
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from service.bulk import results
from service.bulk.plan import sync, temporary_file
from service.bulk.results import Kind, Result, Vectors
from service.errors import ServiceError
from service.store.write import sync_directory


def outcome(result: Result) -> str:
    """The word by which a result is counted: ok, or the reason of the error as in the service's metrics."""
    error = result.error
    return "ok" if error is None else "unreadable" if type(error) is ServiceError else error.reason


class _Files(ExitStack):
    """Rows that become files by ``publish``; ``close`` deletes what has not. Used by one thread at a time."""

    def __init__(self, *paths: Path) -> None:
        super().__init__()
        self._paths = paths
        self._counts: Counter[str] = Counter()
        with ExitStack() as opened:
            self._files: list[IO[bytes]] = [opened.enter_context(temporary_file(path.parent)) for path in paths]
            self.push(opened.pop_all())

    def publish(self) -> None:
        for file in self._files:
            sync(file)
        for file, path in zip(self._files, self._paths, strict=True):
            Path(file.name).replace(path)
        sync_directory(self._paths[0].parent)
        self.close()


class ParquetOutput(_Files):
    def __init__(self, path: Path, kind: Kind, metadata: Mapping[str, str]) -> None:
        self._kind = kind
        self._schema = results.schema(kind, metadata)
        from pyarrow.parquet import ParquetWriter

        super().__init__(path)
        self._writer = ParquetWriter(self._files[0], self._schema, compression="zstd", use_dictionary=False)
        self.callback(self._close_writer)

    def add(self, ids: Sequence[str], block: Sequence[Result]) -> None:
        self._writer.write_table(results.table(self._kind, self._schema, ids, block))
        self._counts.update(map(outcome, block))

    def publish(self) -> None:
        self._writer.add_key_value_metadata({"counts": json.dumps(self._counts)})
        self._writer.close()
        super().publish()

    def _close_writer(self) -> None:
        with suppress(OSError, ValueError):  # else its footer is written when it is collected
            self._writer.close()


class NpyOutput(_Files):
    """Two files. ``errors=False``: photos with an error have no row."""

    def __init__(self, path: Path, kind: Vectors, metadata: Mapping[str, str], *, errors: bool = True) -> None:
        self._dim = kind.dim
        self._keep = errors
        super().__init__(path.with_suffix(".json"), path)
        self._side, self._matrix = self._files
        self._errors: dict[int, str] = {}
        self.rows = 0
        self._header()
        self._side.write(json.dumps(dict(metadata))[:-1].encode() + b', "paths": [')

    def add(self, ids: Sequence[str], block: Sequence[Result]) -> None:
        self._counts.update(map(outcome, block))
        for name, result in zip(ids, block, strict=True):
            if result.error is not None:
                if not self._keep:
                    continue
                self._errors[self.rows] = result.error.detail
            row = np.full(self._dim, np.nan, np.float32) if result.value is None else result.value
            self._matrix.write(row.astype("<f4").tobytes())
            # In ASCII: a byte of a name that is no UTF-8 is a lone surrogate (PEP 383), which JSON can only escape.
            self._side.write((b",\n " if self.rows else b"\n ") + json.dumps(name).encode())
            self.rows += 1

    def publish(self) -> None:
        self._matrix.seek(0)
        self._header()
        rest = {"errors": self._errors, "counts": self._counts} if self._keep else {}
        self._side.write(b"\n]" + (b", " + json.dumps(rest)[1:].encode() if rest else b"}") + b"\n")
        super().publish()

    def _header(self) -> None:
        """NumPy leaves room in it for any number of rows."""
        fields = {"descr": "<f4", "fortran_order": False, "shape": (self.rows, self._dim)}
        np.lib.format.write_array_header_1_0(self._matrix, fields)


Output = ParquetOutput | NpyOutput


class Folder:
    """The shards of one run."""

    def __init__(self, folder: Path, suffix: str, kind: Kind, metadata: Mapping[str, str]) -> None:
        if suffix == ".parquet":
            results.arrow()  # it is missed before anything is written
        self.path = folder
        self.suffix = suffix  # .parquet or .npy
        self._kind = kind
        self._metadata = metadata

    def shard(self, index: int) -> Path:
        return self.path / f"part-{index:05}{self.suffix}"

    def create(self, index: int) -> Output:
        if self.suffix == ".parquet":
            return ParquetOutput(self.shard(index), self._kind, self._metadata)
        assert isinstance(self._kind, Vectors)
        return NpyOutput(self.shard(index), self._kind, self._metadata)

    def counts(self, index: int) -> Counter[str]:
        """How many photos of a finished shard had which outcome."""
        if self.suffix == ".npy":
            return Counter(json.loads(self.shard(index).with_suffix(".json").read_bytes())["counts"])
        from pyarrow.parquet import read_metadata

        metadata: Mapping[bytes, Any] = read_metadata(self.shard(index)).metadata
        return Counter(json.loads(metadata[b"counts"]))
