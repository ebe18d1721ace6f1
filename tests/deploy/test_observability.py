"""The dashboard, the alerts and their runbook: well formed, and about metrics, labels and values that exist.

No Prometheus or Grafana runs here; promtool checks the files. Every other check is a function that returns complaints,
and is itself tried on a mistake.
"""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.metrics import STAGES
from tests.deploy import promql
from tests.deploy.promql import OBSERVABILITY, PROMETHEUS, alerts, complaints, dashboard, expressions, panels
from tests.documents import anchors, prose, read
from tests.requirements import missing

Board = dict[str, Any]

# Expressions


@pytest.mark.parametrize(("name", "expression"), expressions(), ids=[name for name, _ in expressions()])
def test_expressions_ask_for_what_exists(name: str, expression: str) -> None:
    assert list(complaints(expression)) == []


@pytest.mark.parametrize(
    ("expression", "legend"),
    [
        ("mobilenet_request_total", ""),
        ("sum(rate(mobilenet_requests[1m]))", ""),
        ("rate(mobilenet_batch_size[1m])", ""),
        ("mobilenet_in_flight_bucket", ""),
        ("haproxy_backend_up", ""),
        ("process_memory_bytes", ""),
        ('mobilenet_requests_total{path="classify"}', ""),
        ('mobilenet_requests_total{endpoint=~"classify|embedding"}', ""),
        ('mobilenet_stage_duration_seconds_sum{stage="inference"}', ""),
        ('mobilenet_rejected_total{reason="overload"}', ""),
        ('haproxy_backend_active_servers{proxy="web"}', ""),
        ('up{job="service"}', ""),
        ("sum by (stage) (mobilenet_in_flight)", ""),
        ("mobilenet_ready * on (pod) mobilenet_in_flight", ""),
        ("sum by (reason) (mobilenet_rejected_total)", "{{instance}}"),
        ("mobilenet_ready", "{{code}}"),
        ("rate(mobilenet_requests_total[$__interval])", ""),
        ("rate(mobilenet_requests_total)", ""),
    ],
)
def test_a_wrong_expression_is_noticed(expression: str, legend: str) -> None:
    assert list(complaints(expression, legend)) != []


# The dashboard


def has_unit(panel: dict[str, Any]) -> bool:
    """A heat map's is that of its axis."""
    holder = panel["options"]["yAxis"] if panel["type"] == "heatmap" else panel["fieldConfig"]["defaults"]
    return bool(holder.get("unit"))


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return all(
        one[start] < other[start] + other[size] and other[start] < one[start] + one[size]
        for start, size in (("x", "w"), ("y", "h"))
    )


def dashboard_complaints(board: Board) -> Iterator[str]:
    provisioned = yaml.safe_load((OBSERVABILITY / "grafana/provisioning/datasources/prometheus.yml").read_text())
    sources = [{"type": source["type"], "uid": source["uid"]} for source in provisioned["datasources"]]
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    everything = board["panels"]
    if len({panel["id"] for panel in everything}) < len(everything):
        yield "two panels have one id"
    for one, other in combinations(everything, 2):
        if overlap(one["gridPos"], other["gridPos"]):
            yield f"{one['title']} and {other['title']} overlap"
    for panel in everything:
        if panel["gridPos"]["x"] + panel["gridPos"]["w"] > 24:
            yield f"{panel['title']} is too wide"
    for panel in panels(board):
        title = panel["title"]
        if not (title and panel.get("description") and has_unit(panel)):
            yield f"panel {panel['id']}: title, description and unit are wanted"
        references = [target["refId"] for target in panel["targets"]]
        if len(set(references)) < len(references):
            yield f"{title}: two queries have one name"
        if panel["datasource"] not in sources:
            yield f"{title}: no such data source"
        for target in panel["targets"]:
            yield from complaints(promql.substitute(target["expr"]), target.get("legendFormat", ""))
            used = set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval"}
            yield from (f"{title}: no variable {name}" for name in used - set(variables))
    if variables["stage"]["query"].split(",") != list(STAGES):
        yield "the stages to choose from are others"


