"""A small baseline JPEG encoder, for what Pillow does not write: sampling of 4:1:1 and 4:4:0, YCCK, restarts, scans.

Input is planes of samples; the standard's tables are taken from a file that Pillow wrote. ITU-T T.81.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from tests.hostile.images.case import UInt8, encode

_ZIGZAG = sorted(range(64), key=lambda at: (s := at // 8 + at % 8, at // 8 if s % 2 else at % 8))


@dataclass(frozen=True)
class Plane:
    """One colour component at full size, and its sampling factors."""

    samples: UInt8  # (h, w)
    horizontal: int = 1
    vertical: int = 1


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


@cache
def _tables() -> tuple[bytes, NDArray[np.int64], dict[int, dict[int, tuple[int, int]]]]:
    """DQT and DHT segments as Pillow writes them at quality 95; one quantisation table; Huffman codes by class."""
    data = encode(np.zeros((8, 8, 3), np.uint8), "JPEG", quality=95)
    kept, quantisation, codes = [], np.zeros(64, np.int64), dict[int, dict[int, tuple[int, int]]]()
    position = 2
    while data[position + 1] != 0xDA:
        marker, length = data[position + 1], int.from_bytes(data[position + 2 : position + 4], "big")
        body = data[position + 4 : position + 2 + length]
        if marker == 0xDB and body[0] == 0:
            quantisation = np.frombuffer(body[1:65], np.uint8).astype(np.int64)
            kept.append(segment(marker, body[:65]))
        elif marker == 0xC4:
            kept.append(segment(marker, body))
            codes[body[0]] = _codes(body[1:17], body[17:])
        position += 2 + length
    return b"".join(kept), quantisation, codes


def _codes(counts: bytes, symbols: bytes) -> dict[int, tuple[int, int]]:
    """Symbol to (code, bits), by annex C."""
    result, code, at = {}, 0, 0
    for bits, count in enumerate(counts, 1):
        for symbol in symbols[at : at + count]:
            result[symbol] = (code, bits)
            code += 1
        at += count
        code <<= 1
    return result


@cache
def _cosines() -> NDArray[np.float64]:
    k, n = np.mgrid[0:8, 0:8]
    basis: NDArray[np.float64] = np.cos((2 * n + 1) * k * np.pi / 16) / 2
    basis[0] /= np.sqrt(2)
    return basis


def _blocks(plane: Plane, most: tuple[int, int], mcus: tuple[int, int]) -> NDArray[np.int64]:
    """(rows of blocks, columns of blocks, 64): subsampled, transformed, quantised, in zigzag order."""
    across, down = most[0] // plane.horizontal, most[1] // plane.vertical
    height, width = mcus[1] * most[1] * 8, mcus[0] * most[0] * 8
    padded = np.pad(
        plane.samples, ((0, height - plane.samples.shape[0]), (0, width - plane.samples.shape[1])), mode="edge"
    )
    small = padded.reshape(height // down, down, width // across, across).mean((1, 3)) - 128
    tiles = small.reshape(small.shape[0] // 8, 8, small.shape[1] // 8, 8).swapaxes(1, 2)
    spectra = np.einsum("ui,rcij,vj->rcuv", _cosines(), tiles, _cosines()).reshape(*tiles.shape[:2], 64)
    quantised: NDArray[np.int64] = np.round(spectra[..., _ZIGZAG] / _tables()[1]).astype(np.int64)
    return quantised


class _Bits:
    """Codes to bytes, with a zero after each 0xFF."""

    def __init__(self) -> None:
        self._text: list[str] = []

    def put(self, value: int, bits: int) -> None:
        if bits:
            self._text.append(f"{value:0{bits}b}")

    def take(self) -> bytes:
        """What was put since the last time, padded with ones."""
        text = "".join(self._text)
        self._text.clear()
        text += "1" * (-len(text) % 8)
        return int(text or "11111111", 2).to_bytes(max(1, len(text) // 8), "big").replace(b"\xff", b"\xff\0")


def _put_block(bits: _Bits, block: Sequence[int], predicted: int) -> None:
    _, _, codes = _tables()
    size = abs(block[0] - predicted).bit_length()
    bits.put(*codes[0x00][size])
    _put_value(bits, block[0] - predicted, size)
    zeros = 0
    for value in block[1:]:
        if value == 0:
            zeros += 1
            continue
        for _ in range(zeros // 16):
            bits.put(*codes[0x10][0xF0])
        size = abs(value).bit_length()
        bits.put(*codes[0x10][zeros % 16 << 4 | size])
        _put_value(bits, value, size)
        zeros = 0
    if zeros:
        bits.put(*codes[0x10][0])


def _put_value(bits: _Bits, value: int, size: int) -> None:
    bits.put(value if value >= 0 else value + (1 << size) - 1, size)


def write(planes: Sequence[Plane], *, adobe: int | None = None, restart: int = 0) -> bytes:
    """A baseline JPEG of ``planes``; ``adobe`` is the transform of an APP14 segment, ``restart`` MCUs an interval."""
    height, width = planes[0].samples.shape
    most = max(plane.horizontal for plane in planes), max(plane.vertical for plane in planes)
    mcus = -(-width // (8 * most[0])), -(-height // (8 * most[1]))
    spectra = [_blocks(plane, most, mcus).tolist() for plane in planes]
    frame = struct.pack(">BHHB", 8, height, width, len(planes))
    frame += b"".join(bytes((at, plane.horizontal << 4 | plane.vertical, 0)) for at, plane in enumerate(planes, 1))
    scan = bytes((len(planes),)) + b"".join(bytes((at, 0)) for at in range(1, len(planes) + 1)) + b"\0\x3f\0"
    head = b"" if adobe is None else segment(0xEE, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, adobe))
    head += _tables()[0] + segment(0xC0, frame)
    head += segment(0xDD, struct.pack(">H", restart)) if restart else b""
    bits, predictions, pieces = _Bits(), [0] * len(planes), list[bytes]()
    for mcu in range(mcus[0] * mcus[1]):
        if restart and mcu and mcu % restart == 0:
            pieces += [bits.take(), bytes((0xFF, 0xD0 + (mcu // restart - 1) % 8))]
            predictions = [0] * len(planes)
        row, column = divmod(mcu, mcus[0])
        for index, plane in enumerate(planes):
            for y in range(plane.vertical):
                for x in range(plane.horizontal):
                    block = spectra[index][row * plane.vertical + y][column * plane.horizontal + x]
                    _put_block(bits, block, predictions[index])
                    predictions[index] = block[0]
    return b"\xff\xd8" + head + segment(0xDA, scan) + b"".join(pieces) + bits.take() + b"\xff\xd9"
