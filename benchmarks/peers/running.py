"""A peer's processes: started, measured and ended together.

Some servers start children that leave the process group or outlive their parent. Every descendant of a peer inherits a
mark in its environment, by which it is recognised.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

from benchmarks.peers.catalogue import Peer
from benchmarks.peers.environments import CACHE, HERE, ROOT, binaries
from benchmarks.processes import memory

MARK = "BENCHMARK_PEER_RUN"
GRACE = 10.0  # seconds between SIGTERM and SIGKILL

#: Send nothing to other machines, and be unreachable from them.
SILENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray's way to say: this machine only, on 127.0.0.1
    "RAY_USAGE_STATS_ENABLED": "0",
    "BENTOML_DO_NOT_TRACK": "True",
    "DO_NOT_TRACK": "1",
    "OTEL_SDK_DISABLED": "true",
    "HF_HUB_OFFLINE": "1",
}


class Running:
    """One started peer. ``stop`` ends all of its processes."""

    def __init__(self, peer: Peer, precision: str) -> None:
        self._mark = uuid.uuid4().hex
        # Short, because paths of sockets must be; everything that a peer writes is below it.
        self._folder = Path(tempfile.mkdtemp(prefix="peer-"))
        port = _free_ports(5)
        self.url = f"http://127.0.0.1:{port}"
        self.log = CACHE / f"{peer.name}.log"
        bin_folder = binaries(peer.name)
        values = {"python": bin_folder / "python", "bin": bin_folder, "folder": HERE / peer.folder, "port": port}
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | {
            **SILENT,
            MARK: self._mark,
            "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PEER_PORT": str(port),
            "PEER_RUNTIME": peer.runtime,
            "PEER_PRECISION": precision,
            **{name: str(self._folder) for name in ("HOME", "TMPDIR", "TEMP", "BENTOML_HOME", "PYTRITON_HOME")},
        }
        self.started = time.perf_counter()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [part.format(**values) for part in peer.command.split()],
                cwd=self._folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def memory(self) -> dict[str, float]:
        """Of all its processes, in MiB: as ``ps`` counts it, and with shared pages counted once."""
        members = self._members()
        return {"memory": memory(members, "Rss"), "memory_proportional": memory(members, "Pss")}

    def stop(self) -> int:
        """End it; returns how many processes had to be killed after ``GRACE``."""
        if not self.has_ended():
            self.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        while self._members() and time.monotonic() < deadline:
            time.sleep(0.1)
        killed = set()
        # Again until none is left: a supervisor may start a child while its others are being killed.
        deadline = time.monotonic() + GRACE
        while members := self._members():
            if time.monotonic() > deadline:
                raise RuntimeError(f"processes {members} cannot be ended")
            for pid in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                killed.add(pid)
            time.sleep(0.1)
        self.process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
        return len(killed)

    def _members(self) -> list[int]:
        """Processes that carry this run's mark and have not ended."""
        mark = f"{MARK}={self._mark}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                with contextlib.suppress(OSError):
                    # A zombie's environment is empty.
                    if mark in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
        return found


def _free_ports(count: int) -> int:
    """The first of ``count`` neighbouring ports of 127.0.0.1 that are free now."""
    while True:
        first = 0
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError, OverflowError):  # taken, or beyond the last
            for offset in range(count):
                port = stack.enter_context(socket.socket())
                port.bind(("127.0.0.1", first + offset))
                first = first or port.getsockname()[1]
            return first
