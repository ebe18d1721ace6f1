"""The processes of a running service, by name, and what of theirs is left behind."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests import scrape
from tests.e2e.process import ServerProcess
from tests.waiting import until

#: A process that has ended since its file was found, or since that was opened.
GONE = (FileNotFoundError, ProcessLookupError)


def children(pid: int) -> dict[str, int]:
    """engine-0, worker-0 … → pid, of the supervisor ``pid``. A child that has not taken its name yet is left out."""
    named, _ = _children(pid)
    return named


def all_children(pid: int) -> dict[str, int]:
    """``children``, once each has its name: the supervisor is ready as soon as one of each kind is."""
    until(lambda: not _children(pid)[1], timeout=60, what=f"all children of {pid} have names")
    return children(pid)


def _children(pid: int) -> tuple[dict[str, int], list[int]]:
    """Those with a name, and those without."""
    named, nameless = {}, []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            with contextlib.suppress(*GONE):
                name = Path(f"/proc/{child}/comm").read_text().strip()
                if name.startswith("mnet-"):
                    named[name.removeprefix("mnet-")] = child
                else:
                    nameless.append(child)
    return named, nameless


def alive(pid: int) -> bool:
    """A zombie is not, unless threads of it still end: until the last one has, its files are open."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z" or len(list(Path(f"/proc/{pid}/task").iterdir())) > 1
    except GONE:
        return False


def resident(pid: int) -> float:
    """MiB."""
    match = re.search(r"^Rss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert match is not None
    return int(match[1]) / 1024


def mapped(pid: int, pattern: str) -> list[str]:
    """Files in the memory of a process whose name has ``pattern``."""
    return [line for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if re.search(pattern, line)]


def arenas(pid: int) -> int:
    """Shared slot memories that a process has."""
    return len(mapped(pid, "memfd:mobilenet-slots"))


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


class Names(NamedTuple):
    """What a service has on the machine beside its processes, by name: other services have theirs."""

    sockets: frozenset[str]  # of its engines, without the leading NUL
    directories: frozenset[Path]  # of its metrics

    def left(self) -> set[str]:
        """Those that are still there."""
        bound = {name for _, name in _unix_sockets()}
        return (bound & self.sockets) | {str(path) for path in self.directories if path.exists()}


def names(supervisor: int) -> Names:
    """Of the living process ``supervisor``: it listens for its engines, and holds its metrics' directory open."""
    links = set()
    for descriptor in Path(f"/proc/{supervisor}/fd").iterdir():
        with contextlib.suppress(*GONE):  # closed by now
            links.add(str(descriptor.readlink()))
    return Names(
        frozenset(
            name
            for inode, name in _unix_sockets()
            if f"socket:[{inode}]" in links and name.startswith("mobilenet-engine-")
        ),
        frozenset(path for path in map(Path, links) if path.name.startswith("mobilenet-metrics-")),
    )


def _unix_sockets() -> Iterator[tuple[str, str]]:
    """Inode and name of every socket with an abstract name."""
    yield from re.findall(r"(\d+) @(\S+)$", Path("/proc/net/unix").read_text(), re.MULTILINE)


def samples(running: ServerProcess, name: str) -> Iterator[tuple[str, float]]:
    """Labels as printed and value, of every sample called ``name``."""
    with running.client() as client:
        for sample, value in scrape.samples(client.get("/metrics").text).items():
            if sample.partition("{")[0] == name:
                yield sample.partition("{")[2].rstrip("}"), value


def total(running: ServerProcess, name: str, having: str = "") -> float:
    return sum(value for labels, value in samples(running, name) if having in labels)
