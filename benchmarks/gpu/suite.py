"""Part ``tests``: the tests marked ``gpu``, until the part's time is up, with pytest's own output."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import pytest

from benchmarks.gpu import part
from benchmarks.gpu.part import Options, decide, say

_OPTIONS = "-m gpu -q -rs --tb=short -p no:cacheprovider --timeout=60 --durations=0 --durations-min=0.5"
_KINDS = ("passed", "failed", "error", "skipped")


class Summary:
    """A pytest plugin."""

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        counts = (f"{len(terminalreporter.stats.get(kind, []))} {kind}" for kind in _KINDS)
        decide(f"Tests marked gpu: {', '.join(counts)}.")


def main(options: Options, deadline: float) -> None:
    # An exception in the main thread, after which pytest says what has passed so far.
    end = threading.Timer(deadline - time.monotonic() - 1.0, os.kill, (os.getpid(), signal.SIGTERM))
    end.daemon = True
    end.start()
    say("```")
    status = pytest.main([*_OPTIONS.split(), "tests/runtimes/test_cuda.py"], plugins=[Summary()])
    say("```")
    sys.exit(0 if status in (pytest.ExitCode.OK, pytest.ExitCode.INTERRUPTED) else int(status))


if __name__ == "__main__":
    part.run(main)
