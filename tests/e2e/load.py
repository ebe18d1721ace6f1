"""Clients that ask a server until it is gone, and what has become of their requests."""

from __future__ import annotations

import re
import threading

import httpx

from tests.e2e.process import ServerProcess
from tests.waiting import until


class Load:
    """``clients`` that ask until the service is gone, each on a new connection each time."""

    def __init__(self, url: str, body: bytes, clients: int = 8) -> None:
        self._url = url
        self._body = body
        self.answered: list[str] = []
        self.refused: list[str] = []
        self.broken: list[str] = []
        self._threads = [threading.Thread(target=self._ask, args=(client,)) for client in range(clients)]
        for thread in self._threads:
            thread.start()

    def _ask(self, client: int) -> None:
        for count in range(100_000):
            request_id = f"{client}-{count}"
            headers = {"X-Request-Id": request_id}
            try:
                # The kernel may have completed its handshake when the listener closes; it is then reset unread, which
                # only the client and its balancer can see.
                answer = httpx.post(f"{self._url}/classify", content=self._body, headers=headers, timeout=60)
            except httpx.TransportError:
                self.broken.append(request_id)
                return
            (self.answered if answer.status_code == 200 else self.refused).append(request_id)

    def run_until_terminated(self, running: ServerProcess, after: int = 100) -> None:
        """SIGTERM amid the load."""
        until(lambda: len(self.answered) >= after, timeout=60, what=f"{after} answers", every=0.01)
        assert running.terminate() == 0
        self.run_out()

    def run_out(self) -> None:
        """Once the service has been told to end."""
        for thread in self._threads:
            thread.join(60)
        assert len(self.broken) == len(self._threads), "each ran until the service was gone"

    def taken(self, running: ServerProcess) -> dict[str, int]:
        """Status of each request that the service has taken, by its id; from the access log in its text form."""
        found = re.findall(r"path=/classify status=(\d+) .*request_id=(\S+)", running.output)
        assert len(found) >= len(self.answered)
        return {request_id: int(status) for status, request_id in found}

    def lost(self, running: ServerProcess) -> set[str]:
        """Requests that the service has taken and their clients have no answer to."""
        return self.taken(running).keys() - set(self.answered)
