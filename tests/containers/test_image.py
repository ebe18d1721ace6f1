"""The image itself: what is in it, who it runs as, what it needs, and that it can be made again."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from service import __version__
from tests.containers.conftest import build
from tests.containers.docker import address, docker, inspect, metric, records, run
from tests.containers.traffic import Traffic
from tests.documents import ROOT
from tests.hostile.faults.signalled import wait_until_prepared
from tests.running import png
from tests.waiting import until

MOST_BYTES = 500 * 10**6

#: As docker-compose.yml runs it.
_CONFINED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")


@contextmanager
def container(image: str, *options: str) -> Iterator[str]:
    name = docker("run", "--detach", *_CONFINED, *options, image)
    try:
        yield name
    finally:
        docker("rm", "--force", name)


def wait_until_healthy(name: str) -> None:
    until(lambda: inspect(name)["State"]["Health"]["Status"] == "healthy", timeout=60, what="healthy")


def test_size(image: str, report: Callable[[str], None]) -> None:
    size = inspect(image)["Size"]
    report(f"CPU image: {size / 1e6:.0f} MB")
    assert size <= MOST_BYTES


def test_it_holds_no_torch_and_runs_as_nobody_in_particular(image: str) -> None:
    probe = "import importlib.util as u, os; print(os.getuid(), [n for n in ('torch', 'openvino') if u.find_spec(n)])"
    said = docker("run", "--rm", "--entrypoint", "/venv/bin/python", image, "-c", probe)
    assert said == "10001 ['openvino']"


def test_labels_and_interfaces(image: str) -> None:
    config = inspect(image)["Config"]
    assert config["Labels"]["org.opencontainers.image.version"] == __version__
    assert config["Labels"]["org.opencontainers.image.licenses"] == "MIT"
    assert list(config["ExposedPorts"]) == ["8000/tcp"]
    assert config["User"] == "10001:10001"
    # A port in the image would hide the one that a platform asks for.
    named = {variable.partition("=")[0] for variable in config["Env"]}
    assert named.isdisjoint({"MOBILENET_PORT", "PORT", "AIP_HTTP_PORT"})


def test_other_commands_work_in_it(image: str) -> None:
    said = docker("run", "--rm", *_CONFINED, image, "models", "verify")
    assert "mobilenet_v2/1" in said


def test_it_serves_confined_and_drains_on_sigterm(image: str, bodies: list[bytes]) -> None:
    with container(image, "--init") as name:
        wait_until_healthy(name)
        url = f"http://{address(name)}:8000"
        with Traffic(url, bodies, clients=4) as traffic:
            traffic.wait_for(50)
            docker("kill", "--signal", "TERM", name)
            until(lambda: not inspect(name)["State"]["Running"], timeout=30, what="stopped")
        assert inspect(name)["State"]["ExitCode"] == 0
        # Whoever was answered was answered well; the listener is gone for the others.
        assert set(traffic.statuses) == {200}
        closed = [broken for broken in traffic.broken if not broken.startswith(("ConnectionRefused", "OSError"))]
        # A request can cross the closing of its idle connection, once in each.
        assert len(closed) <= 4
        assert all(broken.startswith(("ConnectionReset", "RemoteDisconnected", "BrokenPipe")) for broken in closed), (
            closed
        )
        logged = records(name)
        assert "draining" in [record["message"] for record in logged]
        assert {record["level"] for record in logged} == {"info"}


def test_it_sizes_itself_from_its_limits(image: str) -> None:
    with (
        container(image, "--cpus", "1", "--memory", "512m") as small,
        container(image, "--memory", "1g") as large,
    ):
        wait_until_healthy(small)
        wait_until_healthy(large)
        assert metric(small, "mobilenet_in_flight_limit") == 32
        assert metric(large, "mobilenet_in_flight_limit") == 96
        (ready,) = [record for record in records(small) if record["message"] == "model ready"]
        assert ready["runners"] == 1


@pytest.mark.parametrize("variable", ["PORT", "AIP_HTTP_PORT", "MOBILENET_PORT"])
def test_a_platform_chooses_the_port(image: str, variable: str) -> None:
    link = () if variable == "MOBILENET_PORT" else ("--env", "MOBILENET_PORT=tcp://10.0.0.1:8000")
    with container(image, "--env", f"{variable}=9000", *link) as name:
        wait_until_healthy(name)
        assert httpx.get(f"http://{address(name)}:9000/readyz", timeout=30).status_code == 200


def process_of(name: str) -> int:
    """Its process 1, once the service in it has run its first line: before that the kernel keeps SIGTERM from it."""
    pid = int(inspect(name)["State"]["Pid"])
    wait_until_prepared(pid)
    return pid


@pytest.mark.parametrize("workers", ["0", "2"])
def test_without_an_init_it_stops_at_once_at_any_moment(
    image: str, workers: str, report: Callable[[str], None]
) -> None:
    for moment in (0.0, 0.1, 0.3, 0.8, 2.0):
        with container(image, "--env", f"MOBILENET_WORKERS={workers}") as name:
            process_of(name)
            time.sleep(moment)
            began = time.monotonic()
            docker("stop", "--time", "30", name)
            took = time.monotonic() - began
            report(f"{workers} workers, stopped {moment:g} s after the first line: in {took:.1f} s")
            assert inspect(name)["State"]["ExitCode"] == 0
            assert took < 10


def test_hang_ups_do_not_end_it(image: str) -> None:
    with container(image) as name:
        process_of(name)
        docker("kill", "--signal", "HUP", name)
        wait_until_healthy(name)
        docker("kill", "--signal", "HUP", name)
        until(
            lambda: "there is no file of keys to read again" in [record["message"] for record in records(name)],
            timeout=30,
            what="it has noticed",
        )
        assert httpx.get(f"http://{address(name)}:8000/readyz", timeout=30).status_code == 200
        docker("stop", "--time", "30", name)
        assert inspect(name)["State"]["ExitCode"] == 0


def test_it_is_not_healthy_before_it_is_ready(image: str) -> None:
    with container(image) as name:
        until(lambda: inspect(name)["State"]["Health"]["Status"] != "starting", timeout=60, what="a verdict")
        assert inspect(name)["State"]["Health"]["Status"] == "healthy"
        docker("exec", name, "python", "-I", "-S", "/venv/healthcheck.py")
    probe = docker("run", "--rm", "--entrypoint", "python", image, "-c", _DEAF)
    assert probe == "1"


#: The health check where nothing listens.
_DEAF = (
    "import subprocess as s, sys; print(s.run([sys.executable, '/venv/healthcheck.py'], stderr=s.DEVNULL).returncode)"
)


def test_the_same_inputs_give_the_same_layers(image: str, tag: str, report: Callable[[str], None]) -> None:
    """Two builds from nothing: what a cache holds may have been made from what the package index had another day."""
    names = (f"{tag}:first", f"{tag}:second")
    began = time.monotonic()
    try:
        for name in names:
            build(name, "--no-cache")
        first, second = (inspect(name)["RootFS"]["Layers"] for name in names)
    finally:
        docker("image", "rm", "--force", *names)
    same = sum(one == other for one, other in zip(first, second, strict=True))
    report(f"built twice without cache in {time.monotonic() - began:.0f} s: {same} of {len(first)} layers are the same")
    assert first == second


def test_workers_and_an_engine_run_as_confined_as_one_process(image: str) -> None:
    with container(image, "--env", "MOBILENET_WORKERS=2") as name:
        wait_until_healthy(name)
        answer = httpx.post(f"http://{address(name)}:8000/classify", content=png(1), timeout=30)
        assert answer.status_code == 200
        # Healthy is one worker that is ready; the other may still start.
        workers = 'mobilenet_processes{kind="worker",state="ready"}'
        until(lambda: metric(name, workers) == 2, timeout=30, what="both workers ready")
        docker("stop", "--time", "30", name)
        assert inspect(name)["State"]["ExitCode"] == 0


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert hadolint is not None
    for dockerfile in [ROOT / "Dockerfile", *ROOT.glob("tests/containers/*.Dockerfile")]:
        assert run([hadolint, "--no-color", str(dockerfile)]) == ""


@pytest.mark.parametrize("script", sorted((ROOT / "deploy").rglob("*.sh")), ids=lambda path: path.name)
def test_scripts_parse(script: Path) -> None:
    run(["bash", "-n", str(script)])


def test_sigterm_during_the_start_ends_it(image: str) -> None:
    with container(image, "--init") as name:
        docker("kill", "--signal", str(signal.SIGTERM.value), name)
        until(lambda: not inspect(name)["State"]["Running"], timeout=10, what="stopped")
