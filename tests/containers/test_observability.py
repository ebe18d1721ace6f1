"""A real Prometheus beside the stack: it finds every replica, answers every query that is shipped, and raises alarm."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from service.metrics import Metrics
from tests.containers.conftest import stack_of
from tests.containers.docker import Stack, address, docker, free_port
from tests.containers.traffic import Traffic
from tests.deploy.promql import expressions
from tests.waiting import until

_HERE = "tests/containers"


@pytest.fixture(scope="module")
def prometheus_image(engine: None, tag: str) -> Iterator[str]:
    name = f"{tag}-prometheus"
    docker("build", "--quiet", "--tag", name, "-f", f"{_HERE}/prometheus.Dockerfile", _HERE, timeout=300)
    yield name
    docker("image", "rm", "--force", name)


@pytest.fixture(scope="module")
def watched(image: str, tag: str, prometheus_image: str, bodies: list[bytes]) -> Iterator[Stack]:
    """Three replicas that have had traffic, good and bad, and a Prometheus that has seen it."""
    environment = {"PROMETHEUS_IMAGE": prometheus_image, "PROMETHEUS_PORT": str(free_port())}
    with stack_of(3, f"{tag}-watched", image, **environment) as stack:
        stack.compose("up", "--detach", "prometheus")
        until(lambda: ups(stack) == [1.0, 1.0, 1.0], timeout=60, what="three replicas are up")
        with Traffic(stack.url, bodies, clients=4) as traffic:
            for _ in range(30):
                httpx.post(f"{stack.url}/classify", content=b"no image", timeout=10)
            traffic.wait_for(200)
            # Rates need two scrapes with a difference between them.
            until(lambda: bool(query(stack, "sum(rate(mobilenet_requests_total[1m])) > 1")), timeout=60, what="a rate")
            until(lambda: bool(query(stack, "rate(mobilenet_rejected_total[1m])")), timeout=60, what="rates of all")
        yield stack


def query(stack: Stack, expression: str) -> list[dict[str, Any]]:
    answer = _api(stack, "query", query=expression)
    result = answer["result"]
    assert isinstance(result, list)
    return [{"value": result[1]}] if answer["resultType"] == "scalar" else result


def ups(stack: Stack) -> list[float]:
    return [float(series["value"][1]) for series in query(stack, 'up{job="mobilenet"}')]


def _api(stack: Stack, path: str, **parameters: str) -> dict[str, Any]:
    url = f"http://127.0.0.1:{stack.environment['PROMETHEUS_PORT']}/api/v1/{path}"
    try:
        answer = httpx.get(url, params=parameters, timeout=10)
    except httpx.TransportError:
        answer = None
    if answer is None or answer.status_code == 503:  # it starts
        return {"resultType": "vector", "result": []}
    said = answer.json()
    assert said["status"] == "success", (parameters, said)
    data = said["data"]
    assert isinstance(data, dict)
    return data


#: Begins the names of metrics that replicas of one process and one version have no samples of.
_ELSEWHERE = re.compile("mobilenet_(process|canary|rollbacks|shadow)")


def metrics_in(expression: str) -> set[str]:
    """Names of metrics, not of labels and functions: those of ours and of the balancer's."""
    return set(re.findall(r"\b(?:mobilenet|haproxy|process)_[a-z0-9_]+\b", expression))


def test_every_replica_is_found_and_up(watched: Stack) -> None:
    targets = _api(watched, "targets")["activeTargets"]
    scraped = {target["labels"]["instance"] for target in targets if target["labels"]["job"] == "mobilenet"}
    assert scraped == {f"{address(replica)}:8000" for replica in watched.replicas()}
    assert {target["health"] for target in targets} == {"up"}


@pytest.mark.parametrize(("name", "expression"), expressions(), ids=lambda value: value.split("\n")[0][:60])
def test_every_shipped_query_has_data_or_nothing_to_report(watched: Stack, name: str, expression: str) -> None:
    """No data is an answer only where every metric that is asked for has some: an alert that does not fire, say."""
    if query(watched, expression):
        return
    names = metrics_in(expression)
    expected = {metric for metric in names if not _ELSEWHERE.match(metric)}
    silent = {metric for metric in expected if not query(watched, f"count({metric})")}
    assert name.startswith("alert") or not expected, f"{name} shows nothing"
    assert not silent, f"{name} asks for what is not there: {silent}"


def test_metrics_are_there_as_the_service_declares_them(watched: Stack) -> None:
    missing = [
        family.name
        for family in Metrics().registry.collect()
        if family.name.startswith("mobilenet_")
        and not query(watched, f'count({{__name__=~"{family.name}(_total|_count)?"}})')
        and family.name != "mobilenet_cancelled"
        and not _ELSEWHERE.match(family.name)
    ]
    assert missing == []


def test_an_alert_fires_when_a_replica_dies(watched: Stack, report: Callable[[str], None]) -> None:
    assert firing(watched) == set()
    # Three count as usual once they have been there for half a minute.
    usual = 'max_over_time(min_over_time(sum(up{job="mobilenet"})[30s:5s])[10m:5s]) == 3'
    until(lambda: bool(query(watched, usual)), timeout=60, what="three replicas are what is usual")
    docker("stop", watched.replicas()[0])
    until(lambda: "MobilenetReplicaLost" in firing(watched), timeout=150, what="the alert fires")
    report(f"a replica stopped: {', '.join(sorted(firing(watched)))} fired")


def firing(stack: Stack) -> set[str]:
    alerts = _api(stack, "alerts")["alerts"]
    return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}
