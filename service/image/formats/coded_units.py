"""AV1 and HEVC: how often a decoder passes over the pixels of coded data, and the largest AV1 frame, for ``bmff``.

The units' headers tell: OBUs (AV1 specification, 5.3 and 5.5) and NAL units (ITU-T H.265, 7.3.1).
"""

from __future__ import annotations

from typing import Final

from service.errors import BadImage
from service.image.header import CORRUPT, TOO_MANY_BLOCKS

_SEQUENCE, _FRAME_HEADER, _FRAME = 1, 3, 6  # types of OBUs
FIRST_PARAMETERS: Final = 32  # the types of NAL units below are slices
_SIZE_BYTES: Final = 4  # of NAL units; libheif relies on it, too


def av1_frames(data: memoryview, most: int) -> tuple[int, int, int]:
    """The number of frames, and the largest width and height that a sequence header allows them.

    Raises BadImage if the units do not fill ``data`` exactly, if there is no frame, or for more than ``most`` units.
    """
    frames, width, height, position = 0, 0, 0, 0
    try:
        while position < len(data):
            most -= 1
            if most < 0:
                raise BadImage(TOO_MANY_BLOCKS)
            header = data[position]
            kind = header >> 3 & 15
            position += 2 if header & 4 else 1
            size = len(data) - position
            if header & 2:
                size = 0
                for shift in range(0, 56, 7):
                    size |= (data[position] & 0x7F) << shift
                    position += 1
                    if data[position - 1] < 0x80:
                        break
            if kind == _SEQUENCE:
                sides = _frame_size(bytes(data[position : position + 512]))
                width, height = max(width, sides[0]), max(height, sides[1])
            frames += kind in (_FRAME_HEADER, _FRAME)
            position += size
    except IndexError:
        raise BadImage(CORRUPT) from None
    if frames == 0 or position != len(data):
        raise BadImage(CORRUPT)
    return frames, width, height


def hevc_slices(data: memoryview, most: int) -> int:
    """Their number; each may cover all pixels. Raises BadImage as ``av1_frames`` does."""
    slices = position = 0
    while position < len(data):
        most -= 1
        if most < 0:
            raise BadImage(TOO_MANY_BLOCKS)
        start = position + _SIZE_BYTES
        position = start + int.from_bytes(data[position:start], "big")
        slices += start < len(data) and (data[start] >> 1 & 63) < FIRST_PARAMETERS
    if slices == 0 or position != len(data):
        raise BadImage(CORRUPT)
    return slices


def _frame_size(sequence_header: bytes) -> tuple[int, int]:
    bits, left = int.from_bytes(sequence_header, "big"), 8 * len(sequence_header)

    def take(count: int) -> int:
        nonlocal left
        left -= count
        if left < 0:
            raise BadImage(CORRUPT)
        return bits >> left & (1 << count) - 1

    take(4)  # profile, still picture
    if take(1):  # a header for a still picture alone
        take(5)
    else:
        delay_bits = 0
        if take(1):  # timing
            take(64)
            if take(1):  # ticks per picture, in Elias's gamma code
                take(next((zeros for zeros in range(32) if take(1)), 32))
            if take(1):
                delay_bits = 1 + take(5)
                take(42)
        display_delays = take(1)
        for _ in range(1 + take(5)):
            take(12)
            if take(5) > 7:
                take(1)
            if delay_bits and take(1):
                take(2 * delay_bits + 1)
            if display_delays and take(1):
                take(4)
    width_bits, height_bits = 1 + take(4), 1 + take(4)
    return 1 + take(width_bits), 1 + take(height_bits)
