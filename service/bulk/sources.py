"""From what is named on a command line to photos in a fixed order: each an id and where its bytes are.

files, folders, lists, archives, tables ─► Listing: ids, cut into shards ─► Entry ─► Reader ─► bytes
"""

from __future__ import annotations

import array
import hashlib
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

from service.bulk.containers import Container, file_system, is_container, open_container, open_file
from service.errors import BodyTooLarge, OperatorError, ServiceError
from service.store.photos import kind_left_out, walk

#: The largest file that is read; a decoder's own limits are in pixels.
MAX_FILE_BYTES = 256 * 2**20
_TOO_LARGE = BodyTooLarge(f"the file is larger than {MAX_FILE_BYTES} bytes")


class Entry(NamedTuple):
    """A photo: its id, which is its path, or its place in a container; and its shard, and whether it ends that."""

    id: str
    container: str = ""
    place: int = 0
    size: int = 0
    shard: int = 0
    last: bool = False


class Listing(ExitStack):
    """The photos of all sources in order, in an unnamed file on disk: a million ids would take 100 MB of memory.

    What changes in the sources later changes neither ids nor shards.
    """

    def __init__(
        self, sources: Iterable[str], shard_rows: int, warn: Callable[[str], object], where: Path | None = None
    ) -> None:
        super().__init__()
        self.shard_rows = shard_rows
        self.count = 0
        self.left_out: Counter[str] = Counter()
        self._starts = array.array("Q")
        self._warn = warn
        digest = hashlib.sha256()
        with ExitStack() as opened:
            self._spool = opened.enter_context(tempfile.TemporaryFile(dir=where))
            for source in sources:
                for entry in self._entries_of(source):
                    if self.count % shard_rows == 0:
                        self._starts.append(self._spool.tell())
                    self._spool.write(json.dumps([*entry][: 4 if entry.container else 1]).encode() + b"\n")
                    digest.update(entry.id.encode("utf-8", "surrogateescape") + b"\0")
                    self.count += 1
            self._spool.flush()
            self.push(opened.pop_all())
        self.sha256 = digest.hexdigest()

    @property
    def shards(self) -> int:
        return len(self._starts)

    def rows(self, shard: int) -> int:
        return min(self.shard_rows, self.count - shard * self.shard_rows)

    def entries(self, shard: int) -> Iterator[Entry]:
        """The photos of one shard; only one such iterator may be in use."""
        self._spool.seek(self._starts[shard])
        for left in reversed(range(self.rows(shard))):
            yield Entry(*json.loads(self._spool.readline()))._replace(shard=shard, last=not left)

    def _entries_of(self, source: str) -> Iterator[Entry]:
        if is_container(source):
            with closing(open_container(source)) as container:
                for name, place, size in container.members(self.left_out):
                    yield Entry(name, source, place, size)
        elif "://" in source:
            yield from map(Entry, self._addresses(source))
        elif os.path.isdir(source):  # noqa: PTH112  # pathlib's raises for names that are too long
            yield from map(Entry, walk(Path(source), self._warn, self.left_out))
        else:
            yield Entry(source)

    def _addresses(self, source: str) -> Iterator[str]:
        """``source``, or all photos below it."""
        files = file_system(source)
        try:
            found = files.find(source)
        except OSError as error:
            raise OperatorError(f"{source} cannot be read: {error.strerror or error}") from None
        if len(found) == 1 and not files.isdir(source):
            yield source
            return
        for path in found:
            if (kind := kind_left_out(path, partial(files.head, path, 1024))) is None:
                yield files.unstrip_protocol(path)
            else:
                self.left_out[kind] += 1


def listed(file: str) -> Iterator[str]:
    """The names in ``file``, or on standard input (-): one per line, or each ended by a NUL."""
    try:
        opened = sys.stdin.buffer if file == "-" else open_file(file)
    except OSError as error:
        raise OperatorError(f"{file} cannot be read: {error.strerror}") from None
    with opened as lines:
        rest, end = b"", b""
        while chunk := lines.read(2**16):
            end = end or (b"\0" if b"\0" in chunk else b"\n")
            *names, rest = (rest + chunk).split(end)
            yield from (os.fsdecode(name.removesuffix(b"\r") if end == b"\n" else name) for name in names if name)
        if rest:
            yield os.fsdecode(rest)


class Reader:
    """Reads photos. Those in containers must come in order; one container at a time is open."""

    def __init__(self) -> None:
        self._name = ""
        self._container: Container | None = None

    def read(self, entry: Entry) -> bytes:
        """Raises ServiceError, which concerns only this photo."""
        if entry.size > MAX_FILE_BYTES:
            raise _TOO_LARGE
        try:
            return self._open(entry.container).read(entry.place, entry.size) if entry.container else _read(entry.id)
        except OSError as error:
            raise ServiceError(error.strerror or "cannot be read") from None
        except (OperatorError, ValueError):  # a container that has vanished; a NUL in a name
            raise ServiceError("cannot be read") from None

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None

    def _open(self, name: str) -> Container:
        if self._container is None or name != self._name:
            self.close()
            self._container, self._name = open_container(name), name
        return self._container


def _read(name: str) -> bytes:
    with open_file(name) as file:
        size = file.seek(0, os.SEEK_END) if file.seekable() else MAX_FILE_BYTES
        if file.seekable():
            file.seek(0)
        data = file.read(size + 1) if size <= MAX_FILE_BYTES else b""
    if max(size, len(data)) > MAX_FILE_BYTES:
        raise _TOO_LARGE
    return data
