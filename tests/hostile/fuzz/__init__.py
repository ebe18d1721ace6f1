"""Coverage-guided fuzzing of ``inspect`` and ``prepare`` by atheris (libFuzzer for Python).

    python -m tests.hostile.fuzz --seconds 600

``target`` is what is run with each input; ``worker`` is the process in which that happens and which a crash ends;
``__main__`` makes seeds, starts workers and counts; ``regressions`` keeps what was found.

Coverage guides through our code and Pillow's Python code. Its C libraries are not instrumented: they are run with every
input, and a crash in them ends the worker and is counted, but the fuzzer does not see which of their branches it took.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

#: Of the corpus, the seeds and the findings.
FOLDER: Final = Path(__file__).parents[3] / ".cache" / "fuzz"
