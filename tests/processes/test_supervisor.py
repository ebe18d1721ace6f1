"""Changes of the version that are decided before any process is started: the verdict, and nothing has changed."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.config import Settings
from service.errors import ArtifactError
from service.model.artifact import WEIGHTS
from service.processes.supervisor import Supervisor
from tests.artifacts import make_artifact

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """A supervisor's loop is asyncio's own."""
    return "asyncio"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Version 2 is corrupt, of version 3 there are no weights yet."""
    made = make_artifact(tmp_path / "store", width_mult=0.1).directory
    for version in ("2", "3"):
        copied = shutil.copytree(made, made.with_name(version))
        manifest = copied / "model.json"
        manifest.write_text(manifest.read_text().replace('"version": "1"', f'"version": "{version}"'))
    (made.with_name("2") / WEIGHTS).write_bytes(b"none")
    (made.with_name("3") / WEIGHTS).unlink()
    return tmp_path / "store"


def supervised(store: Path, directory: Path, listener: socket.socket, **changes: Any) -> Supervisor:
    settings = Settings(model_store=store, model="tiny", workers=1, devices=("cpu",), **changes)
    return Supervisor(settings, directory, listener, lambda processes: None)


@pytest.fixture
def supervisor(store: Path, tmp_path: Path) -> Iterator[Supervisor]:
    """It serves version 1, or would if it ran."""
    (tmp_path / "own").mkdir()
    with socket.socket() as listener:
        yield supervised(store, tmp_path / "own", listener)
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["versions-0"], "what was copied is gone again"


CORRUPT = f"{WEIGHTS} is corrupt (its sha256 is not the manifest's)"
ADD = "add the checkpoint again with: mobilenet-service models add"
ONLY_STABLE = "with workers, only the stable version of tiny can be changed"


@pytest.mark.parametrize(
    ("desired", "reason", "sentence"),
    [
        ({"tiny": {"stable": "1"}}, "unchanged", "tiny/1 is served already"),
        (
            {"tiny": {"stable": "2"}},
            "corrupt",
            f"tiny/2: {CORRUPT}; {ADD}",
        ),
        ({"tiny": {"stable": "3"}}, "missing", f"tiny/3: {WEIGHTS} is missing; {ADD}"),
        ({"tiny": {"stable": "4"}}, "missing", "no model tiny/4 in {store}; see: mobilenet-service models list"),
        ({"tiny": {"stable": "1", "canary": {"version": "2", "percent": 1}}}, "failed", ONLY_STABLE),
        ({"tiny": {"stable": "1"}, "other": {"stable": "1"}}, "failed", ONLY_STABLE),
        ({}, "failed", ONLY_STABLE),
    ],
    ids=["same", "corrupt", "not pulled", "unknown", "canary", "another model", "nothing"],
)
async def test_the_verdict_is_a_word_and_a_sentence(
    supervisor: Supervisor, store: Path, desired: dict[str, Any], reason: str, sentence: str
) -> None:
    for _ in range(2):
        verdict = await supervisor.change(desired)
        assert verdict.pop("figures").keys() == {"agreement", "cosine", "cost_ratio", "seconds"}
        assert verdict == {"ok": reason == "unchanged", "reason": reason, "sentence": sentence.format(store=store)}


async def test_of_two_changes_at_once_the_second_is_refused(supervisor: Supervisor) -> None:
    desired = {"tiny": {"stable": "1"}}
    first, second = await asyncio.gather(supervisor.change(desired), supervisor.change(desired))
    assert (first["reason"], second["reason"]) == ("unchanged", "busy")
    assert second["sentence"] == "another change is under way; wait for its end"


async def test_who_no_longer_waits_for_a_verdict_does_not_end_the_change(supervisor: Supervisor) -> None:
    """Nor is another one refused for ever."""
    waiting = asyncio.ensure_future(supervisor.change({"tiny": {"stable": "1"}}))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert supervisor._change is not None
    assert (await supervisor._change).ok
    assert (await supervisor.change({"tiny": {"stable": "1"}}))["reason"] == "unchanged"


def test_a_version_that_cannot_be_read_is_refused_at_the_start(store: Path, tmp_path: Path) -> None:
    with socket.socket() as listener, pytest.raises(ArtifactError, match=f"^tiny/2: {WEIGHTS} is corrupt"):
        supervised(store, tmp_path, listener, version="2")
