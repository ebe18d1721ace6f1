"""How much damage to a JPEG is noticed: ``python -m benchmarks.damage FOLDER`` damages each photo of FOLDER and counts.

Per kind of damage: how many photos are refused, answered with a warning, or answered without one. Where the damage is
done is drawn at random, with a fixed seed, from the bytes behind the first scan's header.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from service.errors import ServiceError
from service.image import Findings, Transform, inspect, preprocess

_TRANSFORM = Transform(256, 224)
_SIZES = (1, 100, 1000)
_CUTS = (50, 75, 90, 95, 99)

Damage = Callable[[bytes, random.Random], bytes]


def _lost(size: int) -> Damage:
    def damage(data: bytes, chance: random.Random) -> bytes:
        at = _place(data, size, chance)
        return data[:at] + data[at + size :]

    return damage


def _changed(size: int) -> Damage:
    def damage(data: bytes, chance: random.Random) -> bytes:
        at = _place(data, size, chance)
        return data[:at] + bytes(byte ^ chance.randrange(1, 256) for byte in data[at : at + size]) + data[at + size :]

    return damage


def _cut(percent: int, end: bytes = b"") -> Damage:
    return lambda data, chance: data[: len(data) * percent // 100] + end


def _place(data: bytes, size: int, chance: random.Random) -> int:
    scan = data.index(b"\xff\xda") + 14
    return chance.randrange(scan, max(scan + 1, len(data) - 2 - size))


KINDS: dict[str, Damage] = {
    "none": lambda data, chance: data,
    "LF to CRLF": lambda data, chance: data.replace(b"\n", b"\r\n"),
    "CR and LF removed": lambda data, chance: data.replace(b"\r", b"").replace(b"\n", b""),
    **{f"{size} bytes lost": _lost(size) for size in _SIZES},
    **{f"{size} bytes changed": _changed(size) for size in _SIZES},
    **{f"cut at {percent} %": _cut(percent) for percent in _CUTS},
    **{f"cut at {percent} %, end marker appended": _cut(percent, b"\xff\xd9") for percent in _CUTS},
    "end marker missing": lambda data, chance: data.removesuffix(b"\xff\xd9"),
}


def outcome(data: bytes) -> str:
    findings = Findings()
    try:
        preprocess(data, inspect(data), _TRANSFORM, findings=findings)
    except ServiceError:
        return "refused"
    return "warned" if findings.warnings else "unnoticed"


def main() -> None:
    photos = [path.read_bytes() for path in sorted(Path(sys.argv[1]).iterdir()) if path.is_file()]
    jpegs = [photo for photo in photos if photo.startswith(b"\xff\xd8\xff")]
    sys.stdout.write(f"{len(jpegs)} photos\n\n| damage | refused | warned | unnoticed |\n|---|---|---|---|\n")
    for kind, damage in KINDS.items():
        chance = random.Random(kind)
        counts = Counter(outcome(damage(photo, chance)) for photo in jpegs)
        sys.stdout.write(f"| {kind} | {counts['refused']} | {counts['warned']} | {counts['unnoticed']} |\n")


if __name__ == "__main__":
    main()
