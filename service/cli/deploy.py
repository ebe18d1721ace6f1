"""``mobilenet-service models promote | rollback | status``: which versions the services of this machine serve."""

from __future__ import annotations

import json
import math
import re
import sys
from typing import TYPE_CHECKING

import click

from service.cli.options import setting_options, settings_from
from service.errors import OperatorError
from service.host.process import say

if TYPE_CHECKING:  # each command imports what it needs when it runs
    from service.model.aliases import Aliases


def _reference(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, str]:
    from service.model.artifact import NAME

    name, _, version = value.partition("/")
    if not (re.fullmatch(NAME, name) and re.fullmatch(NAME, version)):
        raise click.BadParameter(f"{value!r} is not NAME/VERSION, such as mobilenet_v2/2")
    return name, version


def _number(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """Not a number is in every range."""
    if value is not None and math.isnan(value):
        raise click.BadParameter("'nan' is not a number")
    return value


@click.command("promote")
@click.argument("reference", metavar="NAME/VERSION", callback=_reference)
@click.option(
    "--canary",
    metavar="PERCENT",
    type=click.FloatRange(0, 100),
    callback=_number,
    help="Let it answer this share of the requests only. 0: only those that name it.",
)
@click.option(
    "--shadow",
    metavar="SAMPLE",
    type=click.FloatRange(0, 1, min_open=True),
    callback=_number,
    help="Let it see this fraction of the images and compare it with what is answered; nobody gets its answers.",
)
@click.option("--accept-disagreement", is_flag=True, help="Even if its classes are others than the stable version's.")
@click.option("--accept-slower", is_flag=True, help="Even if it takes much longer than the stable version.")
@click.option("--no-write", is_flag=True, help="Leave aliases.json as it is, and print what it should say.")
@setting_options(["model_store"])
def promote_command(
    reference: tuple[str, str],
    canary: float | None,
    shadow: float | None,
    accept_disagreement: bool,
    accept_slower: bool,
    no_write: bool,
    model_store: str | None,
) -> None:
    """Make a version the stable one, a canary (--canary) or a shadow (--shadow) in the running services.

    Each service of this machine and user that serves the model from this store loads the version, compares it with its
    stable one and answers within two minutes. If all accept, the store's aliases.json says so from now on. If one
    refuses, all stay as they were, and the exit status is 1. If none is running, only the file is written.

    With --no-write the services of a container are asked, whose store is read-only and not theirs alone.
    """
    from service.cli.rollout import DISAGREEMENT, SLOWER, carry_out, promoted
    from service.store.catalog import verify

    if canary is not None and shadow is not None:
        raise click.UsageError("--canary and --shadow exclude each other")
    name, version = reference
    store = settings_from(model_store=model_store).model_store
    verify(store, name, version)
    accept = [*[DISAGREEMENT] * accept_disagreement, *[SLOWER] * accept_slower]
    carry_out(
        store, name, lambda current, _: promoted(name, current, version, canary, shadow), accept, write=not no_write
    )


@click.command("rollback")
@click.argument("name", metavar="NAME")
@click.option("--to", "version", metavar="VERSION", help="Make this one stable, and end the canary.")
@click.option("--shadow", is_flag=True, help="End the shadow, and nothing else.")
@setting_options(["model_store"])
def rollback_command(name: str, version: str | None, shadow: bool, model_store: str | None) -> None:
    """End a model's canary, or, if it has none, make the version stable again that was stable before.

    The running services are asked as by 'models promote', but accept other classes and a slower version. They know
    which version was stable before; without one, name it with --to.
    """
    from dataclasses import replace

    from service.cli.rollout import DISAGREEMENT, SLOWER, carry_out, promoted
    from service.store.catalog import verify

    if version is not None and shadow:
        raise click.UsageError("--to and --shadow exclude each other")
    store = settings_from(model_store=model_store).model_store

    def rolled_back(current: Aliases | None, previous: str | None) -> Aliases:
        if shadow:
            if current is None or current.shadow is None:
                raise OperatorError(f"{name} has no shadow")
            return replace(current, shadow=None)
        if version is None and current is not None and current.canary is not None:
            return replace(current, canary=None)
        if (stable := version or previous) is None:
            raise OperatorError(
                f"nothing says what {name} goes back to; run: mobilenet-service models rollback {name} --to VERSION"
            )
        verify(store, name, stable)
        return replace(promoted(name, current, stable), canary=None)

    carry_out(store, name, rolled_back, (DISAGREEMENT, SLOWER))


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: store, aliases (the file), services.")
@setting_options(["model_store"])
def status_command(as_json: bool, model_store: str | None) -> None:
    """Show which versions the store's aliases.json names, and which the running services have.

    The services are those of this machine and user that serve this store. Exit status 1 if one does not answer.
    """
    from service.cli.rollout import Service, remarks, table
    from service.host.runtime_directory import process_of, sockets
    from service.model.aliases import dump, read

    store = settings_from(model_store=model_store).model_store
    desired = read(store)
    services: list[Service] = []
    silent: dict[int, str] = {}
    for path in sockets(store):
        try:
            services.append(Service.reach(path))
        except OperatorError as error:
            silent[process_of(path)] = str(error)
    if as_json:
        answers = [*(service.status for service in services), *({"pid": p, "error": e} for p, e in silent.items())]
        report = {"store": str(store.resolve()), "aliases": json.loads(dump(desired)), "services": answers}
        click.echo(json.dumps(report, indent=2))
    else:
        for line in (*table(desired, services), *remarks(desired, services)):
            click.echo(line)
    for sentence in silent.values():
        say(f"error: {sentence}")
    sys.exit(1 if silent else 0)
