"""Changes ``aliases.json``: one writer at a time, atomically, and not over what somebody else wrote meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from service.errors import OperatorError
from service.model.aliases import ALIASES, Aliases, dump, parse, read_bytes
from service.store import write as files
from service.store.locks import alone


def write(store: Path, desired: dict[str, Aliases]) -> None:
    """Make ``desired`` the content of the file. OperatorError if it cannot be written."""
    with changing(store) as change:
        change.prepare(desired)
        change.commit()


@contextmanager
def changing(store: Path) -> Iterator[Change]:
    """OperatorError, at once, if another process changes the aliases of ``store`` or if the file is invalid."""
    with alone(store):
        for leftover in store.glob(f"{files.TEMPORARY}*"):  # of a writer that was killed
            with suppress(OSError):
                leftover.unlink()
        change = Change(store)
        try:
            yield change
        finally:
            change.discard()


class Change:
    """The file in two steps: a disk that is full or read-only shows in the first, before anybody has been asked."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._temporary = files.temporary_name(store)
        self._before = read_bytes(store)
        #: What the file said when the change began.
        self.before = {} if self._before is None else parse(self._before)
        #: Whether the file is the new one, even if ``commit`` failed then.
        self.committed = False

    def prepare(self, desired: dict[str, Aliases]) -> None:
        """OperatorError if ``desired`` is invalid or cannot be written."""
        content = dump(desired)
        parse(content)
        with _explained(self._store):
            files.create_file(self._temporary, content)

    def commit(self) -> None:
        """Put what was prepared in the file's place. OperatorError if somebody else has written the file meanwhile."""
        if read_bytes(self._store) != self._before:
            raise OperatorError(f"{ALIASES} has been changed by somebody else meanwhile; look at it and try again")
        with _explained(self._store):
            self._temporary.replace(self._store / ALIASES)
            self.committed = True
            files.sync_directory(self._store)

    def discard(self) -> None:
        with suppress(OSError):
            self._temporary.unlink()


def _explained(store: Path) -> AbstractContextManager[None]:
    return files.explained(OperatorError, ALIASES, store)