def test_the_dashboard_is_sound() -> None:
    assert len(panels(dashboard())) > 20
    assert list(dashboard_complaints(dashboard())) == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda panel, board: panel.update(id=11),
        lambda panel, board: panel["gridPos"].update(x=2),
        lambda panel, board: panel["gridPos"].update(h=5),
        lambda panel, board: board["panels"][-1]["gridPos"].update(x=19),
        lambda panel, board: panel.pop("description"),
        lambda panel, board: panel.update(title=""),
        lambda panel, board: panel["fieldConfig"]["defaults"].pop("unit"),
        lambda panel, board: panel["datasource"].update(uid="other"),
        lambda panel, board: panel["targets"].append(panel["targets"][0]),
        lambda panel, board: panel["targets"][0].update(expr="mobilenet_red"),
        lambda panel, board: panel["targets"][0].update(legendFormat="{{pod}}"),
        lambda panel, board: board["templating"]["list"].pop(0),
        lambda panel, board: board["templating"]["list"][1].update(query="read,decode"),
    ],
)
def test_a_mistake_in_the_dashboard_is_noticed(spoil: Callable[[dict[str, Any], Board], object]) -> None:
    board = copy.deepcopy(dashboard())
    spoil(board["panels"][0], board)
    assert list(dashboard_complaints(board)) != []


def test_the_dashboard_is_found_by_its_provider() -> None:
    provisioned = read("deploy/observability/grafana/provisioning/dashboards/mobilenet.yml")
    (provider,) = yaml.safe_load(provisioned)["providers"]
    mounts = yaml.safe_load(read("docker-compose.yml"))["services"]["grafana"]["volumes"]
    assert f"./deploy/observability/grafana/dashboards:{provider['options']['path']}:ro" in mounts


# Alerts


def alert_complaints(rules: list[dict[str, Any]], runbook: str) -> Iterator[str]:
    for rule in rules:
        name = rule["alert"]
        if rule["labels"].get("severity") not in ("info", "warning", "critical"):
            yield f"{name}: a severity is wanted"
        notes = rule["annotations"]
        yield from (f"{name}: {note} is wanted" for note in ("summary", "description") if not notes.get(note))
        page, _, anchor = notes.get("runbook", "").partition("#")
        if (page, anchor) != ("docs/runbook.md", name.lower()) or anchor not in anchors(runbook):
            yield f"{name}: the runbook has no such section"
    documented = set(re.findall(r"^## ((?:Mobilenet|Balancer)\w+)$", prose(runbook), re.MULTILINE))
    yield from (f"{name} is no alert" for name in sorted(documented - {rule["alert"] for rule in rules}))


def test_every_alert_has_its_section_in_the_runbook() -> None:
    assert len(alerts()) > 10
    assert list(alert_complaints(alerts(), read("docs/runbook.md"))) == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda rule: rule.update(alert="MobilenetGone"),
        lambda rule: rule.update(labels={}),
        lambda rule: rule["annotations"].pop("summary"),
        lambda rule: rule["annotations"].pop("description"),
        lambda rule: rule["annotations"].pop("runbook"),
        lambda rule: rule["annotations"].update(runbook="docs/runbook.md#mobilenetgone"),
    ],
)
def test_a_mistake_in_an_alert_is_noticed(spoil: Callable[[dict[str, Any]], object]) -> None:
    rules = alerts()
    spoil(rules[0])
    assert list(alert_complaints(rules, read("docs/runbook.md"))) != []


def test_every_alert_fires_in_a_scenario_and_is_silent_in_another() -> None:
    """The scenarios themselves are promtool's: each names all alerts that fire, so every other one is silent."""
    scenarios = yaml.safe_load((PROMETHEUS / "alerts.test.yml").read_text())["tests"]
    states = [
        {re.findall(r'alertname="(\w+)"', sample["labels"])[0] for sample in check["exp_samples"]}
        for scenario in scenarios
        for check in scenario["promql_expr_test"]
    ]
    assert set[str]() in states
    assert set[str]().union(*states) == {rule["alert"] for rule in alerts()}


# What promtool says


def promtool(*arguments: str) -> None:
    program = shutil.which("promtool")
    if program is None:
        missing("promtool is not installed", required_by="REQUIRE_PROMTOOL")
    done = subprocess.run([program, *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments", ["check config prometheus.yml", "check rules alerts.yml", "test rules alerts.test.yml"]
)
def test_promtool_accepts(arguments: str) -> None:
    promtool(*arguments.split())


def test_promtool_accepts_the_expressions_of_the_dashboard(tmp_path: Path) -> None:
    rules = [{"record": f"expression_{number}", "expr": text} for number, (_, text) in enumerate(expressions())]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", str(file))
