"""What answers become, also those of a later service that says more."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np

from fake_service import FakeService
from mobilenet_client import Classification, Prediction


def saying(result: dict[str, Any]) -> FakeService:
    document = {
        "model": "m",
        "version": "1",
        "results": [result | {"new": 1}],
        "warnings": ["of the request"],
        "new": 1,
    }
    return FakeService(lambda request, number: httpx.Response(200, json=document))


def test_a_classification() -> None:
    cat = {"index": 284, "label": "Siamese cat", "probability": 0.75, "new": 1}
    service = saying({"predictions": [cat], "warnings": ["of the image"]})
    with service.client() as client:
        found = client.classify(b"7", top_k=1)
    told = ("of the request", "of the image")
    assert found == Classification((Prediction(284, "Siamese cat", 0.75),), told, "m", "1")
    assert str(service.requests[0].url) == "http://service/classify?top_k=1"


def test_a_model_with_a_threshold_says_what_reaches_it() -> None:
    found = [{"index": n, "label": f"{n}", "probability": 0.5, "reached": n == 1} for n in (1, 2)]
    with saying({"predictions": found, "warnings": []}).client() as client:
        assert [p.reached for p in client.classify(b"7").predictions] == [True, False]


def test_an_explanation() -> None:
    cat = {"index": 284, "label": "Siamese cat", "logit": 11.0, "probability": 0.75, "map": [[1, 2], [3, 4]], "new": 1}
    box = {"x": 1.5, "y": 2.0, "width": 30.0, "height": 30.5, "new": 1}
    photo = {"width": 40, "height": 33, "new": 1}
    service = saying({"maps": [cat], "photo": photo, "crop": box, "embedding": [1, 0], "warnings": []})
    with service.client() as client:
        found = client.explain(b"7", classes=[284, 3], embedding=True)
        (plain,) = client.explain_many([b"7"], top_k=2)
        client.explain(b"7")
    (of_cat,) = found.maps
    assert (of_cat.index, of_cat.label, of_cat.logit, of_cat.probability) == (284, "Siamese cat", 11.0, 0.75)
    np.testing.assert_array_equal(of_cat.map, np.array([[1, 2], [3, 4]], np.float32), strict=True)
    assert (found.photo, found.crop, found.warnings) == ((40, 33), (1.5, 2.0, 30.0, 30.5), ("of the request",))
    assert found.embedding is not None
    np.testing.assert_array_equal(found.embedding, np.array([1, 0], np.float32), strict=True)
    assert getattr(plain, "embedding", "not an explanation") is None
    asked = [dict(request.url.params) for request in service.requests]
    assert asked == [{"class": "284,3", "embedding": "true"}, {"top_k": "2"}, {}]
