"""The processes that a benchmark starts, queries and measures."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from service.host.cores import available_cores

#: Seconds that a request of a benchmark's own may take.
_ANSWER_S = 10.0

ADDRESS = re.compile(r"curl --data-binary @photo\.jpg (http://[^/]+)/classify")


class Server(contextlib.AbstractContextManager["Server"]):
    """``mobilenet-service serve`` on a free port, as a user starts it, without its access log.

    Raises RuntimeError with its last words if it is not ready after ``start_limit`` seconds. Stopped by SIGTERM, and
    by SIGKILL after ``stop_limit`` seconds more.
    """

    def __init__(
        self,
        *arguments: str,
        program: Sequence[str] = ("-m", "service"),
        variables: Mapping[str, str] | None = None,
        start_limit: float = 600.0,
        stop_limit: float = 60.0,
    ) -> None:
        started = time.perf_counter()
        self._stop_limit = stop_limit
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # as long as the process
        self.process = subprocess.Popen(
            [sys.executable, *program, "serve", "--port", "0", "--no-access-log", *arguments],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, **(variables or {})},
        )
        alarm = threading.Timer(start_limit, self.process.kill)
        alarm.start()
        try:
            self.url = self._address()
            #: Seconds from the start of the process to the first "ready" answer of its own health check.
            self.start_seconds = self._until_ready(started)
        except BaseException:
            self.stop()
            raise
        finally:
            alarm.cancel()

    def _address(self) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if match := ADDRESS.search(line):
                # What else it prints must not fill the pipe.
                threading.Thread(target=self.process.communicate, daemon=True).start()
                return match[1]
        self.process.communicate(timeout=60)
        raise RuntimeError(f"the server did not start: {self._last_words()}")

    def _until_ready(self, started: float) -> float:
        while True:
            with (
                contextlib.suppress(urllib.error.HTTPError),
                urllib.request.urlopen(f"{self.url}/readyz", timeout=_ANSWER_S),
            ):
                return time.perf_counter() - started

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit status {self.process.returncode}"

    def text(self, path: str) -> str:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=_ANSWER_S) as answer:
            body: bytes = answer.read()
            return body.decode()

    def memory(self) -> float:
        return tree_memory(self.process.pid)

    def __exit__(self, *raised: object) -> None:
        self.stop()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(self._stop_limit)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._log.close()


class Cpu(NamedTuple):
    """Seconds of CPU time that a process has used."""

    main_thread: float  # the event loop, in a server
    other_threads: float

    @classmethod
    def of(cls, pid: int) -> Cpu:
        seconds = thread_seconds(pid)
        return cls(seconds.pop(pid), sum(seconds.values()))


def thread_seconds(pid: int) -> dict[int | None, float]:
    """Seconds of CPU time of each thread, by the kernel's number of the thread."""
    seconds: dict[int | None, float] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # it has just ended
            fields = (task / "stat").read_text().rpartition(")")[2].split()
            seconds[int(task.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds


def tree_cpu(pid: int) -> float:
    """Seconds of CPU time of a process and its descendants."""
    return sum(sum(Cpu.of(member)) for member in (pid, *descendants(pid)))


def tree_memory(pid: int) -> float:
    """Resident memory of a process and its descendants, in MiB, as ``ps`` and ``top`` count it."""
    return memory((pid, *descendants(pid)), "Rss")


def memory(pids: Iterable[int], kind: str) -> float:
    """In MiB, of processes together. ``Rss`` counts a page that n of them share n times, ``Pss`` once."""
    total = 0.0
    for pid in pids:
        with contextlib.suppress(OSError):
            match = re.search(rf"^{kind}:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
            total += int(match[1]) / 1024 if match else 0.0
    return total


def descendants(pid: int) -> dict[int, str]:
    """The names of a process's children and of theirs, by pid."""
    # By their parents: not every kernel lists a process's children.
    children: defaultdict[int, dict[int, str]] = defaultdict(dict)
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            name, _, fields = (process / "stat").read_text().partition("(")[2].rpartition(")")
            children[int(fields.split()[1])][int(process.name)] = name
    found = children[pid]
    members = list(found)
    for member in members:
        found |= children[member]
        members += children[member]
    return found


def output(*command: str) -> str:
    """What a command prints; "" if there is no such command or it fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def environment(packages: Sequence[str]) -> dict[str, str]:
    """Machine, versions and commit, for the head of a report."""
    cpu = re.search(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{cpu[1] if cpu else 'unknown CPU'}, {available_cores()} cores",
        "system": f"Linux {os.uname().release}, Python {sys.version.split()[0]}",
        "versions": ", ".join(f"{name} {_version(name)}" for name in packages),
        "commit": output("git", "rev-parse", "--short", "HEAD") or "not a checkout",
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
