"""``aliases.json``: what it may say, and one sentence for everything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from service.config import MAX_MODELS
from service.errors import OperatorError
from service.model.aliases import ALIASES, Aliases, Canary, Shadow, dump, parse, read

WHOLE = {
    "mobilenet_v2": Aliases("2", Canary("3", 10), Shadow("4", 0.1)),
    "pets": Aliases("2024.1"),
}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    (tmp_path / ALIASES).write_bytes(dump(WHOLE))
    assert read(tmp_path) == WHOLE
    assert json.loads(dump(WHOLE)) == {
        "mobilenet_v2": {
            "stable": "2",
            "canary": {"version": "3", "percent": 10},
            "shadow": {"version": "4", "sample": 0.1},
        },
        "pets": {"stable": "2024.1"},
    }


def test_without_a_file_nothing_is_desired(tmp_path: Path) -> None:
    assert read(tmp_path) == {}
    assert parse(b"{}") == {}


def test_versions_are_named_once_and_the_stable_one_first() -> None:
    assert WHOLE["mobilenet_v2"].versions == ("2", "3", "4")
    assert WHOLE["pets"].versions == ("2024.1",)


def with_canary(**canary: Any) -> Any:
    return {"m": {"stable": "1", "canary": canary}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "aliases.json is invalid at top level: Invalid JSON: EOF"),
        (b'{"m": {"stable": "1"}', "at top level: Invalid JSON"),
        (b"\xff", "at top level: Invalid JSON"),
        ([], "at top level: Input should be an object"),
        ({"m": "1"}, "at m: Input should be an object"),
        ({"m": {}}, "at m.stable: Field required"),
        ({"m": {"stable": 1}}, "at m.stable: Input should be a valid string"),
        ({"m": {"stable": "../2"}}, "at m.stable: String should match"),
        ({"../m": {"stable": "1"}}, "String should match pattern"),
        ({"m": {"stable": "1", "blue": "2"}}, "at m.blue: Unexpected keyword argument"),
        (with_canary(version="2"), "at m.canary.percent: Field required"),
        (with_canary(version="2", percent=101), "at m.canary.percent: Input should be less than or equal to 100"),
        (with_canary(version="2", percent=-1), "at m.canary.percent: Input should be greater than or equal to 0"),
        (with_canary(version="2", percent=float("nan")), "at m.canary.percent: Input should be a finite number"),
        (with_canary(version="2", percent="10"), "at m.canary.percent: Input should be a valid number"),
        (with_canary(version="2", percent=True), "at m.canary.percent: Input should be a valid number"),
        (with_canary(version="2", percent=1, since="now"), "at m.canary.since: Unexpected keyword argument"),
        ({"m": {"stable": "1", "shadow": {"version": "2", "sample": 1.5}}}, "at m.shadow.sample: Input should be less"),
        (with_canary(version="1", percent=10), "at m: stable, canary and shadow must be different versions"),
        (
            {"m": {"stable": "1", "shadow": {"version": "1", "sample": 1}}},
            "at m: stable, canary and shadow must be different versions",
        ),
        ({f"m{n}": {"stable": "1"} for n in range(MAX_MODELS + 1)}, "at top level: Dictionary should have at most 8"),
    ],
    ids=lambda value: None if isinstance(value, str) else "content",
)
def test_what_is_invalid_is_refused_in_one_sentence(content: Any, message: str) -> None:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    with pytest.raises(OperatorError) as caught:
        parse(data)
    assert str(caught.value).startswith("aliases.json is invalid at ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / ALIASES).mkdir()
    with pytest.raises(OperatorError, match=r"aliases.json cannot be read: Is a directory"):
        read(tmp_path)


def test_eight_models_are_allowed() -> None:
    desired = {f"m{n}": Aliases("1") for n in range(MAX_MODELS)}
    assert parse(dump(desired)) == desired
