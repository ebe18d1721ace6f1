"""Command-line options generated from ``Settings``, with the same names, help and checks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import click
from pydantic import ValidationError
from pydantic_core import ErrorDetails, PydanticUndefined

from service.cli.environment import PORT_VARIABLES, EnvironmentSettings, is_service_link, port_variable
from service.config import Settings
from service.errors import OperatorError
from service.host.process import say

#: Secrets: every user who can list processes can read a command line.
_ENVIRONMENT_ONLY = {"api_keys"}

Command = Callable[..., Any]


def setting_options(names: Iterable[str] = ()) -> Callable[[Command], Command]:
    """Decorator that adds an option for each of ``names``, or for every setting."""
    fields = list(names) or [name for name in Settings.model_fields if name not in _ENVIRONMENT_ONLY]

    def decorate(command: Command) -> Command:
        for name in reversed(fields):
            command = _option(name)(command)
        return command

    return decorate


def settings_from(**overrides: Any) -> Settings:
    """Settings from the environment and the command line; OperatorError describes all invalid ones."""
    names = sorted(name for name in os.environ if name.startswith("MOBILENET_") or name in PORT_VARIABLES)
    if links := [name for name in names if is_service_link(name, os.environ[name])]:
        say(f"warning: ignored, because they describe a service to its neighbours: {', '.join(links)}")
    known = {*links, *PORT_VARIABLES, *(f"MOBILENET_{name.upper()}" for name in Settings.model_fields)}
    for name in names:
        if name not in known:
            say(f"warning: {name} is set, but there is no such setting")
    overrides = {name: value for name, value in overrides.items() if value is not None}
    try:
        return EnvironmentSettings(**overrides)
    except ValidationError as error:
        invalid: dict[str, list[ErrorDetails]] = {}
        for detail in error.errors():  # a union has one error per type
            invalid.setdefault(str(detail["loc"][0]), []).append(detail)
        raise OperatorError("; ".join(_describe(name, invalid[name], name in overrides) for name in invalid)) from None


def _describe(name: str, details: list[ErrorDetails], on_the_command_line: bool) -> str:
    variable = (port_variable(os.environ) if name == "port" else None) or f"MOBILENET_{name.upper()}"
    option = f"--{name.replace('_', '-')}" if on_the_command_line else variable
    message = details[0]["msg"].removeprefix("Value error, ")
    if details[0]["type"] == "bool_parsing":
        message = "must be true or false"
    elif details[-1]["type"] == "literal_error" and len(details) > 1:
        message += ", or 'auto'"
    value = "" if name in _ENVIRONMENT_ONLY else f" (got {details[0]['input']!r})"
    return f"{option}: {message}{value}"


def _option(name: str) -> Callable[[Command], Command]:
    field = Settings.model_fields[name]
    flag = name.replace("_", "-")
    text = " ".join((field.description or "").split())
    if field.annotation is bool:
        return click.option(f"--{flag}/--no-{flag}", name, default=None, help=text)
    if field.default not in (PydanticUndefined, None, ()):
        text += f"  [default: {field.default}]"
    return click.option(f"--{flag}", name, default=None, metavar=_metavar(name), help=text)


def _metavar(name: str) -> str:
    schema = Settings.model_json_schema()["properties"][name]
    if "enum" in schema:
        return "|".join(schema["enum"])
    kinds = {part.get("const") or part.get("type") for part in schema.get("anyOf", [schema])}
    if "auto" in kinds:
        return "N|auto"
    return {"integer": "N", "number": "X"}.get(next(iter(kinds)), "TEXT")
