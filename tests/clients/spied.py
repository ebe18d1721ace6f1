"""``python -m tests.clients.spied serve``: the service, which prints the head of each request as JSON."""

from __future__ import annotations

import json
import sys

from starlette.types import Receive, Scope, Send

from service import cli
from service.http.middleware import Observe


def main() -> None:
    serve = Observe.__call__

    async def spy(self: Observe, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        sys.stdout.write(json.dumps({"port": scope["client"][1], "headers": headers}) + "\n")
        sys.stdout.flush()
        await serve(self, scope, receive, send)

    Observe.__call__ = spy  # type: ignore[method-assign]
    sys.argv[0] = "mobilenet-service"
    cli.main()


if __name__ == "__main__":
    main()
