"""Models whose classes are not exclusive: a sigmoid's probabilities, and what reaches the threshold."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from service.model.artifact import Artifact
from service.model.outputs import Head
from tests.running import RunningApp, png, running_app


@contextmanager
def serving(artifact: Artifact, head: Head) -> Iterator[RunningApp]:
    manifest = artifact.manifest.model_copy(update={"head": head})
    with running_app(replace(artifact, manifest=manifest)) as app:
        yield app


@pytest.fixture
def logits() -> Callable[[RunningApp], list[float]]:
    """By class: ``/explain`` tells them, and their probabilities are those of ``/classify``."""

    def ask(app: RunningApp) -> list[float]:
        maps = []
        for classes in ("0,1,2,3,4", "5,6,7,8,9"):
            answer = app.client.post("/explain", params={"class": classes}, content=png(7))
            maps += answer.json()["results"][0]["maps"]
        assert all("reached" not in each for each in maps)
        assert [each["probability"] for each in maps] == pytest.approx(
            [1 / (1 + math.exp(-each["logit"])) for each in maps], rel=1e-6
        )
        return [each["logit"] for each in maps]

    return ask


def test_each_class_has_its_own_probability(artifact: Artifact, logits: Callable[[RunningApp], list[float]]) -> None:
    with serving(artifact, Head("sigmoid")) as app:
        by_class = logits(app)
        (result,) = app.client.post("/classify", params={"top_k": 10}, content=png(7)).json()["results"]
        assert app.client.get("/models").json()["models"][0]["head"] == {"activation": "sigmoid", "threshold": None}
    assert len(result["predictions"]) == 10
    for p in result["predictions"]:
        assert set(p) == {"index", "label", "probability"}
        assert p["probability"] == pytest.approx(1 / (1 + math.exp(-by_class[p["index"]])), rel=1e-6)


def test_each_class_says_whether_it_reaches_the_threshold(artifact: Artifact) -> None:
    with serving(artifact, Head("sigmoid", 0.6)) as app:
        (result,) = app.client.post("/classify", params={"top_k": 10}, content=png(7)).json()["results"]
    assert {p["reached"] for p in result["predictions"]} == {True, False}
    assert all(p["reached"] is (p["probability"] >= 0.6) for p in result["predictions"])


def test_a_softmax_says_nothing_of_thresholds(artifact: Artifact) -> None:
    with serving(artifact, Head()) as app:
        (result,) = app.client.post("/classify", content=png(7)).json()["results"]
    assert all(set(p) == {"index", "label", "probability"} for p in result["predictions"])
