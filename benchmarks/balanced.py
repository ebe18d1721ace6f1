"""Throughput through the balancer, with one replica and with two, compared with one process on the same cores.

``make bench-compose``. All three run throughout, which costs nothing while they are idle, and are measured in turns.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import uvloop

from benchmarks import load, photos, turns
from benchmarks.processes import Server, environment, tree_cpu
from benchmarks.report import RESULTS, bullets, ratio, spread, table
from benchmarks.turns import Target
from service.host.cores import available_cores

_ROOT = Path(__file__).parents[1]
_PLACE = "{{.State.Pid}} {{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
BARE = "one process, no container"


@contextmanager
def stack(replicas: int, cores: float, port: int) -> Iterator[tuple[str, Callable[[], float]]]:
    """A compose project of ``replicas`` with ``cores`` each: the balancer's URL, and its CPU time in seconds."""
    env = os.environ | {
        "COMPOSE_PROJECT_NAME": f"mobilenet-bench-{port}",
        "PORT": str(port),
        "SCALE": str(replicas),
        "SERVICE_CPUS": f"{cores:g}",
        "SERVICE_CPUS_RESERVED": "0",
        "MOBILENET_ACCESS_LOG": "false",
    }
    try:
        subprocess.run(["deploy/compose/up.sh"], cwd=_ROOT, env=env, check=True, stdout=subprocess.DEVNULL)
        # The container's own address: the host's loopback leads through Docker's proxy, which other machines bypass.
        balancer = _output("docker", "compose", "ps", "--quiet", "balancer", env=env)
        pid, address = _output("docker", "inspect", "--format", _PLACE, balancer, env=env).split()
        yield f"http://{address}:8000", lambda: tree_cpu(int(pid))
    finally:
        subprocess.run(["docker", "compose", "down", "--timeout", "5"], cwd=_ROOT, env=env, check=True)


def _output(*command: str, env: dict[str, str]) -> str:
    return subprocess.run(command, cwd=_ROOT, env=env, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    parser = turns.parser(__doc__, rounds=6, seconds=4.0)
    parser.add_argument("--port", type=int, default=18200, help="first of the balancers' two ports")
    given = parser.parse_args()
    cores = available_cores()
    bodies = photos.collection(photos.STANDARD, 8)
    with ExitStack() as running:
        url = running.enter_context(Server()).url
        targets = {BARE: Target(url, load.requests(url, "/classify", bodies))}
        for index, replicas in enumerate((1, cores)):
            url, cpu = running.enter_context(stack(replicas, cores / replicas, given.port + index))
            name = f"balancer, {replicas} × {cores // replicas} cores"
            targets[name] = Target(url, load.requests(url, "/classify", bodies), cpu)
        measured = uvloop.run(turns.measure(targets, given))
    conditions = environment(["openvino"])
    bare = measured[BARE].rates
    rows = [
        [name, spread(rates), f"{ratio(rates, bare):.3f}", f"{median(cpu) * 1e3:.2f} ms" if any(cpu) else ""]
        for name, (rates, _, cpu) in measured.items()
    ]
    run = f"* {given.concurrency} at once, {given.rounds} rounds of {given.seconds:g} s, JPEGs of {photos.STANDARD}"
    head = ["", "images/s", "over one process", "balancer's CPU time per image"]
    text = "\n".join(["# Through the balancer", "", *bullets(conditions), run, "", table(head, rows), ""])
    (RESULTS / "balanced.md").write_text(text)
    figures = {"conditions": conditions, "measured": {name: found._asdict() for name, found in measured.items()}}
    (RESULTS / "balanced.json").write_text(json.dumps(figures, indent=1) + "\n")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
