"""Which served version a request gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from service.config import Settings
from service.errors import InvalidParameter, UnknownModel
from service.metrics import Metrics
from service.model.aliases import Aliases, Canary, Shadow
from service.serving.build import create_served
from service.serving.registry import Registry, ServedModel, Wish
from tests.artifacts import make_artifact
from tests.fakes import FakeRuntime, engine_of

Wanted = Callable[..., str]


@pytest.fixture
def model(tmp_path: Path) -> ServedModel:
    """pets: stable 1, canary 2, shadow 3; 0 was stable before."""
    artifact, metrics = make_artifact(tmp_path, name="pets", crop_size=32), Metrics()
    engine = engine_of(FakeRuntime())
    made = [replace(artifact, manifest=artifact.manifest.model_copy(update={"version": version})) for version in "0123"]
    served = [create_served(Settings(), each, engine, 1000, metrics) for each in made]
    model = Registry([served[0]], metrics).default
    model.versions |= {each.version: each for each in served}
    model.switch(Aliases("1", canary=Canary("2", 10), shadow=Shadow("3", 1.0)))
    return model


@pytest.fixture
def version(model: ServedModel) -> Wanted:
    return lambda **wish: model.lease(Wish(**wish)).served.version


def test_what_is_asked_for_exactly_is_given(version: Wanted) -> None:
    assert [version(version=number) for number in "0123"] == ["0", "1", "2", "3"]
    assert [version(alias=alias) for alias in ("stable", "canary", "shadow")] == ["1", "2", "3"]


def test_what_is_not_there_is_refused_with_what_is(version: Wanted) -> None:
    with pytest.raises(UnknownModel, match=r"the versions here are 0, 1, 2, 3, and the aliases stable, canary, shadow"):
        version(version="9")
    with pytest.raises(UnknownModel):
        version(alias="latest")
    with pytest.raises(InvalidParameter, match="only one of the two"):
        version(version="1", alias="canary")


def test_vectors_come_from_the_stable_version_or_from_the_one_that_is_named(
    model: ServedModel, version: Wanted
) -> None:
    assert {version(splits=False, key=b"%d" % number) for number in range(100)} == {"1"}
    for number in "0123":
        for unit_length in (True, False):
            made_by = model.versions[number].embedding_id(unit_length=unit_length)
            assert version(splits=False, embedding_ids=[made_by]) == number
    assert version(splits=False, embedding_ids=["of something else"]) == "1", "which refuses it"


def test_a_key_always_gets_the_same_version(version: Wanted) -> None:
    split = [version(key=b"%d" % number) for number in range(1000)]
    assert split == [version(key=b"%d" % number) for number in range(1000)]
    assert set(split) == {"1", "2"}
    assert split.count("2") == pytest.approx(100, abs=40)


def test_without_a_key_the_body_decides(model: ServedModel) -> None:
    answers = []
    for number in range(1000):
        with model.lease(Wish()) as lease:
            assert model.versions["1"].leases == model.versions["2"].leases == [lease], "either may be needed"
            if lease.split is not None:
                lease.decide(b"%d" % number)
            answers.append(lease.served.version)
    assert answers.count("2") == pytest.approx(100, abs=40)
    assert not any(served.leases for served in model.versions.values())


def test_a_held_canary_gets_nothing_more(model: ServedModel, version: Wanted) -> None:
    assert model.split is not None
    lease = model.lease(Wish())
    model.split.health.held = "it fails"
    assert lease.split is not None
    assert not any(lease.decide(b"%d" % number) for number in range(100)), "also where the body was on its way"
    assert {version(key=b"%d" % number) for number in range(100)} == {"1"}
    assert version(alias="canary") == "2", "who asks for it gets it"
    model.switch(Aliases("1", canary=Canary("2", 20)))
    assert "2" in {version(key=b"%d" % number) for number in range(100)}, "the operator has decided"


def test_previous_is_what_was_stable_before(model: ServedModel) -> None:
    assert model.previous == "0"
    model.switch(Aliases("1"))
    assert model.previous == "0"
    model.switch(Aliases("2"))
    assert model.previous == "1"
