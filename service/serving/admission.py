"""The one limit on work in the process, taken before any of it is done.

A request takes a permit before its body is read, as heavy as the body may become, and widens it once headers tell
how large its images are, so that one limit bounds bodies, decoding, queue and memory together. No waiting: no room
means 503 at once. Where an operator asks for fairness, no client may hold more than its share of the limit: 429.

Used from the event loop's thread alone, hence without a lock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from service.errors import Overloaded, TooManyRequests

#: An image weighs 1, and one more for every so many pixels; a body 1, and one more for every so many bytes. Sixteen
#: requests of the largest default size (50 MP, 16 MiB) fit into the default limit together, and bodies in flight
#: cannot exceed limit × BYTES_PER_UNIT, half a gigabyte.
PIXELS_PER_UNIT = 8_000_000
BYTES_PER_UNIT = 2 * 2**20


def image_weight(pixels: int) -> int:
    """Units that an image of ``pixels`` pixels takes."""
    return 1 + pixels // PIXELS_PER_UNIT


def body_weight(size: int) -> int:
    """Units that a body of ``size`` bytes takes."""
    return 1 + size // BYTES_PER_UNIT


class Admission:
    """Counts units in flight against ``limit``, and those of each client against ``share`` of it."""

    def __init__(self, limit: int, *, share: float = 1.0, retry_after: Callable[[], int] = lambda: 1) -> None:
        self.limit = limit
        self.in_flight = 0
        self._client_limit = max(1, int(limit * share))
        self._clients: Counter[str] | None = Counter() if share < 1.0 else None
        self._retry_after = retry_after

    def admit(self, units: int = 1, client: str = "") -> Permit:
        """A permit of ``units``; Overloaded, or TooManyRequests where ``client`` holds its share.

        A request heavier than the whole limit is served when it is alone rather than never, and one heavier than a
        client's share when the client has nothing else in flight.
        """
        permit = Permit(self, client)
        permit.widen(units)
        return permit

    def _take(self, units: int, client: str, own: int) -> None:
        if self._clients is not None:
            held = self._clients[client]
            if held > own and held + units > self._client_limit:
                raise TooManyRequests(
                    "this client has its share of the images in flight already", retry_after=self._retry_after()
                )
        if self.in_flight + units > self.limit:
            raise Overloaded("the service is at its limit of images in flight", retry_after=self._retry_after())
        self.in_flight += units
        if self._clients is not None:
            self._clients[client] += units

    def _give_back(self, units: int, client: str) -> None:
        self.in_flight -= units
        if self._clients is not None:
            self._clients[client] -= units
            if not self._clients[client]:
                del self._clients[client]


class Permit:
    """Units held by one request; a context manager that gives them back."""

    def __init__(self, admission: Admission, client: str) -> None:
        self._admission = admission
        self._client = client
        self.units = 0

    def widen(self, units: int) -> None:
        """Hold at least ``units`` in all, or raise and keep what was held."""
        more = min(units, self._admission.limit) - self.units
        if more > 0:
            self._admission._take(more, self._client, self.units)
            self.units += more

    def __enter__(self) -> Permit:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._admission._give_back(self.units, self._client)
        self.units = 0
