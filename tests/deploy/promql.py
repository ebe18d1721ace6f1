"""PromQL expressions held against the metrics, labels and values that exist: the service's, HAProxy's, Prometheus's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import yaml
from prometheus_client.metrics import MetricWrapperBase

from service.http.app import ENDPOINTS
from service.metrics import STAGES, Metrics
from tests.deploy.expressions import PROMETHEUS
from tests.documents import errors

_BALANCER = Path(__file__).parents[2] / "deploy/compose/haproxy.cfg"
_REASONS = {error.reason for error in errors()}

#: Of HAProxy's exporter (addons/promex in its source, 2.6 to 3.2).
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


def series() -> dict[str, set[str]]:
    """Labels of everything that can be asked for, by name."""
    found = {**_HAPROXY, **_OF_PROMETHEUS}
    own = Metrics()
    for metric in vars(own).values():
        if isinstance(metric, MetricWrapperBase):
            labels = set(metric._labelnames)
            if metric._type == "histogram":
                found |= {f"{metric._name}_bucket": labels | {"le"}}
                found |= {f"{metric._name}_{suffix}": labels for suffix in ("sum", "count")}
            else:
                found[metric._name + ("_total" if metric._type == "counter" else "")] = labels
    for family in own.registry.collect():
        if family.name.startswith("process_"):
            found |= {sample.name: set[str]() for sample in family.samples}
    return found


def values() -> dict[str, set[str]]:
    """Values that a label can have, of labels whose values are few."""
    scrapes = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    proxies = re.findall(r"^(?:frontend|backend) (\w+)", _BALANCER.read_text(), re.MULTILINE)
    return {
        "job": {scrape["job_name"] for scrape in scrapes},
        "proxy": set(proxies),
        "endpoint": {*ENDPOINTS, "other"},
        "stage": set(STAGES),
        "reason": _REASONS,
        "outcome": {*_REASONS, "ok"},
        "alertstate": {"firing", "pending"},
    }


_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\s*(\{[^}]*\})?(?!\w)\s*(\()?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_OPERATORS = {"and", "or", "unless", "bool"}


def selectors(expression: str) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Each metric with its matchers: label, operator, value."""
    plain = re.sub(r"\[[^]]*\]", "", _GROUPING.sub("", expression))
    for name, braces, called in _SELECTOR.findall(plain):
        if not called and name not in _OPERATORS:
            yield name, _MATCHER.findall(braces)


def expression_complaints(expression: str, legend: str = "") -> Iterator[str]:
    known, allowed = series(), values()
    labels = set(_OF_TARGETS)
    for name, matchers in selectors(expression):
        if name not in known:
            yield f"{name} is no metric"
            continue
        labels |= known[name]
        for label, operator, value in matchers:
            if label not in known[name] | _OF_TARGETS:
                yield f"{name} has no label {label}"
            wanted = set(value.split("|")) if "~" in operator else {value}
            if label in allowed and not wanted <= allowed[label]:
                yield f"{label} is never {wanted - allowed[label]}"
    grouped = {label.strip() for group in _GROUPING.findall(expression) for label in group.split(",")} - {""}
    yield from (f"no metric has the label {label}" for label in sorted(grouped - labels))
    aggregated = grouped if re.search(r"\bby\b", expression) else labels
    shown = set(re.findall(r"\{\{(\w+)\}\}", legend))
    yield from (f"the legend shows {label}, which is gone" for label in sorted(shown - aggregated))
