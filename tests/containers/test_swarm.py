"""The same image and compose file as a stack on a Swarm of one node: a task killed and a rolling update under load."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.containers.conftest import balancer_image, build
from tests.containers.docker import docker, free_port, inspect, run, send_signal
from tests.containers.traffic import Traffic
from tests.waiting import until


class Swarm:
    """A stack by what docs/scaling.md names: deploy/swarm/up.sh."""

    def __init__(self, name: str, image: str) -> None:
        self.name = name
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.up(image)

    def up(self, image: str) -> None:
        environment = {"SERVICE_IMAGE": image, "BALANCER_IMAGE": balancer_image(), "PORT": str(self.port)}
        run(["deploy/swarm/up.sh", self.name], timeout=300, SCALE="3", **environment)

    def tasks(self) -> list[str]:
        """Containers of the service that run."""
        return docker(
            *("ps", "--quiet", "--no-trunc", "--filter", f"label=com.docker.swarm.service.name={self.name}_service")
        ).split()

    def healthy(self) -> int:
        return sum(inspect(task)["State"]["Health"]["Status"] == "healthy" for task in self.tasks())

    def down(self) -> None:
        docker("stack", "rm", self.name)
        until(lambda: not self._remains(), timeout=60, what="the stack is gone")

    def _remains(self) -> str:
        containers = docker("ps", "--quiet", "--filter", f"label=com.docker.stack.namespace={self.name}")
        return containers + docker("network", "ls", "--quiet", "--filter", f"name={self.name}_default")


@pytest.fixture(scope="module")
def swarm(image: str, tag: str) -> Iterator[Swarm]:
    own = docker("info", "--format", "{{.Swarm.LocalNodeState}}") != "active"
    if own:
        docker("swarm", "init", "--advertise-addr", "127.0.0.1")
    stack = None
    try:
        stack = Swarm(f"{tag}-swarm", image)
        until(lambda: _ready(stack.url), timeout=60, what="the stack answers")
        yield stack
    finally:
        if stack is not None:
            stack.down()
        if own:
            docker("swarm", "leave", "--force")


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def test_a_task_that_is_killed_costs_no_request(
    swarm: Swarm, bodies: list[bytes], report: Callable[[str], None]
) -> None:
    before = set(swarm.tasks())
    assert len(before) == 3
    victim = min(before)
    with Traffic(swarm.url, bodies) as traffic:
        traffic.wait_for(100)
        send_signal(victim, signal.SIGKILL)
        until(lambda: victim not in swarm.tasks(), timeout=30, what="the task is gone")
        until(lambda: swarm.healthy() == 3, timeout=60, what="another has taken its place")
        traffic.wait_for(100)
    traffic.all_answered(report, "Swarm, a task killed under load")


def test_a_rolling_update_costs_no_request(
    swarm: Swarm, tag: str, bodies: list[bytes], report: Callable[[str], None]
) -> None:
    following = f"{tag}:three"
    build(following, "--build-arg", "REVISION=three")
    before = set(swarm.tasks())
    with Traffic(swarm.url, bodies) as traffic:
        traffic.wait_for(50)
        swarm.up(following)
        until(lambda: not before & set(swarm.tasks()), timeout=60, what="the old tasks are gone")
        traffic.wait_for(50)
    update = json.loads(docker("service", "inspect", f"{swarm.name}_service"))[0]["UpdateStatus"]
    traffic.all_answered(report, "Swarm, rolling update under load")
    assert update["State"] == "completed"
    assert {inspect(task)["Config"]["Labels"]["org.opencontainers.image.revision"] for task in swarm.tasks()} == {
        "three"
    }
