"""A change of aliases, and what the running services say of theirs.

    lock aliases.json ─► write it under another name ─► ask the services, one after the other ─► rename it

The first service that refuses or does not answer ends this: those asked so far go back, and the file stays.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from service.errors import OperatorError
from service.host.process import say
from service.host.runtime_directory import process_of, sockets
from service.model.aliases import ALIASES, Aliases, Canary, Shadow, dump
from service.serving.admin import ask
from service.store.aliases import changing

#: Seconds that a service has to load a version, compare it and answer.
VERDICT_S = 120.0
_STATUS_S = 10.0
#: Between two attempts to make a service go back that still does something else.
_BUSY_S = 0.2

#: Refusals that can be waived, as services call them.
DISAGREEMENT, SLOWER = "disagreement", "slower"


@dataclass(frozen=True)
class Service:
    """A running service, and what it said of itself when it was reached."""

    path: Path
    status: dict[str, Any]

    @classmethod
    def reach(cls, path: Path) -> Service:
        """OperatorError if it does not answer."""
        return cls(path, ask(path, {"do": "status"}, _STATUS_S))

    def __str__(self) -> str:
        return f"process {process_of(self.path)}"

    @property
    def models(self) -> dict[str, dict[str, Any]]:
        models: dict[str, dict[str, Any]] = self.status["models"]
        return models

    @property
    def aliases(self) -> dict[str, Aliases]:
        return {
            name: Aliases(
                model["stable"],
                Canary(canary["version"], canary["percent"]) if (canary := model["canary"]) else None,
                Shadow(shadow["version"], shadow["sample"]) if (shadow := model["shadow"]) else None,
            )
            for name, model in self.models.items()
        }

    def change(self, desired: dict[str, Aliases], accept: Sequence[str]) -> dict[str, Any]:
        """Its verdict. OperatorError if it gives none."""
        return ask(self.path, {"do": "change", "aliases": json.loads(dump(desired)), "accept": [*accept]}, VERDICT_S)

    def go_back(self) -> None:
        """To where it was when it was reached, as soon as it has given up what it does."""
        ends = time.monotonic() + VERDICT_S
        try:
            while (verdict := self.change(self.aliases, (DISAGREEMENT, SLOWER)))["reason"] == "busy":
                if time.monotonic() > ends:
                    break
                time.sleep(_BUSY_S)
        except OperatorError as error:
            say(f"{self} could not be told to go back: {error}")
        else:
            say(f"{self} is as it was" if verdict["ok"] else f"{self} did not go back: {verdict['sentence']}")


def carry_out(
    store: Path,
    name: str,
    new: Callable[[Aliases | None, str | None], Aliases],
    accept: Sequence[str],
    *,
    write: bool = True,
) -> None:
    """Make ``name``'s aliases what ``new`` makes of the present ones and of the version that was stable before.

    Both are None where nothing tells them. OperatorError, and nothing has changed, if a service refuses. Without
    ``write`` the file stays, and what it should say is printed, for who asks the services of several containers.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as with Ctrl-C, services go back
    with changing(store) as change:
        services = [service for path in sockets(store) if name in (service := Service.reach(path)).models]
        current = change.before.get(name) or _agreed(service.aliases[name] for service in services)
        wanted = new(current, _agreed(service.models[name]["previous"] for service in services))
        desired = change.before | {name: wanted}
        if not write and not services:
            raise OperatorError(f"no service of this user serves {name} from this store")
        if differs := write and desired != change.before:
            change.prepare(desired)
        asked: list[Service] = []
        try:
            for service in services:
                asked.append(service)
                say(f"{service} is asked and has {VERDICT_S:g} s")
                verdict = service.change(desired, accept)
                if not verdict["ok"]:
                    asked.remove(service)  # it has changed nothing
                    raise OperatorError(f"{service} refused: {verdict['sentence']}")
                click.echo(f"{service}: {verdict['sentence']}{_figures(verdict['figures'])}", err=not write)
            if differs:
                change.commit()
        except BaseException:
            if not change.committed:
                for service in asked:
                    service.go_back()
            raise
    if not write:
        click.echo(dump(desired), nl=False)
        return
    if not services:
        click.echo(f"No service of this user serves {name} from this store; the next one that starts will.")
    words = (
        f"{alias} {cell}" for alias, cell in zip(("stable", "canary", "shadow"), _cells(wanted), strict=True) if cell
    )
    click.echo(f"{ALIASES}: {name}: {', '.join(words)}{'' if differs else ' (unchanged)'}")


def promoted(
    name: str, current: Aliases | None, version: str, percent: float | None = None, sample: float | None = None
) -> Aliases:
    """``current`` with ``version`` as canary, as shadow or else as stable version, and as nothing else any more."""
    canary, shadow = (None, None) if current is None else (current.canary, current.shadow)
    canary = None if canary is None or canary.version == version else canary
    shadow = None if shadow is None or shadow.version == version else shadow
    if percent is None and sample is None:
        return Aliases(version, canary, shadow)
    if current is None:
        raise OperatorError(
            f"nothing says which version of {name} is stable; first run: "
            f"mobilenet-service models promote {name}/VERSION"
        )
    if current.stable == version:
        raise OperatorError(f"{name}/{version} is the stable version, so it cannot be canary or shadow")
    if percent is not None:
        return Aliases(current.stable, Canary(version, percent), shadow)
    assert sample is not None
    return Aliases(current.stable, canary, Shadow(version, sample))


def table(desired: dict[str, Aliases], services: Sequence[Service]) -> Iterator[str]:
    """The lines of ``models status``: a row for each model in the file and in each service."""
    rows = [("", "model", "stable", "canary", "shadow", "loaded", "before")]
    rows += [("aliases.json", name, *_cells(aliases), "", "") for name, aliases in desired.items()]
    for service in services:
        for name, aliases in service.aliases.items():
            model = service.models[name]
            default = " (default)" if name == service.status["default"] else ""
            loaded = " ".join(model["loaded"])
            rows.append((str(service), f"{name}{default}", *_cells(aliases), loaded, model["previous"] or ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def remarks(desired: dict[str, Aliases], services: Sequence[Service]) -> Iterator[str]:
    """What the table does not show."""
    if not services:
        yield "No service of this user serves this store."
    for service in services:
        for name, aliases in service.aliases.items():
            canary = service.models[name]["canary"]
            if canary and canary["held"]:
                yield f"{service}: canary {name}/{canary['version']} gets {canary['effective']:g} %: {canary['held']}"
            if desired.get(name, aliases) != aliases:
                yield f"{service}: {name} is not as aliases.json says; promote again, or send it SIGHUP"
        if last := service.status["last"]:
            yield f"{service}: last change: {last['sentence']}"


def _cells(aliases: Aliases) -> tuple[str, str, str]:
    canary, shadow = aliases.canary, aliases.shadow
    return (
        aliases.stable,
        f"{canary.version} at {canary.percent:g} %" if canary else "",
        f"{shadow.version} of {shadow.sample:g}" if shadow else "",
    )


def _figures(figures: Mapping[str, float | None]) -> str:
    known = [f"{name.replace('_', ' ')} {value:.3g}" for name, value in figures.items() if value is not None]
    return f" ({', '.join(known)})" if known else ""


_T = TypeVar("_T")


def _agreed(answers: Iterable[_T]) -> _T | None:
    """The one answer that all give, if they do."""
    different = set(answers)
    return different.pop() if len(different) == 1 else None
