"""The process that fuzzes: ``python -m tests.hostile.fuzz.worker SECONDS FOLDER``; started by ``__main__``.

Exceptions of ``target.run`` are kept as files in FOLDER/findings, one a kind, and fuzzing goes on. What ends the
process, a fault of a C library or a lack of memory, libFuzzer keeps there itself.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Bytes of an input, as of ``seeds``, which is not imported here: Pillow must not be before it is instrumented.
_MAX_LENGTH = 16_384


def main(seconds: int, folder: Path) -> None:
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["service.image", "PIL"]):
        run: Callable[[bytes], None] = importlib.import_module("tests.hostile.fuzz.target").run
    seen: set[tuple[str, ...]] = set()

    def test_one_input(data: bytes) -> None:
        try:
            run(data)
        except Exception as error:
            _keep(data, error, seen, folder / "findings")

    options = {
        "max_total_time": seconds,
        "max_len": _MAX_LENGTH,
        "timeout": 30,
        "rss_limit_mb": 4096,
        "print_final_stats": 1,
        "verbosity": 1,
        "dict": folder / "dictionary",
        "artifact_prefix": f"{folder / 'findings'}/",
    }
    arguments = [f"-{name}={value}" for name, value in options.items()]
    atheris.Setup([sys.argv[0], *arguments, str(folder / "corpus"), str(folder / "seeds")], test_one_input)
    atheris.Fuzz()


def _keep(data: bytes, error: Exception, seen: set[tuple[str, ...]], findings: Path) -> None:
    frames = traceback.extract_tb(error.__traceback__)
    place = (type(error).__name__, *(f"{frame.filename}:{frame.lineno}" for frame in frames))
    if place in seen:
        return
    seen.add(place)
    name = hashlib.sha256(repr(place).encode()).hexdigest()[:12]
    (findings / f"raised-{name}").write_bytes(data)
    text = "".join(traceback.format_exception(error))
    (findings / f"raised-{name}.txt").write_text(text)
    sys.stderr.write(f"finding: {type(error).__name__}: {error}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
