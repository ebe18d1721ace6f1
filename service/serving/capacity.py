"""How much is taken at once, where the settings leave it open: as much as memory allows, up to a usual size.

memory ─► what an idle process takes │ three quarters: pixels being decoded │ one quarter: bodies in flight
"""

from __future__ import annotations

from service.serving.admission import BYTES_PER_UNIT

USUAL_IN_FLIGHT = 256
USUAL_PIXELS = 50_000_000

#: Ready, 213 MiB on two cores; and some for what allocators keep.
IDLE_BYTES = 256 * 2**20
#: What a decoder takes at worst, give or take a tenth (ADR 10); JPEG and PNG a quarter to three quarters of it.
_BYTES_PER_PIXEL = 16
#: Less would refuse what everybody expects to be served. A process with so little memory may be killed by it.
_LEAST_IN_FLIGHT = 8
_LEAST_PIXELS = 1_000_000


def units_in_flight(memory: int) -> int:
    """The limit of ``Admission`` for a process that has ``memory`` bytes."""
    return min(max(_free(memory) // 4 // BYTES_PER_UNIT, _LEAST_IN_FLIGHT), USUAL_IN_FLIGHT)


def pixels_per_image(memory: int, decoders: int) -> int:
    """The largest image, in pixels, of which ``decoders`` are decoded at once in ``memory`` bytes."""
    return min(max(_free(memory) * 3 // 4 // (decoders * _BYTES_PER_PIXEL), _LEAST_PIXELS), USUAL_PIXELS)


def _free(memory: int) -> int:
    return max(0, memory - IDLE_BYTES)
