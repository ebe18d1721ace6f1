"""Answers of ``/classify`` and ``/embed``: shapes, order, several images, formats of the answer."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from service.model.artifact import Artifact
from tests.fakes import EMBEDDING_DIM, marker_of
from tests.running import RunningApp, png, running_app


@pytest.fixture(scope="module", params=[0, 2], ids=["runners decode", "a pool decodes"])
def app(request: pytest.FixtureRequest, artifact: Artifact) -> Iterator[RunningApp]:
    with running_app(artifact, decode_threads=request.param, max_images=4) as running:
        yield running


def files(*contents: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("file", (f"{index}.png", content)) for index, content in enumerate(contents)]


def results(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    body = response.json()
    assert (body["model"], body["version"]) == ("tiny", "1")
    found: list[dict[str, Any]] = body["results"]
    return found


def best(result: dict[str, Any]) -> int:
    index: int = result["predictions"][0]["index"]
    return index


@pytest.mark.parametrize(
    "content_type", [None, "image/png", "image/jpeg", "application/x-www-form-urlencoded", "text/plain", "nonsense"]
)
def test_the_body_is_an_image_whatever_its_type_says(app: RunningApp, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    (result,) = results(app.client.post("/classify", content=png(7), headers=headers))
    assert best(result) == 7
    assert result["warnings"] == []


def test_predictions_carry_index_label_and_probability(app: RunningApp) -> None:
    (result,) = results(app.client.post("/classify", content=png(3)))
    predictions = result["predictions"]
    assert len(predictions) == 5
    assert predictions[0]["label"] == "class 3"
    # The fake's logits are 5 for one class and 0 for nine.
    assert predictions[0]["probability"] == pytest.approx(np.exp(5) / (np.exp(5) + 9), rel=1e-6)
    assert [p["index"] for p in predictions[1:]] == [0, 1, 2, 4], "equal probabilities come in index order"


@pytest.mark.parametrize(("top_k", "count"), [(1, 1), (10, 10)])
def test_top_k(app: RunningApp, top_k: int, count: int) -> None:
    (result,) = results(app.client.post("/classify", params={"top_k": top_k}, content=png(0)))
    assert len(result["predictions"]) == count
    if count == 10:
        assert sum(p["probability"] for p in result["predictions"]) == pytest.approx(1, abs=1e-6)


def test_several_images_are_answered_in_the_order_sent(app: RunningApp) -> None:
    answer = app.client.post("/classify", files=files(png(4), png(2), png(9)))
    assert [best(result) for result in results(answer)] == [4, 2, 9]


def test_a_bad_image_is_reported_beside_the_good_ones(app: RunningApp) -> None:
    good, bad, other = results(app.client.post("/classify", files=files(png(1), png(2)[:150], png(3))))
    assert (best(good), best(other)) == (1, 3)
    assert bad == {"error": {"status": 422, "title": "Unprocessable image", "detail": bad["error"]["detail"]}}


def test_if_all_are_bad_the_first_decides_the_status(app: RunningApp) -> None:
    answer = app.client.post("/classify", files=files(b"hello", b"", png(2)[:150]))
    assert answer.status_code == 415
    assert answer.headers["content-type"] == "application/problem+json"
    assert [result["error"]["status"] for result in answer.json()["results"]] == [415, 422, 422]


def test_an_embedding_has_unit_length_unless_asked_otherwise(app: RunningApp) -> None:
    (unit,) = results(app.client.post("/embed", content=png(200)))
    (raw,) = results(app.client.post("/embed", params={"normalize": "false"}, content=png(200)))
    assert np.linalg.norm(unit["embedding"]) == pytest.approx(1, abs=1e-6)
    assert raw["embedding"][:3] == [200, 0, 1]
    assert len(raw["embedding"]) == EMBEDDING_DIM
    np.testing.assert_allclose(np.array(raw["embedding"]) / np.linalg.norm(raw["embedding"]), unit["embedding"], 1e-6)


@pytest.mark.parametrize("kind", ["application/octet-stream", "application/x-npy"])
def test_embeddings_as_float32(app: RunningApp, kind: str) -> None:
    answer = app.client.post("/embed?normalize=0", files=files(png(5), png(6)), headers={"Accept": kind})
    assert answer.headers["content-type"] == kind
    if kind.endswith("npy"):
        matrix = np.load(io.BytesIO(answer.content), allow_pickle=False)
    else:
        matrix = np.frombuffer(answer.content, "<f4").reshape(2, -1)
    assert (matrix.shape, matrix.dtype) == ((2, EMBEDDING_DIM), np.float32)
    assert [marker_of(row) for row in matrix] == [5, 6]


def test_a_matrix_cannot_hold_an_error_so_a_bad_image_fails_the_request(app: RunningApp) -> None:
    answer = app.client.post("/embed", files=files(png(5), b"hello"), headers={"Accept": "application/x-npy"})
    assert answer.status_code == 415
    assert answer.headers["content-type"] == "application/problem+json"


def test_json_and_binary_embeddings_are_the_same_numbers(app: RunningApp) -> None:
    (as_json,) = results(app.client.post("/embed", content=png(300)))
    raw = app.client.post("/embed", content=png(300), headers={"Accept": "application/octet-stream"}).content
    assert np.array_equal(np.array(as_json["embedding"], np.float32), np.frombuffer(raw, "<f4"))


def test_server_timing_names_every_stage_in_order(app: RunningApp) -> None:
    header = app.client.post("/classify", content=png(0)).headers["server-timing"]
    assert [entry.split(";dur=")[0] for entry in header.split(", ")] == ["read", "decode", "queue", "infer", "encode"]
    assert all(float(entry.split(";dur=")[1]) >= 0 for entry in header.split(", "))
