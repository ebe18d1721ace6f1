"""Command-line options made from ``Settings``: same names, same help, same checks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import click
from pydantic import ValidationError
from pydantic_core import ErrorDetails, PydanticUndefined

from service.config import Settings
from service.errors import OperatorError

#: Secrets on a command line are read by everyone who can list processes.
_ENVIRONMENT_ONLY = {"api_keys"}

Command = Callable[..., Any]


def setting_options(names: Iterable[str] = ()) -> Callable[[Command], Command]:
    """Decorate a command with an option for each of ``names``, or for every setting."""
    fields = list(names) or [name for name in Settings.model_fields if name not in _ENVIRONMENT_ONLY]

    def decorate(command: Command) -> Command:
        for name in reversed(fields):
            command = _option(name)(command)
        return command

    return decorate


def settings_from(**overrides: Any) -> Settings:
    """Settings from the environment and what the command line gave; OperatorError names everything that is wrong."""
    for name in sorted(os.environ):
        # A warning and no more: orchestrators put variables of their own beside ours (MOBILENET_SERVICE_HOST).
        if name.startswith("MOBILENET_") and name.removeprefix("MOBILENET_").lower() not in Settings.model_fields:
            click.echo(f"warning: {name} is set, but there is no such setting", err=True)
    overrides = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**overrides)
    except ValidationError as error:
        wrong: dict[str, list[ErrorDetails]] = {}
        for detail in error.errors():  # one for each type of a union
            wrong.setdefault(str(detail["loc"][0]), []).append(detail)
        raise OperatorError("; ".join(_complaint(name, wrong[name], name in overrides) for name in wrong)) from None


def _complaint(name: str, details: list[ErrorDetails], on_the_command_line: bool) -> str:
    option = f"--{name.replace('_', '-')}" if on_the_command_line else f"MOBILENET_{name.upper()}"
    message = details[0]["msg"].removeprefix("Value error, ")
    if details[0]["type"] == "bool_parsing":
        message = "must be true or false"
    elif details[-1]["type"] == "literal_error" and len(details) > 1:
        message += ", or 'auto'"
    shown = "" if name in _ENVIRONMENT_ONLY else f" (got {details[0]['input']!r})"
    return f"{option}: {message}{shown}"


def _option(name: str) -> Callable[[Command], Command]:
    field = Settings.model_fields[name]
    flag = name.replace("_", "-")
    if field.annotation is bool:
        return click.option(f"--{flag}/--no-{flag}", name, default=None, help=_help(name))
    return click.option(f"--{flag}", name, default=None, metavar=_metavar(name), help=_help(name))


def _help(name: str) -> str:
    field = Settings.model_fields[name]
    text = " ".join((field.description or "").split())
    if field.default in (PydanticUndefined, None, ()) or field.annotation is bool:
        return text
    return f"{text}  [default: {field.default}]"


def _metavar(name: str) -> str:
    schema = Settings.model_json_schema()["properties"][name]
    if "enum" in schema:
        return "|".join(schema["enum"])
    kinds = {part.get("const") or part.get("type") for part in schema.get("anyOf", [schema])}
    if "auto" in kinds:
        return "N|auto"
    return {"integer": "N", "number": "X"}.get(next(iter(kinds)), "TEXT")
