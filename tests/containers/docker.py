"""The docker command and a compose project of this checkout, as the tests see them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from typing import Any

import httpx

from tests.documents import ROOT
from tests.scrape import samples
from tests.waiting import until

#: Kills, stops or continues the service inside its container; process 1 there is the init.
_SIGNAL = """
import os, sys
for pid in filter(str.isdigit, os.listdir("/proc")):
    if pid != "1" and b"mobilenet-service\\0serve" in open(f"/proc/{pid}/cmdline", "rb").read():
        os.kill(int(pid), int(sys.argv[1]))
"""


def docker(*arguments: str, timeout: float = 60, **environment: str) -> str:
    """What ``docker …`` prints; AssertionError with its complaint if it fails."""
    return run(["docker", *arguments], timeout=timeout, **environment)


def run(command: Sequence[str], *, timeout: float = 60, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr[-4000:]}"
    return done.stdout.strip()


def inspect(container: str) -> dict[str, Any]:
    (found,) = json.loads(docker("inspect", container))
    assert isinstance(found, dict)
    return found


def records(container: str) -> list[dict[str, Any]]:
    """What the service has logged."""
    lines = run(["sh", "-c", 'docker logs "$1" 2>&1', "sh", container]).splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def address(container: str) -> str:
    """Its IP address in its one network."""
    (network,) = inspect(container)["NetworkSettings"]["Networks"].values()
    return str(network["IPAddress"])


def metric(container: str, name: str) -> float:
    """Its value in the service, 0 if there is none yet."""
    return samples(httpx.get(f"http://{address(container)}:8000/metrics", timeout=10).text).get(name, 0.0)


def send_signal(container: str, number: int) -> None:
    """To the service's own process, as the kernel or a bug would.

    SIGKILL is sent by a detached program: the container ends with the service, and a program that runs in it may be
    gone before Docker has its exit status.
    """
    detached = ["--detach"] if number == signal.SIGKILL else []
    docker("exec", *detached, container, "python", "-I", "-S", "-c", _SIGNAL, str(number))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Stack:
    """A compose project, started by what ``make compose-up`` calls."""

    def __init__(self, project: str, **environment: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {"COMPOSE_PROJECT_NAME": project, "PORT": str(self.port), **environment}

    def up(self, replicas: int, *arguments: str) -> str:
        return self._run(["deploy/compose/up.sh", *arguments], SCALE=str(replicas))

    def roll(self, image: str) -> str:
        self.environment["SERVICE_IMAGE"] = image
        return self._run(["deploy/compose/roll.sh"])

    def promote(self, version: str, *arguments: str, **variables: str) -> str:
        return self._run(["deploy/compose/promote.sh", *arguments], MODEL=version, **variables)

    def compose(self, *arguments: str) -> str:
        return self._run(["docker", "compose", *arguments])

    def down(self) -> None:
        self.compose("--profile", "*", "down", "--volumes", "--timeout", "5")

    def replicas(self) -> list[str]:
        return self.compose("ps", "--quiet", "service").split()

    def container(self, service: str) -> str:
        (found,) = self.compose("ps", "--quiet", service).split()
        return found

    def served(self) -> dict[str, int]:
        """Classifications answered with 200, by replica."""
        wanted = 'mobilenet_requests_total{code="200",endpoint="classify"}'
        return {replica: int(metric(replica, wanted)) for replica in self.replicas()}

    def in_rotation(self) -> int:
        """Replicas that the balancer sends requests to."""
        text = httpx.get(f"http://{address(self.container('balancer'))}:8405/metrics", timeout=10).text
        wanted = 'haproxy_backend_active_servers{proxy="service"'
        lines = [line for line in text.splitlines() if line.startswith(wanted)]
        return int(float(lines[0].split()[-1]))

    def wait_for_rotation(self, replicas: int, *, timeout: float = 30) -> None:
        until(lambda: self.in_rotation() == replicas, timeout=timeout, what=f"{replicas} replicas in rotation")

    def _run(self, command: Sequence[str], **more: str) -> str:
        return run(command, timeout=600, **self.environment, **more)
