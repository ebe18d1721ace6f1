"""What Kubernetes objects must say to agree with each other, with the image and with the code.

Each check takes the objects of one kustomization by kind and yields complaints.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from pydantic import ValidationError

from service import __version__
from service.config import Settings
from service.errors import OperatorError
from service.metrics import Metrics
from service.model.aliases import ALIASES, parse
from service.serving.memory_limits import USUAL_PIXELS, pixels_per_image, units_in_flight
from tests.documents import ROOT

Objects = dict[str, dict[str, Any]]
Check = Callable[[Objects], Iterator[str]]


def template(objects: Objects) -> Any:
    return objects["Deployment"]["spec"]["template"]


def container(objects: Objects) -> Any:
    return template(objects)["spec"]["containers"][0]


def env(objects: Objects) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container(objects)["env"]}


def settings(objects: Objects) -> Settings:
    """As the process would have them; without the file of keys, which is not here."""
    fields = {name.removeprefix("MOBILENET_").lower(): value for name, value in env(objects).items()}
    fields.pop("api_keys_file", None)
    return Settings.model_validate(fields)


def selectors(objects: Objects) -> Iterator[str]:
    labels = template(objects)["metadata"]["labels"]
    spec = objects["Deployment"]["spec"]
    found = {
        "Deployment": spec["selector"]["matchLabels"],
        "Service": objects["Service"]["spec"]["selector"],
        "PodDisruptionBudget": objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        "NetworkPolicy": objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    }
    for constraint in template(objects)["spec"]["topologySpreadConstraints"]:
        found[constraint["topologyKey"]] = constraint["labelSelector"]["matchLabels"]
    yield from (f"{name} selects {selector}" for name, selector in found.items() if selector != labels)
    if not {"kubernetes.io/hostname", "topology.kubernetes.io/zone"} <= set(found):
        yield "pods are not spread over nodes and zones"


def scaling(objects: Objects) -> Iterator[str]:
    deployment, autoscaler = objects["Deployment"], objects["HorizontalPodAutoscaler"]["spec"]
    if "replicas" in deployment["spec"]:
        yield "the Deployment sets the number that the autoscaler owns"
    reference = {key: deployment[key] for key in ("apiVersion", "kind")} | {"name": deployment["metadata"]["name"]}
    if autoscaler["scaleTargetRef"] != reference:
        yield "the autoscaler scales something else"
    if not objects["PodDisruptionBudget"]["spec"]["maxUnavailable"] < autoscaler["minReplicas"]:
        yield "the disruption budget lets every pod go at once"
    for metric in autoscaler["metrics"]:
        if metric["type"] == "ContainerResource":
            if metric["containerResource"]["container"] != container(objects)["name"]:
                yield "the autoscaler looks at another container"
        elif (name := metric["pods"]["metric"]["name"]) not in metric_names():
            yield f"{name} is no metric"
        elif not int(metric["pods"]["target"]["averageValue"]) < capacity_of(objects)[0] // 2:
            yield "requests are refused before the autoscaler would act"
    if autoscaler["metrics"][0]["type"] != "ContainerResource":
        yield "CPU does not count"


def metric_names() -> set[str]:
    return {family.name for family in Metrics().registry.collect()}


def capacity_of(objects: Objects) -> tuple[int, int]:
    """The automatic ``max_in_flight`` and ``max_pixels`` of a container with these limits."""
    limits = container(objects)["resources"]["limits"]
    memory = re.fullmatch(r"(\d+)([MG])i", limits["memory"])
    assert memory is not None
    available = int(memory[1]) * {"M": 2**20, "G": 2**30}[memory[2]]
    return units_in_flight(available), pixels_per_image(available, int(limits["cpu"]))


def resources(objects: Objects) -> Iterator[str]:
    limits = dict(container(objects)["resources"]["limits"])
    gpu = limits.pop("nvidia.com/gpu", None)
    if container(objects)["resources"]["requests"] != limits:
        yield "requests are not the limits"
    if capacity_of(objects)[1] != USUAL_PIXELS:
        yield "the memory is too little for the usual max_pixels"
    compose = (ROOT / ("docker-compose.gpu.yml" if gpu else "docker-compose.yml")).read_text()
    defaults = dict(re.findall(r"\$\{SERVICE_(CPUS|MEMORY):-(\w+)\}", compose))
    if limits != {"cpu": defaults["CPUS"], "memory": defaults["MEMORY"] + "i"}:
        yield f"Compose gives a replica {defaults}"
    if (gpu is not None) != (settings(objects).device == "cuda"):
        yield "a GPU goes with the device cuda"


def ports(objects: Objects) -> Iterator[str]:
    (port,) = container(objects)["ports"]
    if f"EXPOSE {port['containerPort']}\n" not in (ROOT / "Dockerfile").read_text():
        yield "the image listens on another port"
    if {"protocol": "TCP", "port": port["containerPort"]} != objects["NetworkPolicy"]["spec"]["ingress"][0]["ports"][0]:
        yield "the network policy opens another port"
    if objects["Service"]["spec"]["ports"][0]["targetPort"] != port["name"]:
        yield "the Service leads to another port"
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        if container(objects)[name]["httpGet"]["port"] != port["name"]:
            yield f"the {name} asks another port"


def probes(objects: Objects) -> Iterator[str]:
    startup, readiness, liveness = (container(objects)[f"{name}Probe"] for name in ("startup", "readiness", "liveness"))
    if (startup["httpGet"]["path"], readiness["httpGet"]["path"]) != ("/readyz", "/readyz"):
        yield "readiness is asked at /readyz"
    if liveness["httpGet"]["path"] != "/livez":
        yield "a pod is restarted for something else than being dead"
    if not all(2 <= probe["timeoutSeconds"] <= 10 for probe in (startup, readiness, liveness)):
        yield "time-outs are a few seconds"
    if not startup["periodSeconds"] * startup["failureThreshold"] >= 60:
        yield "the start has too little time"
    if not liveness["periodSeconds"] * (liveness["failureThreshold"] - 1) >= settings(objects).drain_timeout_ms / 1e3:
        yield "a process that ends itself is killed while it drains"


def stopping(objects: Objects) -> Iterator[str]:
    pause = container(objects)["lifecycle"]["preStop"]["sleep"]["seconds"]
    if pause < 5:
        yield "the endpoint may still be known when the listener closes"
    engine = 1  # second: what it is given even if the requests used up the drain
    if (
        not pause + settings(objects).drain_timeout_ms / 1e3 + engine
        < template(objects)["spec"]["terminationGracePeriodSeconds"]
    ):
        yield "the pod is killed while it drains"


def environment(objects: Objects) -> Iterator[str]:
    known = {f"MOBILENET_{name.upper()}" for name in Settings.model_fields}
    yield from (f"{name} is no setting" for name in env(objects) if name not in known)
    try:
        settings(objects)
    except ValidationError as error:
        yield str(error)
    if template(objects)["spec"]["enableServiceLinks"]:
        yield "a Service called mobilenet would set MOBILENET_PORT"
    if (keys := env(objects).get("MOBILENET_API_KEYS_FILE")) is not None:
        volumes = {volume["name"]: volume for volume in template(objects)["spec"]["volumes"]}
        mounted = [
            f"{mount['mountPath']}/{item['path']}"
            for mount in container(objects)["volumeMounts"]
            for item in volumes[mount["name"]].get("secret", {}).get("items", ())
        ]
        if keys not in mounted:
            yield "the file of keys is not mounted"


def aliases(objects: Objects) -> Iterator[str]:
    if (config := objects.get("ConfigMap")) is None:
        return
    store = re.findall(r"MOBILENET_MODEL_STORE=(\S+)", (ROOT / "Dockerfile").read_text())[0]
    volumes = {volume["name"]: volume for volume in template(objects)["spec"]["volumes"]}
    mounts = {mount["mountPath"]: mount for mount in container(objects)["volumeMounts"]}
    file = mounts.get(f"{store}/{ALIASES}", {"name": "tmp", "subPath": None})
    if volumes[file["name"]].get("configMap") != {"name": config["metadata"]["name"]} or file["subPath"] != ALIASES:
        yield "the file is not mounted"
    try:
        desired = parse(config["data"][ALIASES].encode())
    except OperatorError as error:
        yield str(error)
    else:
        for name in desired:
            versions = mounts.get(f"{store}/{name}", {"name": "tmp", "subPath": None})
            if "persistentVolumeClaim" not in volumes[versions["name"]] or versions["subPath"] != name:
                yield f"versions of {name} are not mounted"
        if settings(objects).model not in desired:
            yield "nothing says what is stable of the model that is served"


def confinement(objects: Objects) -> Iterator[str]:
    pod, own = template(objects)["spec"]["securityContext"], container(objects)["securityContext"]
    if f"USER {pod['runAsUser']}:{pod['runAsGroup']}\n" not in (ROOT / "Dockerfile").read_text():
        yield "the image's user is another one"
    if not pod["runAsNonRoot"] or pod["seccompProfile"] != {"type": "RuntimeDefault"}:
        yield "the pod is not restricted"
    if own != {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}:
        yield "the container may more than it needs"
    if template(objects)["spec"]["automountServiceAccountToken"]:
        yield "the pod can talk to the API server"
    policy = objects["NetworkPolicy"]["spec"]
    if policy["policyTypes"] != ["Ingress", "Egress"] or policy["egress"] or not policy["ingress"][0]["from"]:
        yield "the network is open"


def updates(objects: Objects) -> Iterator[str]:
    strategy = objects["Deployment"]["spec"]["strategy"]
    spare = "nvidia.com/gpu" not in container(objects)["resources"]["limits"]
    if strategy["type"] != "RollingUpdate" or (strategy["rollingUpdate"]["maxUnavailable"] == 0) != spare:
        yield "an update takes capacity away, or waits for a GPU"
    release = re.match(r"\d+\.\d+\.\d+", __version__)
    tag = container(objects)["image"].rpartition(":")[2]
    if release is None or tag not in (release[0], f"{release[0]}-cuda"):
        yield f"the image's tag {tag} is not the version"


#: Fields of the operator's custom resource definition, as of 0.84, that are used here.
_MONITOR_FIELDS = {"selector": dict, "endpoints": list}
_ENDPOINT_FIELDS = {"port": str, "path": str, "interval": str, "scrapeTimeout": str, "relabelings": list}


def service_monitor(objects: Objects) -> Iterator[str]:
    if (monitor := objects.get("ServiceMonitor")) is None:
        return
    if (monitor["apiVersion"], monitor["kind"]) != ("monitoring.coreos.com/v1", "ServiceMonitor"):
        yield "it is no ServiceMonitor"
    spec, service = monitor["spec"], objects["Service"]
    (endpoint,) = spec["endpoints"]
    for fields, item in ((_MONITOR_FIELDS, spec), (_ENDPOINT_FIELDS, endpoint)):
        wrong = [name for name, value in item.items() if name not in fields or not isinstance(value, fields[name])]
        yield from (f"{name} is no field" for name in wrong)
    if not spec["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items():
        yield "it selects another Service"
    if {"targetLabel": "job", "replacement": "mobilenet"} not in endpoint["relabelings"]:
        yield "alerts and dashboard select another job"
    if endpoint["port"] not in {port["name"] for port in service["spec"]["ports"]}:
        yield "the Service has no such port"
    interval, timeout = (re.fullmatch(r"(\d+)s", endpoint[name]) for name in ("interval", "scrapeTimeout"))
    if interval is None or timeout is None or int(timeout[1]) > int(interval[1]):
        yield "a scrape takes longer than the time between two"
