"""``python -m tests.processes.changing serve``: a service that changes its version when it is told to, over a socket.

The socket is in ``$CHANGING``. Its engines are those that ship, but one waits while there is a file of its name there.
``$CHANGING_MEMORY`` is where it keeps what others keep in /dev/shm.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from service.config import Settings
from service.metrics import Metrics
from service.model.aliases import parse
from service.processes.bootstrap import Handover

PROGRAM = ("-m", "tests.processes.changing")


def _serve() -> None:
    import service.cli
    from service.processes import generation, metrics_directory, supervisor

    class Supervisor(supervisor.Supervisor):
        async def run(self) -> int:
            listener = await asyncio.start_unix_server(self._obey, Path(os.environ["CHANGING"], "socket"))
            try:
                return await super().run()
            finally:
                listener.close()

        async def _obey(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            desired = parse(await reader.readline())
            verdict = asdict(await self.apply(desired, ["disagreement", "slower"]))
            writer.write(json.dumps(verdict).encode() + b"\n")
            writer.close()
            await writer.wait_closed()

    if memory := os.environ.get("CHANGING_MEMORY"):
        metrics_directory._default_base = lambda: Path(memory)
    generation.ENGINE_MODULE = "tests.processes.changing"
    supervisor.Supervisor = Supervisor  # type: ignore[misc]
    service.cli.main()


def _is_held(name: str) -> bool:
    return Path(os.environ["CHANGING"], name).exists()


async def _serve_engine(handover: Handover, settings: Settings, metrics: Metrics) -> int:
    from service.processes import engine_process

    while _is_held(handover.name):  # noqa: ASYNC110  # by a file
        await asyncio.sleep(0.01)
    return await engine_process.serve(handover, settings, metrics)


def main() -> None:
    if sys.argv[1] == "serve":
        _serve()
    else:
        from service.processes.bootstrap import run_child

        run_child(_serve_engine)


if __name__ == "__main__":
    main()
