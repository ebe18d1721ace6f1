"""Lossless WebP written bit by bit, for what an encoder would never do.

WebP Lossless Bitstream Specification. A "simple" code of a single symbol takes no bits in the pixels.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable


class Bits:
    """Least significant bit first."""

    def __init__(self) -> None:
        self._value = 0
        self._count = 0
        self._done = bytearray()

    def put(self, value: int, bits: int) -> None:
        self._value |= value << self._count
        self._count += bits
        while self._count >= 8:
            self._done.append(self._value & 255)
            self._value >>= 8
            self._count -= 8

    def take(self) -> bytes:
        return bytes(self._done) + (bytes((self._value & 255,)) if self._count else b"")


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for kind, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def one_symbol(bits: Bits, symbol: int) -> None:
    bits.put(1, 1)  # simple
    bits.put(0, 1)  # of one symbol
    bits.put(1, 1)  # of 8 bits
    bits.put(symbol, 8)


def group(bits: Bits) -> None:
    """Codes for green, red, blue, alpha and distances, each of one symbol."""
    for symbol in (0, 0, 0, 255, 0):
        one_symbol(bits, symbol)


def many_groups(side: int, groups: int, heavy: bool = False) -> bytes:
    """A square whose first 4 x 4 blocks use a group of codes each, for which libwebp makes tables, the rest one more.

    ``heavy`` tables are as large as they get: a colour cache of 2048 entries, each with a code of eleven bits.
    """
    bits = Bits()
    bits.put(0x2F, 8)
    bits.put(side - 1, 14)
    bits.put(side - 1, 14)
    bits.put(0, 4)  # no alpha, version 0
    bits.put(0, 1)  # no transform
    bits.put(heavy, 1)  # a colour cache
    if heavy:
        bits.put(11, 4)
    bits.put(1, 1)  # several groups of codes
    bits.put(0, 3)  # for blocks of 4 x 4
    _group_numbers(bits, (at if at < groups else 0 for at in range((-(-side // 4)) ** 2)))
    group(bits)
    for _ in range(groups - 1):
        if heavy:
            _equal_codes(bits, 2048, 11)
            for _ in range(3):
                _equal_codes(bits, 256, 8)
            one_symbol(bits, 0)
        else:
            group(bits)
    # Pixels with heavy codes have 11 and three times 8 bits, all of them zero.
    return riff((b"VP8L", bits.take() + bytes(groups * 16 * 35 // 8 if heavy else 8)))


def _group_numbers(bits: Bits, numbers: Iterable[int]) -> None:
    """A picture whose red and green are the numbers' bytes: both codes have all 256 symbols, of 8 bits each."""
    bits.put(0, 1)  # no colour cache
    for alphabet in (280, 256):
        _all_of_eight_bits(bits, alphabet)
    for symbol in (0, 255, 0):
        one_symbol(bits, symbol)
    reverse = [int(f"{value:08b}"[::-1], 2) for value in range(256)]
    for number in numbers:
        bits.put(reverse[number & 255], 8)
        bits.put(reverse[number >> 8], 8)


def _all_of_eight_bits(bits: Bits, alphabet: int) -> None:
    """The code in which the first 256 symbols have 8 bits: lengths are written as 8 or 0, a bit each."""
    order = (17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8)
    bits.put(0, 1)  # not simple
    bits.put(len(order) - 4, 4)
    for symbol in order:
        bits.put(1 if symbol in (0, 8) else 0, 3)
    bits.put(0, 1)  # of the whole alphabet
    for at in range(alphabet):
        bits.put(1 if at < 256 else 0, 1)


def _equal_codes(bits: Bits, symbols: int, length: int) -> None:
    """The first ``symbols`` symbols have codes of ``length`` bits; most lengths are written as repetitions."""
    order = (17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11)
    bits.put(0, 1)  # not simple
    bits.put(len(order) - 4, 4)
    for symbol in order:
        bits.put(1 if symbol in (16, length) else 0, 3)
    # Of the alphabet's lengths, so many are written: one, then repetitions of six, then single ones.
    repeats, rest = divmod(symbols - 1, 6)
    written = 1 + repeats + rest
    bits.put(1, 1)
    width = (max(written - 2, 1).bit_length() + 1) // 2
    bits.put(width - 1, 3)
    bits.put(written - 2, 2 * width)
    bits.put(0, 1)  # the shorter symbol is the length itself
    for _ in range(repeats):
        bits.put(1 | 3 << 1, 3)
    for _ in range(rest):
        bits.put(0, 1)
