"""The dashboard's and the alerts' PromQL, held against the metrics, labels and values that exist.

Expressions come from ``deploy/observability`` and are parsed by ``promql_parser``. What exists comes from the service's
``Metrics``, from HAProxy's exporter and from Prometheus itself.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import promql_parser
import yaml
from prometheus_client.metrics import MetricWrapperBase
from promql_parser import AggModifierType, AggregateExpr, BinaryExpr, Expr, MatchOp, VectorSelector

from service.config import Settings
from service.http.app import create_app
from service.metrics import STAGES, Metrics
from service.model.artifact import load
from service.serving.build import create_intake, create_served
from service.serving.lifecycle import Lifecycle
from service.serving.registry import Registry
from tests.documents import ROOT, errors
from tests.fakes import FakeRuntime, engine_of

OBSERVABILITY = ROOT / "deploy/observability"
PROMETHEUS = OBSERVABILITY / "prometheus"

#: What stands in for Grafana's macros and variables. Its rate interval is at least four scrape intervals.
_SUBSTITUTES = {"$__rate_interval": "20s", "$instance": ".*", "$stage": "infer"}

#: Metrics and labels of HAProxy's exporter (addons/promex in its source, 2.6 to 3.2).
_HAPROXY = {
    "haproxy_frontend_http_requests_total": {"proxy"},
    "haproxy_frontend_http_responses_total": {"proxy", "code"},
    "haproxy_backend_active_servers": {"proxy"},
    "haproxy_backend_connection_errors_total": {"proxy"},
    "haproxy_backend_current_queue": {"proxy"},
    "haproxy_backend_current_sessions": {"proxy"},
    "haproxy_backend_http_requests_total": {"proxy"},
    "haproxy_backend_redispatch_warnings_total": {"proxy"},
    "haproxy_backend_response_errors_total": {"proxy"},
    "haproxy_backend_retry_warnings_total": {"proxy"},
    "haproxy_server_status": {"proxy", "server", "state"},
}
_OF_PROMETHEUS = {"up": set[str](), "ALERTS": {"alertname", "alertstate", "severity"}}
_OF_TARGETS = {"job", "instance"}
_SUFFIXES: dict[str | None, tuple[str, ...]] = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((OBSERVABILITY / "grafana/dashboards/mobilenet.json").read_text())
    return loaded


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    """Without the rows."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> list[tuple[str, str]]:
    """``panel TITLE`` or ``alert NAME``, and its expression without Grafana's macros and variables."""
    targets = [(panel["title"], target["expr"]) for panel in panels(dashboard()) for target in panel["targets"]]
    return [
        *((f"panel {title}", substitute(expression)) for title, expression in targets),
        *((f"alert {rule['alert']}", rule["expr"]) for rule in alerts()),
    ]


def substitute(expression: str) -> str:
    for variable, value in _SUBSTITUTES.items():
        expression = expression.replace(variable, value)
    return expression


def labels_by_metric() -> dict[str, set[str]]:
    own = Metrics()
    known = _HAPROXY | _OF_PROMETHEUS
    for metric in vars(own).values():
        if isinstance(metric, MetricWrapperBase):
            for suffix in _SUFFIXES.get(metric._type, ("",)):
                known[metric._name + suffix] = {*metric._labelnames, *(["le"] if suffix == "_bucket" else [])}
    samples = [sample.name for family in own.registry.collect() for sample in family.samples]
    return {name: set[str]() for name in samples if name.startswith("process_")} | known


async def endpoint_labels() -> set[str]:
    settings, metrics = Settings(), Metrics()
    served = create_served(
        settings, load(settings.model_store, "mobilenet_v2", "1"), engine_of(FakeRuntime()), 1, metrics
    )
    registry, intake = Registry([served], metrics), create_intake(settings, 1, metrics)
    return set(create_app(settings, registry, intake, Lifecycle(1.0), metrics).table.labels)


def values_by_label() -> dict[str, set[str]]:
    """Only of labels with few values."""
    scrapes = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    balancer = (ROOT / "deploy/compose/haproxy.cfg").read_text()
    reasons = {error.reason for error in errors()}
    return {
        "job": {scrape["job_name"] for scrape in scrapes},
        "proxy": set(re.findall(r"^(?:frontend|backend) (\w+)", balancer, re.MULTILINE)),
        "endpoint": asyncio.run(endpoint_labels()),
        "stage": set(STAGES),
        "reason": reasons,
        "outcome": {*reasons, "ok"},
        "agree": {"true", "false"},
        "alertstate": {"firing", "pending"},
    }


def complaints(expression: str, legend: str = "") -> Iterator[str]:
    """What is wrong with ``expression``, and with the labels that ``legend`` shows of its result."""
    nodes: list[Expr] = []
    try:
        promql_parser.walk(promql_parser.parse(expression), nodes.append)
    except ValueError as error:
        yield str(error)
        return
    labels, grouped, aggregated = set(_OF_TARGETS), set[str](), False
    known, allowed = labels_by_metric(), values_by_label()
    for node in nodes:
        if isinstance(node, VectorSelector):
            if node.name is None or node.name not in known:
                yield f"{node.name} is not a metric"
                continue
            labels |= known[node.name]
            for matcher in node.matchers.matchers:
                if matcher.name not in known[node.name] | _OF_TARGETS:
                    yield f"{node.name} has no label {matcher.name}"
                is_pattern = matcher.op in (MatchOp.Re, MatchOp.NotRe)
                asked = set(matcher.value.split("|")) if is_pattern else {matcher.value}
                if matcher.name in allowed and not asked <= allowed[matcher.name]:
                    yield f"{matcher.name} is never {asked - allowed[matcher.name]}"
        elif isinstance(node, AggregateExpr) and node.modifier is not None:
            grouped |= set(node.modifier.labels)
            aggregated |= node.modifier.type == AggModifierType.By
        elif isinstance(node, BinaryExpr) and node.modifier is not None and node.modifier.matching is not None:
            grouped |= {*node.modifier.matching.labels, *(node.modifier.group_labels or ())}
    yield from (f"no metric has the label {label}" for label in sorted(grouped - labels))
    shown = set(re.findall(r"\{\{(\w+)\}\}", legend)) - (grouped if aggregated else labels)
    yield from (f"the result has no label {label}, which the legend shows" for label in sorted(shown))
