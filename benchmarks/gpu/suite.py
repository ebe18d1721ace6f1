"""Part ``tests``: the tests marked ``gpu``, until the part's time is up. pytest's own output is the report."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import pytest

from benchmarks.gpu import options as part
from benchmarks.gpu.options import Options, decide, say

_TESTS = "tests/runtimes/test_cuda.py"
_KINDS = ("passed", "failed", "error", "skipped")


class Summary:
    """A plugin of pytest's."""

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        counts = ", ".join(f"{len(terminalreporter.stats.get(kind, []))} {kind}" for kind in _KINDS)
        decide(f"Tests marked gpu: {counts}.")


def main(options: Options, deadline: float) -> None:
    # An exception in the main thread, after which pytest says what has passed so far.
    end = threading.Timer(deadline - time.monotonic() - 1.0, os.kill, (os.getpid(), signal.SIGTERM))
    end.daemon = True
    end.start()
    say("```")
    status = pytest.main(
        ["-m", "gpu", "-q", "-rs", "--tb=short", "-p", "no:cacheprovider", "--timeout=60",
         "--durations=0", "--durations-min=0.5", _TESTS],
        plugins=[Summary()],
    )  # fmt: skip
    say("```")
    sys.exit(0 if status in (pytest.ExitCode.OK, pytest.ExitCode.INTERRUPTED) else int(status))


if __name__ == "__main__":
    part.run(main)
