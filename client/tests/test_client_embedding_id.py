"""A run never mixes vectors of two weights."""

from __future__ import annotations

import httpx
import numpy as np
import pytest

from fake_service import Answer, FakeService, answer, numbered, problem
from mobilenet_client import EmbeddingMismatch


def naming(*names: str | None) -> FakeService:
    """The weights behind each request; the last one's stay. It refuses ids that are not its own."""

    def says(request: httpx.Request, number: int) -> Answer:
        current = names[min(number, len(names) - 1)]
        requested = request.headers.get("Embedding-Id")
        if current is not None and requested not in (None, current):
            return problem(412, embedding_id=current, requested=requested)
        return answer(request, current)

    return FakeService(says)


def sent(service: FakeService) -> list[str | None]:
    return [request.headers.get("Embedding-Id") for request in service.requests]


def test_a_run_keeps_to_the_weights_of_its_first_answer() -> None:
    service = naming("a")
    with service.client(concurrency=1) as client:
        result = client.embed_many(numbered(3))
        assert sent(service) == [None, "a", "a"]
        assert result.embedding_id == "a"
        assert client.embed(b"7").embedding_id == "a"
    assert sent(service)[3] is None


def test_the_weights_that_are_given_are_asked_for_from_the_first_request_on() -> None:
    service = naming("a")
    with service.client(embedding_id="a") as client:
        assert client.embed(b"7").embedding_id == "a"
        assert client.embed_many(numbered(3)).embedding_id == "a"
    assert sent(service) == ["a"] * 4


def test_other_weights_are_never_asked_again() -> None:
    service = naming("b")
    with service.client(embedding_id="a") as client, pytest.raises(EmbeddingMismatch) as raised:
        client.embed(b"7")
    assert (raised.value.embedding_id, raised.value.requested) == ("b", "a")
    assert len(service.requests) == 1


@pytest.mark.parametrize("names", [("a", "b"), ("a", None), (None, "b")], ids=["other", "none", "one at last"])
@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_change_of_weights_ends_the_run(names: tuple[str | None, ...], concurrency: int) -> None:
    service = naming(*names)  # with eight at once, seven are asked before the first answer is there
    with service.client(concurrency=concurrency) as client, pytest.raises(EmbeddingMismatch) as raised:
        client.embed_many(numbered(1000))
    assert {raised.value.embedding_id, raised.value.requested} == set(names)
    assert len(service.requests) <= 1 + 2 * concurrency


def test_a_service_that_names_no_weights_will_do_if_none_were_asked_for() -> None:
    service = naming(None)
    with service.client() as client, service.client(embedding_id="a") as particular:
        assert client.embed_many(numbered(3)).embedding_id is None
        assert client.embed(b"7").embedding_id is None
        with pytest.raises(EmbeddingMismatch, match="unnamed weights, not by a"):
            particular.embed(b"7")


def test_only_vectors_are_by_certain_weights() -> None:
    service = naming("b")
    with service.client(embedding_id="a") as client:
        assert client.classify(b"7").predictions[0].index == 7
    assert sent(service) == [None]


def test_vectors_are_asked_for_in_binary_and_normalised_by_choice() -> None:
    service = naming("a")
    with service.client() as client:
        vector = client.embed(b"7").vector
        client.embed(b"7", normalize=False)
    assert vector.dtype == np.float32
    np.testing.assert_array_equal(vector, [7, 7])
    assert [request.url.params["normalize"] for request in service.requests] == ["true", "false"]
    assert {request.headers["Accept"] for request in service.requests} == {"application/octet-stream"}
