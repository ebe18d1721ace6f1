"""Running services, as ``models promote`` and its like see them: a real socket, and a handler that keeps no model."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service.host.runtime_directory import new_socket
from service.model.aliases import Aliases, dump, parse
from service.serving.admin import AdminServer, Message

FIGURES = {"agreement": 0.984, "cosine": 0.9991, "cost_ratio": None, "seconds": 0.8}


@dataclass
class FakeService:
    """Serves ``tiny`` as its settings or the last accepted change say."""

    store: Path
    pid: int
    stable: str = "1"  # of its settings
    models: tuple[str, ...] = ("tiny",)
    previous: str | None = None
    held: str | None = None  # why its canary gets nothing
    refusal: tuple[str, str] | None = None  # word and sentence
    busy: int = 0  # how often it answers so
    dies_of: str = ""  # what it is asked when its connection ends
    hangs: threading.Event | None = None  # set once it does
    silent: bool = False
    aliases: dict[str, Aliases] = field(default_factory=dict)
    asked: list[tuple[dict[str, Any], list[str]]] = field(default_factory=list)
    cancelled: int = 0
    last: Message | None = None

    def current(self) -> dict[str, Aliases]:
        return {name: self.aliases.get(name, Aliases(self.stable)) for name in self.models}

    async def handle(self, question: Message) -> Message:
        if self.silent:
            await asyncio.Event().wait()
        if question["do"] == self.dies_of:
            raise asyncio.CancelledError
        if question["do"] == "status":
            return self.status()
        assert question["do"] == "change"
        if self.busy:
            self.busy -= 1
            return verdict("busy", "another change is under way", ok=False)
        desired = parse(json.dumps(question["aliases"]).encode())
        self.asked.append((question["aliases"], question["accept"]))
        if self.hangs is not None and not self.hangs.is_set():
            self.hangs.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled += 1
        if {**self.current(), **desired} == self.current():
            self.last = verdict("unchanged", "nothing to change")
        elif self.refusal is not None and self.refusal[0] not in question["accept"]:
            self.last = verdict(*self.refusal, ok=False)
        else:
            self.aliases = desired
            self.last = verdict("switched", "tiny has been switched")
        return self.last

    def status(self) -> Message:
        models = {}
        for name, aliases in self.current().items():
            canary = aliases.canary and {
                "version": aliases.canary.version,
                "percent": aliases.canary.percent,
                "effective": 0.0 if self.held else aliases.canary.percent,
                "held": self.held,
            }
            shadow = aliases.shadow and {"version": aliases.shadow.version, "sample": aliases.shadow.sample}
            models[name] = {
                "stable": aliases.stable, "canary": canary, "shadow": shadow,
                "loaded": [*aliases.versions], "previous": self.previous,
            }  # fmt: skip
        about = {"store": str(self.store), "pid": self.pid, "default": self.models[0]}
        return {**about, "models": models, "last": self.last}


def verdict(reason: str, sentence: str, *, ok: bool = True) -> Message:
    figures = FIGURES if reason == "switched" else dict.fromkeys(FIGURES)
    return {"ok": ok, "reason": reason, "sentence": sentence, "figures": figures}


def as_json(aliases: dict[str, Aliases]) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(dump(aliases))
    return content


@contextmanager
def running(*services: FakeService) -> Iterator[None]:
    """All of them on an event loop of their own thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def wait_for(coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, loop).result(30)

    servers = []
    try:
        for service in services:
            key = new_socket(service.store).stem.partition("-")[0]
            path = new_socket(service.store).with_name(f"{key}-{service.pid}.sock")
            servers.append(AdminServer(path, service.handle))
            wait_for(servers[-1].start())
        yield
    finally:
        for server in servers:
            wait_for(server.aclose())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
