"""Query parameters of the inference endpoints: parsed strictly, refused with the parameter's name."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

from service.errors import InvalidParameter

_NUMBER = re.compile(r"\d{1,9}", re.ASCII)
_FRACTION = re.compile(r"\d(\.\d{0,9})?|\.\d{1,9}", re.ASCII)

#: Spellings of a yes and a no, as FastAPI takes them.
_BOOLEANS = {
    **dict.fromkeys(("1", "true", "t", "yes", "y", "on"), True),
    **dict.fromkeys(("0", "false", "f", "no", "n", "off"), False),
}


def parse(query_string: bytes) -> dict[str, str]:
    """Names and values; of a name given twice, the last. Unknown names are nobody's business here."""
    return dict(parse_qsl(query_string.decode("latin-1"), keep_blank_values=True)) if query_string else {}


def whole_number(query: dict[str, str], name: str, *, default: int, most: int) -> int:
    """The value of ``name`` between 1 and ``most``; InvalidParameter otherwise."""
    text = query.get(name)
    if text is None:
        return default
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= most:
        wanted = "1" if most == 1 else f"a whole number from 1 to {most}"
        raise InvalidParameter(f"{name}: {wanted} is wanted")
    return int(text)


def indices(query: dict[str, str], name: str, *, below: int, most: int) -> tuple[int, ...]:
    """The value of ``name`` as at most ``most`` different numbers under ``below``, separated by commas; none if it is
    not given. InvalidParameter otherwise."""
    text = query.get(name)
    if text is None:
        return ()
    parts = text.split(",", most)
    if len(parts) > most or not all(_NUMBER.fullmatch(part) and int(part) < below for part in parts):
        one = f"a class index from 0 to {below - 1} is wanted"
        several = f"1 to {most} class indices from 0 to {below - 1} are wanted, with commas between"
        raise InvalidParameter(f"{name}: {one if most == 1 else several}")
    numbers = tuple(int(part) for part in parts)
    if len(set(numbers)) < len(numbers):
        raise InvalidParameter(f"{name}: a class is named twice")
    return numbers


def fraction(query: dict[str, str], name: str, *, default: float) -> float:
    """The value of ``name`` between 0 and 1; InvalidParameter otherwise."""
    text = query.get(name)
    if text is None:
        return default
    if not _FRACTION.fullmatch(text) or float(text) > 1:
        raise InvalidParameter(f"{name}: a number from 0 to 1 is wanted")
    return float(text)


def boolean(query: dict[str, str], name: str, *, default: bool) -> bool:
    """The value of ``name`` as a yes or no; InvalidParameter otherwise."""
    text = query.get(name)
    if text is None:
        return default
    if (value := _BOOLEANS.get(text.lower())) is None:
        raise InvalidParameter(f"{name}: true or false is wanted")
    return value
