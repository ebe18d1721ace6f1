"""A Docker engine, the image and a stack of three replicas.

Without an engine these tests are skipped and say so; where REQUIRE_ENGINE is set (.ci/run sets it) that is a failure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks import photos
from service.model.artifact import Artifact
from tests.containers.docker import Stack, docker
from tests.documents import ROOT
from tests.requirements import missing

BASE = "python:3.11-slim-bookworm"


@pytest.fixture(scope="session")
def engine() -> None:
    """The engine's answer, or its absence, once."""
    if shutil.which("docker") is None:
        complaint = "docker is not installed"
    elif subprocess.run(["docker", "version"], capture_output=True, check=False).returncode:
        complaint = "no Docker engine answers"
    else:
        return
    missing(complaint, required_by="REQUIRE_ENGINE")


@pytest.fixture(scope="session")
def tag() -> str:
    """Of everything that a session of these tests makes."""
    return f"mobilenet-test-{os.getpid()}"


@pytest.fixture(scope="session")
def image(engine: None, tag: str, real_artifact: Artifact) -> Iterator[str]:
    """The CPU image of this checkout, with the weights that are here."""
    name = f"{tag}:one"
    build(name)
    yield name
    for made in docker("image", "ls", "--quiet", tag).split():
        docker("image", "rm", "--force", made)


@pytest.fixture(scope="module")
def stack(image: str, tag: str) -> Iterator[Stack]:
    with stack_of(3, tag, image) as running:
        yield running


@contextmanager
def stack_of(replicas: int, project: str, image: str, **environment: str) -> Iterator[Stack]:
    """A compose project, until the block ends."""
    running = Stack(project, SERVICE_IMAGE=image, BALANCER_IMAGE=balancer_image(), **environment)
    try:
        running.up(replicas)
        yield running
    finally:
        running.down()


@pytest.fixture(scope="session")
def bodies() -> list[bytes]:
    return photos.collection("500x375", 8)


def build(name: str, *arguments: str) -> None:
    docker(
        *("build", "--quiet", "--tag", name, "--build-arg", f"BASE_IMAGE={BASE}"),
        *("--build-context", f"artifact={ROOT / 'model_store'}", *arguments, "."),
        timeout=580,
    )


def balancer_image() -> str:
    """Whichever HAProxy is here; what `make compose-up` finds out by itself."""
    return docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "haproxy").splitlines()[0]
