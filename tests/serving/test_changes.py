"""Versions are loaded, compared, switched and unloaded while others answer."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from service.errors import ArtifactError, OperatorError, UnknownModel
from service.image import Findings, inspect
from service.model.aliases import ALIASES, Aliases, Canary, Shadow, dump
from service.serving import gate
from service.serving.changes import answer
from service.serving.gate import Refused
from service.serving.intake import Served
from service.serving.local import infer_locally
from service.serving.registry import Wish
from service.store.locks import unserved
from tests.artifacts import make_artifact
from tests.running import png
from tests.serving.living import Living, living
from tests.waiting import eventually

pytestmark = pytest.mark.anyio

#: Networks of 32 pixels differ by more noise than cost, and random ones agree on nothing.
ACCEPT = ("slower", "disagreement")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pets/1 to pets/3, which differ, pets/4, which is damaged, and cars/1."""
    store = tmp_path_factory.mktemp("made")
    for seed, version in enumerate("1234"):
        make_artifact(store, name="pets", version=version, seed=seed, crop_size=32)
    weights = store / "pets" / "4" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    make_artifact(store, name="cars", seed=9, crop_size=64, num_classes=4)
    return store


@pytest.fixture
def store(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(gate, "PAUSE_S", 0.0)
    (made / "pets" / ".parity").mkdir(exist_ok=True)
    for marker in range(3):
        (made / "pets" / ".parity" / f"{marker}.png").write_bytes(png(marker))
    shutil.copytree(made, tmp_path / "store")
    return tmp_path / "store"


async def label(served: Served, marker: int = 7) -> list[float]:
    data = png(marker)
    source = served.source(data, inspect(data, served.limits), Findings())
    return [float(value) for value in (await infer_locally(served, source)).logits]


def loaded(running: Living, name: str = "pets") -> list[str]:
    return sorted(running.registry.named(name).versions)


async def promote(running: Living, aliases: Aliases, accept: Sequence[str] = ACCEPT) -> str:
    return (await running.changes.apply({"pets": aliases}, accept)).reason


async def test_the_stable_version_changes_and_goes_back_at_once(store: Path) -> None:
    async with living(store, "pets/1") as running:
        pets = running.registry.named("pets")
        first, was = pets.stable, await label(pets.stable)
        assert await promote(running, Aliases("2")) == "switched"
        assert pets.stable.reference == "pets/2"
        assert await label(pets.stable) != was
        assert loaded(running) == ["1", "2"], "the previous one is kept"
        assert running.changes.status()["models"]["pets"]["previous"] == "1"
        assert await promote(running, Aliases("1")) == "switched"
        assert pets.stable is first, "it was not loaded again"
        assert await label(pets.stable) == was
        assert await promote(running, Aliases("1")) == "unchanged"


async def test_a_version_that_a_request_holds_stays_until_it_ends(store: Path) -> None:
    async with living(store, "pets/1", keep_s=0.0) as running:
        pets = running.registry.named("pets")
        with pets.lease(Wish()) as lease:
            assert await promote(running, Aliases("2")) == "switched"
            assert loaded(running) == ["2"], "no other request gets it"
            await asyncio.sleep(0.05)
            assert lease.served.reference == "pets/1"
            await label(lease.served)
        await eventually(lambda: "pets/1" not in running.versions._held)
        with pytest.raises(UnknownModel):
            await label(lease.served)
        with unserved(store / "pets" / "1"):
            pass
        assert 'version="1"' not in running.metrics.render().decode(), "an unloaded version leaves no series"
        assert await promote(running, Aliases("1")) == "switched", "it can be loaded again"


async def test_what_is_served_cannot_be_changed_on_disk(store: Path) -> None:
    async with living(store, "pets/1") as running:
        await promote(running, Aliases("1", canary=Canary("2", 10)))
        for version in "12":
            with pytest.raises(ArtifactError, match="is being served"), unserved(store / "pets" / version):
                pass
        with unserved(store / "pets" / "3"):
            assert (await running.changes.apply({"pets": Aliases("3")}, ACCEPT)).ok is False


@pytest.mark.parametrize(("version", "reason"), [("4", "corrupt"), ("5", "missing"), ("2", "disagreement")])
async def test_a_refusal_leaves_everything_as_it_was(store: Path, version: str, reason: str) -> None:
    async with living(store, "pets/1") as running:
        was = await label(running.registry.default.stable)
        accept = ACCEPT if reason != "disagreement" else ["slower"]
        verdict = await running.changes.apply({"pets": Aliases("3", canary=Canary(version, 1.0))}, accept)
        assert (verdict.ok, verdict.reason) == (False, reason)
        assert loaded(running) == ["1"]
        assert await label(running.registry.default.stable) == was
        assert running.changes.status()["last"]["sentence"] == verdict.sentence
        await eventually(lambda: running.versions.engine.info_of("pets/3") is None)


async def test_a_fault_of_the_gate_leaves_nothing_behind(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*arguments: object) -> None:
        raise ValueError("a fault")

    async with living(store, "pets/1") as running:
        with monkeypatch.context() as patch:
            patch.setattr(gate, "compare", fails)
            assert await promote(running, Aliases("2")) == "failed"
        assert loaded(running) == ["1"]
        await eventually(lambda: running.versions.engine.info_of("pets/2") is None)
        assert await promote(running, Aliases("2")) == "switched"


async def test_one_change_at_a_time(store: Path) -> None:
    async with living(store, "pets/1") as running:
        first = asyncio.create_task(running.changes.apply({"pets": Aliases("2")}, ACCEPT))
        await asyncio.sleep(0)
        assert (await running.changes.apply({"pets": Aliases("3")}, ACCEPT)).reason == "busy"
        assert (await first).reason == "switched"
        assert loaded(running) == ["1", "2"]


async def test_a_change_that_nobody_waits_for_is_given_up(store: Path) -> None:
    async with living(store, "pets/1") as running:
        asked = asyncio.create_task(running.changes.apply({"pets": Aliases("2")}, ACCEPT))
        await asyncio.sleep(0.01)
        asked.cancel()
        await eventually(lambda: running.changes.status()["last"] is not None)
        assert running.changes.status()["last"]["reason"] == "cancelled"
        assert loaded(running) == ["1"]
        assert await promote(running, Aliases("2")) == "switched"


async def test_without_memory_the_kept_version_goes_first(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with living(store, "pets/1") as running:
        await promote(running, Aliases("2"))

        def one_beside(artifact: object, runners: int) -> None:
            if len(running.versions.engine._models) > 1:
                raise Refused("memory", "there is room for one beside another")

        monkeypatch.setattr(gate, "check_memory", one_beside)
        assert await promote(running, Aliases("3")) == "switched"
        assert loaded(running) == ["2", "3"]
        assert await promote(running, Aliases("1", canary=Canary("2", 1))) == "memory", "nothing more can go"
        assert running.registry.default.stable.version == "3"


async def test_the_file_is_read_again(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with living(store, "pets/1") as running:
        pets = running.registry.default
        running.changes.read_again()  # there is none
        (store / "pets" / ".parity" / "0.png").unlink()
        (store / ALIASES).write_bytes(dump({"pets": Aliases("1", canary=Canary("2", 10))}))
        running.changes.read_again()
        await eventually(lambda: (running.changes.status()["last"] or {}).get("reason") not in (None, "unchanged"))
        assert running.changes.status()["last"]["ok"] is False, "a file accepts no disagreement"
        (store / ALIASES).write_text("{")
        running.changes.read_again()
        assert "the served versions stay as they were" in caplog.text
        assert pets.aliases == Aliases("1")


async def test_models_by_name_have_their_own_versions(store: Path) -> None:
    async with living(store, "pets/1", "cars/1") as running:
        assert [model.name for model in running.registry] == ["pets", "cars"]
        assert len(await label(running.registry.named("cars").stable)) == 4
        assert await promote(running, Aliases("2")) == "switched"
        assert loaded(running, "cars") == ["1"]
        assert await running.registry.ready() == ""
        verdict = await running.changes.apply({"boats": Aliases("1")})
        assert (verdict.ok, verdict.reason) == (True, "unchanged"), "another service's model"


async def test_messages_of_the_socket(store: Path) -> None:
    async with living(store, "pets/1") as running:
        aliases = {"pets": {"stable": "2", "canary": {"version": "3", "percent": 5}}}
        changed = await answer(running.changes, {"do": "change", "aliases": aliases, "accept": list(ACCEPT)})
        assert (changed["ok"], changed["reason"]) == (True, "switched")
        assert changed["sentence"].startswith("pets: stable 2, canary 3 (5 %)")
        status = await answer(running.changes, {"do": "status"})
        assert status["models"]["pets"]["canary"] == {"version": "3", "percent": 5.0, "effective": 5.0, "held": None}
        assert status["pid"] == os.getpid()
        aliases = {"pets": {"stable": "2", "canary": {"version": "3", "percent": 101}}}
        with pytest.raises(OperatorError, match="percent"):
            await answer(running.changes, {"do": "change", "aliases": aliases})
        nonsense: list[dict[str, Any]] = [{}, {"do": "change"}, {"do": "change", "aliases": [1]}, {"do": "stop"}]
        for message in nonsense:
            with pytest.raises(OperatorError, match="understands"):
                await answer(running.changes, message)


async def test_a_shadow_may_disagree_but_not_answer(store: Path) -> None:
    async with living(store, "pets/1") as running:
        slower = ["slower"]
        assert await promote(running, Aliases("1", shadow=Shadow("2", 1.0)), slower) == "switched"
        assert await promote(running, Aliases("1", canary=Canary("2", 1.0)), slower) == "disagreement"
        assert await promote(running, Aliases("2"), slower) == "disagreement"
        assert running.registry.default.aliases.shadow is not None, "all is as it was"
        assert await promote(running, Aliases("2")) == "switched"
