"""Errors have types, and say what the service or a proxy said."""

from __future__ import annotations

import pickle

import httpx
import pytest

from fake_service import FakeService, by_proxy, in_turn, problem
from mobilenet_client import (
    BadImage,
    BadParameter,
    EmbeddingMismatch,
    ServiceError,
    ServiceUnavailable,
    Timeout,
    Unauthorized,
)


def error_of(answer: httpx.Response) -> ServiceError:
    with FakeService(in_turn(answer)).client(retries=0) as client, pytest.raises(ServiceError) as raised:
        client.classify(b"7")
    return raised.value


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, BadImage) for status in (400, 413, 415, 422)),
        *((status, Unauthorized) for status in (401, 403)),
        *((status, ServiceUnavailable) for status in (429, 502, 503)),
        *((status, ServiceError) for status in (307, 404, 405, 431, 500)),
        (412, EmbeddingMismatch),
        (504, Timeout),
    ],
)
def test_a_status_has_its_type(status: int, kind: type[ServiceError]) -> None:
    for error in (error_of(problem(status)), error_of(by_proxy(status))):
        assert type(error) is kind
        assert error.status == status


def test_a_problem_document_is_quoted() -> None:
    error = error_of(problem(415, "Unsupported image format", "this is text"))
    assert (error.title, error.detail, error.request_id) == ("Unsupported image format", "this is text", "r1")
    assert str(error) == "415 Unsupported image format: this is text (request r1)"


def test_a_wrong_parameter_is_no_bad_image() -> None:
    assert type(error_of(problem(422, "Invalid parameter", "top_k: too large"))) is BadParameter


def test_a_mismatch_names_both_weights() -> None:
    error = error_of(problem(412, embedding_id="new", requested="old"))
    assert isinstance(error, EmbeddingMismatch)
    assert (error.embedding_id, error.requested) == ("new", "old")


def test_without_a_problem_document_the_status_counts() -> None:
    error = error_of(by_proxy(413))
    assert (error.title, error.request_id) == ("Request Entity Too Large", None)
    assert "proxy" in error.detail


@pytest.mark.parametrize("content", [b"{", b"[1]", b"7", b"\xff"])
def test_a_garbled_problem_document_is_as_good_as_none(content: bytes) -> None:
    garbled = httpx.Response(415, headers={"Content-Type": "application/problem+json"}, content=content)
    assert type(error_of(garbled)) is BadImage


@pytest.mark.parametrize("content", [b"<html>", b"{}", b"[]", b'{"results":[]}', b'{"results":[{"warnings":[]}]}'])
def test_200_of_something_else_is_an_error(content: bytes) -> None:
    assert error_of(httpx.Response(200, content=content)).title == "Unexpected answer"


def test_errors_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(error_of(problem(412, embedding_id="new", requested="old"))))
    assert (str(error), error.status, error.embedding_id) == ("412 Title: detail (request r1)", 412, "new")
