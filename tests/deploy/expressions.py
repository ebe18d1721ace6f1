"""Every PromQL expression of the dashboard and of the alerts, as Prometheus takes it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

OBSERVABILITY = Path(__file__).parents[2] / "deploy/observability"
PROMETHEUS = OBSERVABILITY / "prometheus"
DASHBOARD = OBSERVABILITY / "grafana/dashboards/mobilenet.json"

#: What Grafana puts in their place. Its rate interval is four scrape intervals at least.
_SUBSTITUTES = {"$__rate_interval": "20s", "$instance": ".*", "$stage": "infer"}


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return loaded


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    """Without the rows."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> list[tuple[str, str]]:
    """``panel TITLE`` or ``alert NAME``, and its expression without Grafana's macros and variables."""
    return [*_of_panels(), *((f"alert {rule['alert']}", rule["expr"]) for rule in alerts())]


def _of_panels() -> Iterator[tuple[str, str]]:
    for panel in panels(dashboard()):
        for target in panel["targets"]:
            yield f"panel {panel['title']}", substitute(target["expr"])


def substitute(expression: str) -> str:
    """Raises ValueError for a variable that nothing stands for."""
    for variable, value in _SUBSTITUTES.items():
        expression = expression.replace(variable, value)
    if "$" in expression:
        raise ValueError(f"an unknown variable: {expression}")
    return expression
