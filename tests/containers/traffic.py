"""Clients that ask without a pause while something happens to the servers; what each got is counted."""

from __future__ import annotations

import http.client
import itertools
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from tests.waiting import until


class Traffic:
    """A context manager; ``clients`` connections post to /classify until it ends.

    ``statuses`` counts the answers, ``broken`` holds what went wrong without one. An answer is read whole.
    """

    def __init__(
        self, url: str, bodies: Sequence[bytes], *, clients: int = 8, headers: dict[str, str] | None = None
    ) -> None:
        self.statuses: Counter[int] = Counter()
        self.broken: list[str] = []
        self.refusals: list[tuple[str | None, bytes]] = []  # of each 503: its Retry-After and its body
        self._host = urlsplit(url).netloc
        self._bodies = bodies
        self._headers = headers or {}
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._client, args=(index,)) for index in range(clients)]

    @property
    def failed(self) -> int:
        """Requests without an answer, or with another than 200."""
        return len(self.broken) + sum(count for status, count in self.statuses.items() if status != 200)

    def all_answered(self, report: Callable[[str], None], during: str) -> None:
        """Reports how many failed ``during`` what happened, and fails unless it is none."""
        report(f"{during}: {self.failed} failed of {self.statuses.total()}")
        assert self.failed == 0, (self.statuses, self.broken, self.refusals[:3])

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def wait_for(self, more: int, *, timeout: float = 60) -> None:
        """Until ``more`` further requests were answered with 200."""
        goal = self.statuses[200] + more
        until(lambda: self.statuses[200] >= goal, timeout=timeout, what=f"{more} more answers")

    def _client(self, index: int) -> None:
        connection = http.client.HTTPConnection(self._host, timeout=60)
        for turn in itertools.count(index):
            if self._stop.is_set():
                break
            try:
                connection.request("POST", "/classify", self._bodies[turn % len(self._bodies)], self._headers)
                answer = connection.getresponse()
                body = answer.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                with self._lock:
                    self.broken.append(repr(error))
                continue
            with self._lock:
                self.statuses[answer.status] += 1
                if answer.status == 503:
                    self.refusals.append((answer.getheader("Retry-After"), body))
        connection.close()
