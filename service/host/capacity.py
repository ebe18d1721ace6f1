"""How much is taken at once, where the settings leave it open: as much as memory allows, up to a usual size.

memory ─► what an idle process takes │ three quarters: pixels being decoded │ one quarter: bodies in flight
"""

from __future__ import annotations

import os
from typing import NamedTuple

from service.config import Settings
from service.host import cgroup
from service.serving.admission import BYTES_PER_UNIT

USUAL_IN_FLIGHT = 256
USUAL_PIXELS = 50_000_000

#: Ready, 213 MiB on two cores; and some for what allocators keep.
_IDLE_BYTES = 256 * 2**20
#: What a decoder takes at worst, give or take a tenth (ADR 10); JPEG and PNG a quarter to three quarters of it.
_BYTES_PER_PIXEL = 16
#: Less would refuse what everybody expects to be served. A process with so little memory may be killed by it.
_LEAST_IN_FLIGHT = 8
_LEAST_PIXELS = 1_000_000


class Capacity(NamedTuple):
    max_in_flight: int  # units of ``Admission``
    max_pixels: int  # of one image


def capacity(settings: Settings, decoders: int, memory: int | None = None) -> Capacity:
    """Settings without "auto". ``decoders`` images are decoded at once; ``memory`` is in bytes, the default what is
    available to a process that has it for itself."""
    free = max(0, (available_memory() if memory is None else memory) - _IDLE_BYTES)
    in_flight = min(max(free // 4 // BYTES_PER_UNIT, _LEAST_IN_FLIGHT), USUAL_IN_FLIGHT)
    pixels = min(max(free * 3 // 4 // (decoders * _BYTES_PER_PIXEL), _LEAST_PIXELS), USUAL_PIXELS)
    return Capacity(
        in_flight if settings.max_in_flight == "auto" else settings.max_in_flight,
        pixels if settings.max_pixels == "auto" else settings.max_pixels,
    )


def worker_capacity(settings: Settings, decoders: int, engines: int) -> Capacity:
    """The same for one of several workers: they share what the engines leave."""
    return capacity(settings, decoders, max(0, available_memory() - engines * _IDLE_BYTES) // settings.workers)


def available_memory() -> int:
    """Bytes: the machine's, or what the cgroup leaves of it."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = cgroup.memory_limit()
    return machine if limit is None else min(machine, limit)
