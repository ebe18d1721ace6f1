"""Which model made a vector: told with every vector; another than the one wanted is refused before the body is read."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from service.http.server.connection import HEAD_TIMEOUT_S
from service.model.artifact import Artifact
from tests.artifacts import make_artifact
from tests.hostile.http.wire import post, wire
from tests.running import RunningApp, png, problem, running_app

FORMS = ("application/json", "application/octet-stream", "application/x-npy")


def ask(app: RunningApp, *ids: str, path: str = "/embed", accept: str = FORMS[1]) -> int:
    headers = [(b"Accept", accept.encode()), *((b"Embedding-Id", one.encode("latin-1")) for one in ids)]
    return app.client.post(path, content=png(1), headers=headers).status_code


def own(app: RunningApp, path: str = "/embed") -> str:
    return app.client.post(path, content=png(1)).headers["embedding-id"]


@pytest.mark.parametrize("accept", FORMS)
def test_every_form_of_an_answer_says_it(app: RunningApp, accept: str) -> None:
    unit = app.client.post("/embed", content=png(1), headers={"Accept": accept})
    raw = app.client.post("/embed?normalize=false", content=png(1), headers={"Accept": accept})
    for answer, normalised in ((unit, "n1"), (raw, "n0")):
        assert re.fullmatch(rf"tiny/1;fp32;exact;{normalised};[0-9a-f]{{16}}", answer.headers["embedding-id"])
        if accept == FORMS[0]:
            assert answer.json()["embedding_id"] == answer.headers["embedding-id"]
    (card,) = app.client.get("/models").json()["models"]
    assert card["embedding_id"] == unit.headers["embedding-id"]


def test_an_explanation_says_it_if_it_has_vectors(app: RunningApp) -> None:
    answer = app.client.post("/explain?embedding=true", content=png(1))
    assert answer.json()["embedding_id"] == answer.headers["embedding-id"] == own(app)
    assert "embedding-id" not in app.client.post("/explain", content=png(1)).headers
    assert ask(app, "other", path="/explain?embedding=true") == 412
    assert ask(app, "other", path="/explain") == 200
    assert ask(app, "other", path="/classify") == 200


def test_another_id_is_refused_before_the_body_is_read(app: RunningApp) -> None:
    other = own(app, "/embed?normalize=false")
    before = len(app.runtime.batches)
    with wire(app.address) as connection:
        connection.send(post(b"", f"Embedding-Id: {other}", path="/embed").replace(b"th: 0", b"th: 5000"))
        refused = connection.answer()
    assert refused is not None
    assert refused.status == 412
    assert len(app.runtime.batches) == before
    assert HEAD_TIMEOUT_S > 1
    told = problem(app.client.post("/embed", content=png(1), headers={"Embedding-Id": other}), 412)
    assert (told["embedding_id"], told["requested"]) == (own(app), other)
    for name in (other, own(app)):
        assert name in str(told["detail"])


def test_a_form_may_ask_for_other_vectors_than_its_query(app: RunningApp) -> None:
    """The parameter stands in the form, so it is known only when the form has been read."""
    form: dict[str, tuple[str | None, bytes]] = {"file": ("a.png", png(1)), "normalize": (None, b"false")}
    raw, unit = own(app, "/embed?normalize=false"), own(app)
    assert app.client.post("/embed", files=form, headers={"Embedding-Id": unit}).status_code == 412
    answer = app.client.post("/embed", files=form)
    assert answer.headers["embedding-id"] == raw


@pytest.mark.parametrize("mutations", [100, pytest.param(10_000, marks=pytest.mark.torture)])
def test_no_vector_of_another_id_gets_out(app: RunningApp, mutations: int) -> None:
    """Right, wrong and malformed ids; a wrong one beside a right one is wrong."""
    right, chance = own(app), random.Random(7)
    malformed = ["", ";", "*", "null", "ü", right.upper(), right[:-1], f"{right} x", f"{right},{right}"]
    for _ in range(mutations):
        place = chance.randrange(len(right))
        changed = right[:place] + chance.choice("0123456789abcdef;/_-n") + right[place + 1 :]
        if changed != right:
            malformed.append(changed)
    for wrong in malformed:
        assert ask(app, wrong) == 412, wrong
        if mutations == 100:
            assert ask(app, right, wrong) == 412, wrong
    assert ask(app, right) == ask(app, right, right) == 200


def test_the_id_changes_with_everything_that_makes_a_vector(
    artifact: Artifact, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ids = {artifact.embedding_id("fp32", "openvino", "exact", unit_length=True)}
    assert ids == {artifact.embedding_id("fp32", "torch", "exact", unit_length=True)}, "the same to the last digits"
    ids |= {
        artifact.embedding_id("fp32", "openvino", "fast", unit_length=True),
        artifact.embedding_id("fp32", "openvino", "exact", unit_length=False),
        artifact.embedding_id("bf16", "openvino", "exact", unit_length=True),
        artifact.embedding_id("bf16", "torch", "exact", unit_length=True),
        artifact.embedding_id("int8", "openvino", "exact", unit_length=True),
    }
    changed: tuple[dict[str, Any], ...] = ({"seed": 99}, {"resize_size": 300})
    for changes in changed:
        other = make_artifact(tmp_path_factory.mktemp("store"), name="tiny", num_classes=10, **changes)
        ids.add(other.embedding_id("fp32", "openvino", "exact", unit_length=True))
    assert len(ids) == 8


def test_before_the_model_is_loaded(artifact: Artifact) -> None:
    with running_app(artifact, load=False, precision="bf16") as app:
        assert app.client.get("/models").json()["models"][0]["embedding_id"] is None
        assert ask(app, "any") == 503
    with running_app(artifact, load=False) as app:
        assert ask(app, "any") == 412
