"""Lossless WebP written bit by bit, for what an encoder would never do.

WebP Lossless Bitstream Specification. A "simple" code of a single symbol takes no bits in the pixels. Here bits are
text, "0" and "1" in the order in which they are read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

import numpy as np

#: In which order the lengths of the codes that code lengths of codes are written.
_ORDER = (17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11)


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"WEBP"
    for kind, data in chunks:
        body += kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _packed(bits: str) -> bytes:
    return np.packbits(np.frombuffer(bits.encode(), np.uint8) - ord("0"), bitorder="little").tobytes()


def _number(value: int, bits: int) -> str:
    """Least significant bit first."""
    return f"{value:0{bits}b}"[::-1]


def _one_symbol(symbol: int) -> str:
    return "101" + _number(symbol, 8)  # simple, of one symbol, which has 8 bits


#: Codes for green, red, blue, alpha and distances, each of one symbol.
_GROUP = "".join(map(_one_symbol, (0, 0, 0, 255, 0)))


def many_groups(side: int, groups: int, heavy: bool = False) -> bytes:
    """A square whose first 4 x 4 blocks use a group of codes each, for which libwebp makes tables, the rest one more.

    ``heavy`` tables are as large as they get: a colour cache of 2048 entries, each with a code of eleven bits.
    """
    head = _number(0x2F, 8) + 2 * _number(side - 1, 14)
    head += "0000" + "0"  # no alpha, version 0; no transform
    head += "1" + _number(11, 4) if heavy else "0"  # a colour cache
    head += "1" + "000"  # several groups of codes, for blocks of 4 x 4
    numbers = _group_numbers(at if at < groups else 0 for at in range((-(-side // 4)) ** 2))
    group = _equal_codes(2048, 11) + 3 * _equal_codes(256, 8) + _one_symbol(0) if heavy else _GROUP
    # Pixels with heavy codes have 11 and three times 8 bits, all of them zero.
    pixels = bytes(groups * 16 * 35 // 8 if heavy else 8)
    return riff((b"VP8L", _packed(head + numbers + _GROUP + group * (groups - 1)) + pixels))


def _group_numbers(numbers: Iterable[int]) -> str:
    """A picture whose red and green are the numbers' bytes: both codes have all 256 symbols, of 8 bits each."""
    codes = "".join(_all_of_eight_bits(alphabet) for alphabet in (280, 256))
    codes += "".join(map(_one_symbol, (0, 255, 0)))
    return "0" + codes + "".join(f"{number & 255:08b}{number >> 8:08b}" for number in numbers)  # no colour cache


def _lengths(*used: int, count: int) -> str:
    """The beginning of a code that is not simple: the ``used`` of the first ``count`` lengths have a bit each."""
    return "0" + _number(count - 4, 4) + "".join("100" if length in used else "000" for length in _ORDER[:count])


def _all_of_eight_bits(alphabet: int) -> str:
    """The code in which the first 256 symbols have 8 bits: lengths are written as 8 or 0, a bit each."""
    return _lengths(0, 8, count=12) + "0" + "1" * 256 + "0" * (alphabet - 256)  # of the whole alphabet


def _equal_codes(symbols: int, length: int) -> str:
    """The first ``symbols`` symbols have codes of ``length`` bits; most lengths are written as repetitions."""
    # Of the alphabet's lengths, so many are written: one, then repetitions of six, then single ones.
    repeats, rest = divmod(symbols - 1, 6)
    written = 1 + repeats + rest
    width = (max(written - 2, 1).bit_length() + 1) // 2
    limit = "1" + _number(width - 1, 3) + _number(written - 2, 2 * width)
    # The shorter symbol is the length itself.
    return _lengths(16, length, count=15) + limit + "0" + "111" * repeats + "0" * rest
