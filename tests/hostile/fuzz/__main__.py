"""Fuzz for some seconds, then say how many executions there were and how many findings; exit status 1 if any.

The corpus is kept in .cache/fuzz and the next run goes on from there.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from tests.hostile.fuzz import FOLDER
from tests.hostile.fuzz.seeds import MAX_LENGTH, all_seeds

#: What formats are recognised by and made of, for mutations to put in.
_WORDS: Final = (
    *(b"\xff\xd8\xff", b"\xff\xc0\0\x11\x08", b"\xff\xc2\0\x11\x08", b"\xff\xc4", b"\xff\xda\0\x0c", b"\xff\xdb\0C"),
    *(b"\xff\xdd\0\4", b"\xff\xd9", b"\xff\xe1", b"Exif\0\0", b"ICC_PROFILE\0", b"Adobe", b"\x89PNG\r\n\x1a\n"),
    *(b"\0\0\0\rIHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT", b"iCCP", b"zTXt", b"iTXt"),
    *(b"eXIf", b"RIFF", b"WEBP", b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"GIF89a", b"\x21\xf9\4"),
    *(b"\x21\xfe", b"\x2c\0\0\0\0", b"BM", b"\x28\0\0\0", b"II*\0", b"MM\0*", b"II+\0\x08\0\0\0"),
    *(
        b"ftypavif",
        b"ftypheic",
        b"meta",
        b"pitm",
        b"iinf",
        b"infe",
        b"iloc",
        b"iprp",
        b"ipco",
        b"ipma",
        b"iref",
        b"dimg",
    ),
    *(b"grid", b"av01", b"hvc1", b"av1C", b"hvcC", b"ispe", b"irot", b"imir", b"clap", b"idat", b"mdat", b"moov"),
    b"\x12\1\3\0\1\0\0\0",
)


def fuzz(seconds: int) -> tuple[int, list[Path]]:
    """Start workers, one after the other, until ``seconds`` have passed: number of executions, and what they found."""
    corpus, seeds, findings = (FOLDER / name for name in ("corpus", "seeds", "findings"))
    for folder in (corpus, seeds, findings):
        folder.mkdir(parents=True, exist_ok=True)
    for data in all_seeds():
        (seeds / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    escaped = ("".join(f"\\x{byte:02x}" for byte in word) for word in _WORDS)
    (FOLDER / "dictionary").write_text("".join(f'"{word}"\n' for word in escaped))
    old = set(findings.iterdir())
    end = time.monotonic() + seconds
    executions = 0
    while (left := round(end - time.monotonic())) > 0:
        options = {
            "max_total_time": left,
            "max_len": MAX_LENGTH,
            "timeout": 30,
            "rss_limit_mb": 4096,
            "print_final_stats": 1,
            "verbosity": 1,
            "dict": FOLDER / "dictionary",
            "artifact_prefix": f"{findings}/",
        }
        arguments = [*(f"-{name}={value}" for name, value in options.items()), str(corpus), str(seeds)]
        command = [sys.executable, "-m", "tests.hostile.fuzz.worker", *arguments]
        ran = subprocess.run(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, errors="replace")
        counted = re.search(r"stat::number_of_executed_units:\s*(\d+)", ran.stderr)
        if counted is None:
            raise RuntimeError(f"the worker did not fuzz:\n{ran.stderr[-4000:]}")
        executions += int(counted[1])
        (FOLDER / "log").write_text(ran.stderr)
    # Inputs; the tracebacks beside them are for people.
    return executions, sorted(path for path in set(findings.iterdir()) - old if path.suffix != ".txt")


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz inspect and prepare.")
    parser.add_argument("--seconds", type=int, default=600)
    executions, findings = fuzz(parser.parse_args().seconds)
    sys.stdout.write(f"fuzz executions = {executions}\nfuzz crashes = {len(findings)}\n")
    for path in findings:
        sys.stdout.write(f"  {path}\n")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
