"""``/explain``: the maps of classes as JSON. The fake's map of a class is its index."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from service.model.artifact import Artifact
from tests.fakes import FakeRuntime, Gate
from tests.running import RunningApp, detail, png, running_app


def explained(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["results"]
    return found


def test_the_strongest_classes_with_their_maps(app: RunningApp) -> None:
    (result,) = explained(app.client.post("/explain", content=png(3)))
    (classified,) = explained(app.client.post("/classify", content=png(3)))
    assert result.keys() == {"maps", "photo", "crop", "warnings"}
    assert [m["index"] for m in result["maps"]] == [3, 0, 1, 2, 4]
    assert [m["map"] for m in result["maps"]] == [[[3.0]], [[0.0]], [[1.0]], [[2.0]], [[4.0]]]
    assert [m["logit"] for m in result["maps"]] == [5, 0, 0, 0, 0]
    assert [{k: m[k] for k in ("index", "label", "probability")} for m in result["maps"]] == classified["predictions"]
    assert result["photo"] == {"width": 224, "height": 224}
    assert result["crop"] == {"x": 14, "y": 14, "width": 196, "height": 196}


def test_top_k_and_class(app: RunningApp) -> None:
    (result,) = explained(app.client.post("/explain?top_k=2", content=png(3)))
    assert [m["index"] for m in result["maps"]] == [3, 0]
    for asked, expected in (("9", [9]), ("7,3,0", [7, 3, 0]), ("4,5,6,7,8", [4, 5, 6, 7, 8])):
        (result,) = explained(app.client.post("/explain", params={"class": asked}, content=png(3)))
        assert [m["index"] for m in result["maps"]] == expected
        assert [m["map"][0][0] for m in result["maps"]] == expected
        assert [m["label"] for m in result["maps"]] == [f"class {index}" for index in expected]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("class=10", "class: must be 1 to 5 class indices, separated by commas, from 0 to 9"),
        ("class=", "class: must be 1 to 5 class"),
        ("class=-1", "class: must be 1 to 5 class"),
        ("class=1,,2", "class: must be 1 to 5 class"),
        ("class=1,2,3,4,5,6", "class: must be 1 to 5 class"),
        ("class=cat", "class: must be 1 to 5 class"),
        ("class=3,3", "class: a class is repeated"),
        ("class=3&top_k=1", "class, top_k: only one of the two may be given"),
        ("top_k=6", "top_k: must be a whole number from 1 to 5"),
        ("embedding=maybe", "embedding: must be true or false"),
        ("opacity=2", "opacity: must be a number from 0 to 1"),
    ],
)
def test_parameters_out_of_range_cost_no_inference(app: RunningApp, query: str, message: str) -> None:
    app.runtime.batches.clear()
    assert detail(app.client.post(f"/explain?{query}", content=png(1)), 422).startswith(message)
    assert app.runtime.batches == []


def test_the_embedding_comes_with_it_if_wanted(app: RunningApp) -> None:
    (result,) = explained(app.client.post("/explain?embedding=true", content=png(200)))
    (embedded,) = explained(app.client.post("/embed", content=png(200)))
    assert result["embedding"] == embedded["embedding"]


def test_several_images_and_a_bad_one(app: RunningApp) -> None:
    files = [("file", ("a.png", png(4))), ("file", ("b.txt", b"hello")), ("file", ("c.png", png(9)))]
    first, bad, last = explained(app.client.post("/explain?top_k=1", files=files))
    assert (first["maps"][0]["index"], last["maps"][0]["index"]) == (4, 9)
    assert bad["error"]["status"] == 415
    answer = app.client.post("/explain", files=files, headers={"Accept": "image/png"})
    assert detail(answer, 400) == "more than 1 image in one request"


def test_it_shares_a_batch_with_the_others(artifact: Artifact, threads: ThreadPoolExecutor, gate: Gate) -> None:
    with running_app(artifact, FakeRuntime(before=gate)) as app:
        first = threads.submit(app.client.post, "/classify", content=png(0))
        assert gate.entered.wait(30)
        paths = ("/classify", "/embed", "/explain?class=8")
        others = [threads.submit(app.client.post, path, content=png(5)) for path in paths]
        app.wait_for_metric('mobilenet_queue_depth{model="tiny",version="1"}', 3)
        gate.open()
        assert first.result().status_code == 200
        assert [other.result().status_code for other in others] == [200] * 3
        assert app.runtime.batches == [1, 3]
        assert explained(others[2].result())[0]["maps"][0]["map"] == [[8.0]]
