"""Limits for ``max_in_flight=auto`` and ``max_pixels=auto``: usual values, or less if memory is limited.

memory - idle process ─► three quarters for pixels being decoded, one quarter for bodies in flight
"""

from __future__ import annotations

from service.serving.admission import BYTES_PER_UNIT

USUAL_IN_FLIGHT = 256
USUAL_PIXELS = 50_000_000

#: An idle process on two cores takes 213 MiB; the rest is for what allocators keep.
IDLE_BYTES = 256 * 2**20
#: What a decoder takes at most, within a tenth (ADR 10); JPEG and PNG take a quarter to three quarters of it.
_BYTES_PER_PIXEL = 16
#: Lower limits would refuse ordinary requests. With less memory than these need, a process may be killed.
_MIN_IN_FLIGHT = 8
_MIN_PIXELS = 1_000_000


def units_in_flight(memory: int) -> int:
    """The limit of ``Admission`` for a process that has ``memory`` bytes."""
    return min(max(_free(memory) // 4 // BYTES_PER_UNIT, _MIN_IN_FLIGHT), USUAL_IN_FLIGHT)


def pixels_per_image(memory: int, decoders: int) -> int:
    """The largest size, in pixels, of images of which ``decoders`` are decoded at once in ``memory`` bytes."""
    return min(max(_free(memory) * 3 // 4 // (decoders * _BYTES_PER_PIXEL), _MIN_PIXELS), USUAL_PIXELS)


def _free(memory: int) -> int:
    return max(0, memory - IDLE_BYTES)
