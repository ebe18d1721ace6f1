"""Query parameters of the inference endpoints, parsed strictly. InvalidParameter names the parameter."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

from service.errors import InvalidParameter

_NUMBER = re.compile(r"\d{1,9}", re.ASCII)
_FRACTION = re.compile(r"\d(\.\d{0,9})?|\.\d{1,9}", re.ASCII)

#: The spellings that FastAPI accepts.
_BOOLEANS = {
    **dict.fromkeys(("1", "true", "t", "yes", "y", "on"), True),
    **dict.fromkeys(("0", "false", "f", "no", "n", "off"), False),
}


def parse(query_string: bytes) -> dict[str, str]:
    """Names and values; the last value if a name is repeated. Unknown names are kept."""
    return dict(parse_qsl(query_string.decode("latin-1"), keep_blank_values=True)) if query_string else {}


def whole_number(query: dict[str, str], name: str, *, default: int, most: int) -> int:
    """The value of ``name``, from 1 to ``most``."""
    text = query.get(name)
    if text is None:
        return default
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= most:
        expected = "1" if most == 1 else f"a whole number from 1 to {most}"
        raise InvalidParameter(f"{name}: must be {expected}")
    return int(text)


def indices(query: dict[str, str], name: str, *, below: int, most: int) -> tuple[int, ...]:
    """The value of ``name``: at most ``most`` distinct numbers less than ``below``, separated by commas."""
    text = query.get(name)
    if text is None:
        return ()
    parts = text.split(",", most)
    if len(parts) > most or not all(_NUMBER.fullmatch(part) and int(part) < below for part in parts):
        expected = "a class index" if most == 1 else f"1 to {most} class indices, separated by commas,"
        raise InvalidParameter(f"{name}: must be {expected} from 0 to {below - 1}")
    numbers = tuple(int(part) for part in parts)
    if len(set(numbers)) < len(numbers):
        raise InvalidParameter(f"{name}: a class is repeated")
    return numbers


def fraction(query: dict[str, str], name: str, *, default: float) -> float:
    """The value of ``name``, from 0 to 1."""
    text = query.get(name)
    if text is None:
        return default
    if not _FRACTION.fullmatch(text) or float(text) > 1:
        raise InvalidParameter(f"{name}: must be a number from 0 to 1")
    return float(text)


def boolean(query: dict[str, str], name: str, *, default: bool) -> bool:
    """The value of ``name`` as a boolean."""
    text = query.get(name)
    if text is None:
        return default
    if (value := _BOOLEANS.get(text.lower())) is None:
        raise InvalidParameter(f"{name}: must be true or false")
    return value
