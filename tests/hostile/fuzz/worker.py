"""The process that fuzzes, started by ``__main__`` with libFuzzer's options.

Exceptions of ``target.run`` are kept as files in ``FOLDER``/findings, one a kind, and fuzzing goes on. What ends the
process, a fault of a C library or a lack of memory, libFuzzer keeps there itself.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
import traceback
from collections.abc import Callable
from typing import Any

from tests.hostile.fuzz import FOLDER


def main() -> None:
    atheris: Any = importlib.import_module("atheris")
    # Nothing may import Pillow before it is instrumented.
    with atheris.instrument_imports(include=["service.image", "PIL"]):
        run: Callable[[bytes], None] = importlib.import_module("tests.hostile.fuzz.target").run
    seen: set[tuple[str, ...]] = set()

    def test_one_input(data: bytes) -> None:
        try:
            run(data)
        except Exception as error:
            _keep(data, error, seen)

    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()


def _keep(data: bytes, error: Exception, seen: set[tuple[str, ...]]) -> None:
    frames = traceback.extract_tb(error.__traceback__)
    place = (type(error).__name__, *(f"{frame.filename}:{frame.lineno}" for frame in frames))
    if place in seen:
        return
    seen.add(place)
    name = hashlib.sha256(repr(place).encode()).hexdigest()[:12]
    finding = FOLDER / "findings" / f"raised-{name}"
    finding.write_bytes(data)
    finding.with_suffix(".txt").write_text("".join(traceback.format_exception(error)))
    sys.stderr.write(f"finding: {type(error).__name__}: {error}\n")


if __name__ == "__main__":
    main()
