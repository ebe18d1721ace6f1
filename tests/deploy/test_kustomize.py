"""The renderer that stands in for kustomize: JSON patches as RFC 6902 says, and no guessing beyond what it knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.deploy.kustomize import build, json_patch

DOCUMENT = {"a": {"b/c": 1, "d~e": 2}, "list": [10, 20]}


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ({"op": "add", "path": "/f", "value": 3}, DOCUMENT | {"f": 3}),
        ({"op": "add", "path": "/list", "value": 3}, DOCUMENT | {"list": 3}),
        ({"op": "add", "path": "/list/-", "value": 30}, DOCUMENT | {"list": [10, 20, 30]}),
        ({"op": "add", "path": "/list/1", "value": 15}, DOCUMENT | {"list": [10, 15, 20]}),
        ({"op": "replace", "path": "/list/1", "value": 15}, DOCUMENT | {"list": [10, 15]}),
        ({"op": "replace", "path": "/a/b~1c", "value": 3}, DOCUMENT | {"a": {"b/c": 3, "d~e": 2}}),
        ({"op": "remove", "path": "/a/d~0e"}, DOCUMENT | {"a": {"b/c": 1}}),
        ({"op": "remove", "path": "/list/0"}, DOCUMENT | {"list": [20]}),
        ({"op": "test", "path": "/a/b~1c", "value": 1}, DOCUMENT),
    ],
)
def test_an_operation(operation: dict[str, Any], expected: dict[str, Any]) -> None:
    assert json_patch(DOCUMENT, [operation]) == expected
    assert DOCUMENT == {"a": {"b/c": 1, "d~e": 2}, "list": [10, 20]}


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "replace", "path": "/f", "value": 3},
        {"op": "remove", "path": "/f"},
        {"op": "add", "path": "/f/g", "value": 3},
        {"op": "add", "path": "/list/3", "value": 3},
        {"op": "test", "path": "/a/b~1c", "value": 2},
        {"op": "move", "path": "/f", "from": "/a"},
    ],
)
def test_an_operation_that_fails(operation: dict[str, Any]) -> None:
    with pytest.raises((LookupError, ValueError)):
        json_patch(DOCUMENT, [operation])


@pytest.mark.parametrize(
    "kustomization",
    [
        "kind: Kustomization\napiVersion: kustomize.config.k8s.io/v1beta1\ncommonLabels: {a: b}",
        "kind: Component\napiVersion: kustomize.config.k8s.io/v1alpha1",
        "kind: Kustomization\napiVersion: kustomize.config.k8s.io/v1alpha1",
        "kind: Kustomization\napiVersion: kustomize.config.k8s.io/v1beta1\n"
        "patches: [{target: {kind: Deployment, name: none}, patch: '[]'}]",
    ],
)
def test_a_kustomization_that_is_not_understood(tmp_path: Path, kustomization: str) -> None:
    (tmp_path / "kustomization.yaml").write_text(kustomization)
    with pytest.raises(ValueError, match=r"not implemented|is no Kustomization|changes nothing"):
        build(tmp_path)


def test_images_and_a_namespace(tmp_path: Path) -> None:
    (tmp_path / "deployment.yaml").write_text(
        "{kind: Deployment, metadata: {name: a}, spec: {template: {spec:"
        " {containers: [{image: 'a:1'}, {image: 'b:1'}]}}}}"
    )
    (tmp_path / "kustomization.yaml").write_text(
        "{kind: Kustomization, apiVersion: kustomize.config.k8s.io/v1beta1, namespace: somewhere,"
        " resources: [deployment.yaml], images: [{name: a, newName: registry/a, newTag: '2'}]}"
    )
    (deployment,) = build(tmp_path)
    assert deployment["metadata"] == {"name": "a", "namespace": "somewhere"}
    containers = deployment["spec"]["template"]["spec"]["containers"]
    assert [container["image"] for container in containers] == ["registry/a:2", "b:1"]
