"""Parameters of the inference endpoints, from the query and a form's parts, parsed strictly.

InvalidParameter names the parameter whose value is wrong. A name that no endpoint has asked for is not an error: the
answer warns of it.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import NamedTuple
from urllib.parse import parse_qsl

from service.errors import InvalidParameter

_NUMBER = re.compile(r"\d{1,9}", re.ASCII)
_FRACTION = re.compile(r"\d(\.\d{0,9})?|\.\d{1,9}", re.ASCII)

#: The spellings that FastAPI accepts.
_BOOLEANS = {
    **dict.fromkeys(("1", "true", "t", "yes", "y", "on"), True),
    **dict.fromkeys(("0", "false", "f", "no", "n", "off"), False),
}

#: Of unknown parameters, so many are named, each by so many characters.
_NAMED = 4
_NAME_LENGTH = 32


def escaped(text: str) -> str:
    """The beginning of what a client sent, quoted, in printable ASCII."""
    return ascii(text[:_NAME_LENGTH]) + "..." * (len(text) > _NAME_LENGTH)


class MapParameters(NamedTuple):
    """The parameters of ``/explain``."""

    classes: tuple[int, ...]
    top_k: int  # used if ``classes`` is empty
    embedding: bool
    opacity: float


class Parameters:
    """Names and values of one request; the last value if a name is repeated. Each method makes its name a known one."""

    def __init__(self, query_string: bytes) -> None:
        pairs = parse_qsl(query_string.decode("latin-1"), keep_blank_values=True) if query_string else ()
        self.values: dict[str, str] = dict(pairs)
        self._known: set[str] = set()

    def whole_number(self, name: str, *, default: int, most: int) -> int:
        """The value of ``name``, from 1 to ``most``."""
        text = self.text(name)
        if text is None:
            return default
        if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= most:
            expected = "1" if most == 1 else f"a whole number from 1 to {most}"
            raise InvalidParameter(f"{name}: must be {expected}")
        return int(text)

    def indices(self, name: str, *, below: int, most: int) -> tuple[int, ...]:
        """The value of ``name``: at most ``most`` distinct numbers less than ``below``, separated by commas."""
        text = self.text(name)
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

    def fraction(self, name: str, *, default: float) -> float:
        """The value of ``name``, from 0 to 1."""
        text = self.text(name)
        if text is None:
            return default
        if not _FRACTION.fullmatch(text) or float(text) > 1:
            raise InvalidParameter(f"{name}: must be a number from 0 to 1")
        return float(text)

    def boolean(self, name: str, *, default: bool) -> bool:
        """The value of ``name`` as a boolean."""
        text = self.text(name)
        if text is None:
            return default
        if (value := _BOOLEANS.get(text.lower())) is None:
            raise InvalidParameter(f"{name}: must be true or false")
        return value

    def text(self, name: str) -> str | None:
        self._known.add(name)
        return self.values.get(name)

    def warnings(self) -> list[str]:
        """A sentence for each unknown parameter, with the most similar known name; the last sentence for the rest."""
        unknown = [name for name in self.values if name not in self._known]
        sentences = []
        for name in unknown[:_NAMED]:
            similar = get_close_matches(name[:_NAME_LENGTH].lower(), self._known, 1)
            remedy = f"did you mean '{similar[0]}'?" if similar else self._valid()
            sentences.append(f"the unknown parameter {escaped(name)} was ignored; {remedy}")
        if len(unknown) > _NAMED:
            sentences.append(f"{len(unknown) - _NAMED} more unknown parameters were ignored; {self._valid()}")
        return sentences

    def plain_warning(self) -> str:
        """What ``warnings`` say in one sentence, without the names that the client sent."""
        return f"unknown parameters were ignored; {self._valid()}"

    def _valid(self) -> str:
        return f"the parameters of this path are {', '.join(sorted(self._known))}"
