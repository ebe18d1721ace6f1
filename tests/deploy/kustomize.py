"""What ``kustomize build`` makes of ``deploy/kubernetes``, for machines without kustomize.

The few fields used there and an error for every other one; patches are JSON patches (RFC 6902), without "move" and
"copy". Where a real kustomize is found the tests compare with it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]

_VERSIONS = {"Kustomization": "kustomize.config.k8s.io/v1beta1", "Component": "kustomize.config.k8s.io/v1alpha1"}
_FIELDS = {"apiVersion", "kind", "namespace", "resources", "components", "patches", "images"}


def build(directory: Path) -> list[Object]:
    """Every object of the kustomization in ``directory``. Raises ValueError for what this module does not know."""
    return _build(directory, "Kustomization", [])


def _build(directory: Path, kind: str, objects: list[Object]) -> list[Object]:
    kustomization = yaml.safe_load((directory / "kustomization.yaml").read_text())
    if (kustomization["kind"], kustomization["apiVersion"]) != (kind, _VERSIONS[kind]):
        raise ValueError(f"{directory} is no {kind}")
    if unknown := set(kustomization) - _FIELDS:
        raise ValueError(f"{directory}: {unknown} are not implemented")
    for name in kustomization.get("resources", ()):
        if (path := directory / name).is_dir():
            objects = [*objects, *_build(path, "Kustomization", [])]
        else:
            objects = [*objects, *yaml.safe_load_all(path.read_text())]
    for name in kustomization.get("components", ()):
        objects = _build(directory / name, "Component", objects)
    for patch in kustomization.get("patches", ()):
        objects = _patch(objects, **patch)
    for image in kustomization.get("images", ()):
        objects = [_with_image(item, **image) for item in objects]
    if namespace := kustomization.get("namespace"):
        objects = [item | {"metadata": item["metadata"] | {"namespace": namespace}} for item in objects]
    return objects


def _patch(objects: Iterable[Object], *, target: dict[str, str], patch: str) -> list[Object]:
    wanted = (target.pop("kind"), target.pop("name"))
    if target:
        raise ValueError(f"selecting by {set(target)} is not implemented")
    patched = [
        json_patch(item, yaml.safe_load(patch)) if (item["kind"], item["metadata"]["name"]) == wanted else item
        for item in objects
    ]
    if patched == objects:
        raise ValueError(f"the patch of {wanted} changes nothing")
    return patched


def json_patch(document: Object, operations: Iterable[dict[str, Any]]) -> Object:
    """``document`` after RFC 6902 operations, itself unchanged. Raises LookupError or ValueError as a patch fails."""
    document = copy.deepcopy(document)
    for operation in operations:
        *parents, last = (part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:])
        place: Any = document
        for part in parents:
            place = place[int(part)] if isinstance(place, list) else place[part]
        key: Any = int(last) if isinstance(place, list) and last != "-" else last
        match operation["op"]:
            case "test":
                if place[key] != operation["value"]:
                    raise ValueError(f"{operation['path']} is {place[key]!r}")
            case "add" if isinstance(place, list):
                if key != "-" and key > len(place):
                    raise IndexError(operation["path"])
                place.insert(len(place) if key == "-" else key, operation["value"])
            case "add":
                place[key] = operation["value"]
            case "replace":
                _ = place[key]  # must be there
                place[key] = operation["value"]
            case "remove":
                del place[key]
            case other:
                raise ValueError(f"{other} is not implemented")
    return document


def _with_image(item: Object, *, name: str, newName: str | None = None, newTag: str) -> Object:  # noqa: N803
    if item["kind"] != "Deployment":
        return item
    item = copy.deepcopy(item)
    for container in item["spec"]["template"]["spec"]["containers"]:
        if container["image"].rpartition(":")[0] == name:
            container["image"] = f"{newName or name}:{newTag}"
    return item
