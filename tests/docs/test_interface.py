"""Metrics, statuses, reasons, exit statuses and routes stand in the documents as they are in the code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.metrics import MetricWrapperBase

from service.engine.client import ENGINE_EXITS
from service.http.endpoints import OF_ONE_MODEL
from service.metrics import Metrics
from tests.artifacts import make_artifact
from tests.documents import errors, read, rows, spans
from tests.running import running_app


def metrics() -> dict[str, tuple[str, list[str]]]:
    """Type and labels of each metric, by the name under which it is scraped."""
    return {
        metric._name + ("_total" if metric._type == "counter" else ""): (str(metric._type), list(metric._labelnames))
        for metric in vars(Metrics()).values()
        if isinstance(metric, MetricWrapperBase)
    }


def metric_complaints(text: str) -> Iterator[str]:
    table = {names[0]: row for row in rows(text) if (names := spans(row[0])) and names[0].startswith("mobilenet_")}
    yield from (f"{name} is no metric" for name in table if name not in metrics())
    for name, (kind, labels) in metrics().items():
        if name not in table:
            yield f"{name} has no row"
        elif (table[name][1], spans(table[name][2])) != (kind, labels):
            yield f"{name} is a {kind} with labels {labels}"
    for name in re.findall(r"\bmobilenet_(?!v2)\w+", text):
        if re.sub(r"_(bucket|sum|count)$", "", name) not in metrics():
            yield f"{name} is no metric"


def test_every_metric_is_described_as_it_is() -> None:
    assert len(metrics()) > 10
    assert list(metric_complaints(read("docs/operations.md"))) == []


# Errors and statuses


def test_every_status_and_title_is_in_the_api_document() -> None:
    documented = {(row[0], row[1]) for row in rows(read("docs/api.md")) if re.fullmatch(r"\d{3}", row[0])}
    of_http = {("404", "Not Found"), ("405", "Method Not Allowed")}
    assert documented == {(str(error.status), error.title) for error in errors()} | of_http


def test_every_reason_is_in_the_operations_document() -> None:
    table = rows(read("docs/operations.md"))
    cells = [cell for row in table if len(row) == 5 for cell in (row[:2], row[3:])]
    documented = {(spans(name)[0], status) for name, status in cells if re.fullmatch(r"\d{3}", status)}
    assert documented == {(error.reason, str(error.status)) for error in errors()}


def test_every_exit_status_is_in_the_operations_document() -> None:
    section = read("docs/operations.md").partition("## Exit statuses")[2].partition("\n## ")[0]
    statuses = [row[0] for row in rows(section)[1:]]
    engine = [str(status) for status in ENGINE_EXITS.values()]
    assert statuses == ["0", "1", "2", *engine, "128 + signal number"]


# Routes


@pytest.fixture(scope="module")
def openapi(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    with running_app(make_artifact(tmp_path_factory.mktemp("store"))) as app:
        document: dict[str, Any] = app.client.get("/openapi.json").json()
    return document


def test_every_route_parameter_and_status_is_in_the_api_document(openapi: dict[str, Any]) -> None:
    table = rows(read("docs/api.md"))
    routes = {name for row in table for name in spans(row[0]) if re.match(r"(GET|POST) /", name)}
    named = [row for row in table if len(row) == 4 and spans(row[1])]
    parameters = {(path, spans(row[1])[0]) for row in named for path in spans(row[0])}
    statuses = {row[0] for row in table}
    declared = {f"{method.upper()} {path}" for path, operations in openapi["paths"].items() for method in operations}
    of_pages = {"GET /", "GET /page/…", "GET /docs", "GET /openapi.json", "GET /docs/assets/…"}
    assert routes == declared | of_pages
    for path, operations in openapi["paths"].items():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "query":
                    assert (path.removeprefix(OF_ONE_MODEL), parameter["name"]) in parameters
            assert set(operation["responses"]) - {"200"} <= statuses
