"""Limits on open files from 64 upward: the service serves, or says at its start that it cannot."""

from __future__ import annotations

import pytest

from tests.artifacts import make_artifact
from tests.e2e.process import ServerProcess, server
from tests.processes import tree
from tests.running import png
from tests.waiting import until

pytestmark = pytest.mark.slow

WORKERS = ("0", "2", "8")
#: What is needed beside the connections, by number of workers.
NEEDED = {"0": 128, "2": 140, "8": 176}


def limited(files: int) -> tuple[str, ...]:
    """The service with a hard limit, which even root cannot raise again without asking."""
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files}))"
    return "-c", f"{limit}; from service.cli import main; main()"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    store = tmp_path_factory.mktemp("store")
    make_artifact(store, width_mult=0.1)
    return ["--model-store", str(store), "--model", "tiny"]


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("files", [64, 100, "the most that is refused"], ids=str)
def test_too_few_are_one_line_at_the_start(tiny: list[str], workers: str, files: int | str) -> None:
    most = files if isinstance(files, int) else NEEDED[workers]
    with server(*tiny, "--workers", workers, program=limited(most)) as running:
        assert running.wait() == 1
    assert running.output == (
        f"error: the limit on open files is {most}, and the service needs {NEEDED[workers]} beside its connections; "
        f"raise it: ulimit -n {NEEDED[workers] + 1024}\n"
    )


def serves(running: ServerProcess) -> None:
    """To twenty clients at once, each on a connection that it opens anew."""
    for _ in range(20):
        with running.client() as client:
            assert client.post("/classify", content=png(1)).status_code == 200
            assert client.get("/docs").status_code == 200


@pytest.mark.parametrize(
    ("workers", "more"),
    [("0", 1), ("2", 1), *(pytest.param(w, m, marks=pytest.mark.torture) for w in WORKERS for m in (2, 9, 40, 128))],
)
def test_one_more_is_enough_to_serve(tiny: list[str], workers: str, more: int) -> None:
    with server(*tiny, "--workers", workers, program=limited(NEEDED[workers] + more)) as running:
        serves(running)
        assert running.terminate() == 0
    assert "Traceback" not in running.output


@pytest.mark.torture
def test_as_many_workers_as_a_limit_allows_start_and_serve(tiny: list[str]) -> None:
    """The supervisor and the engine have some files for each worker."""
    workers = 40
    with server(
        *tiny, "--workers", str(workers), "--devices", "cpu", program=limited(128 + 6 * workers + 1)
    ) as running:
        assert running.url
        ready = 'mobilenet_processes{kind="worker",state="ready"}'
        until(lambda: f"{ready} {workers}.0" in _metrics(running), timeout=300, what="all workers are ready")
        serves(running)
        assert running.terminate() == 0
    assert "Traceback" not in running.output


def _metrics(running: ServerProcess) -> str:
    with running.client() as client:
        return client.get("/metrics").text


def test_no_process_comes_near_what_is_set_aside(tiny: list[str]) -> None:
    counts = {}
    for workers in (2, 8):
        with server(*tiny, "--workers", str(workers), "--devices", "cpu") as running:
            ready = 'mobilenet_processes{kind="worker",state="ready"}'
            assert running.url
            until(lambda: f"{ready} {workers}.0" in _metrics(running), timeout=60, what="all are ready")  # noqa: B023
            members = tree.all_children(running.process.pid)
            counts[workers] = [
                tree.descriptors(pid) for pid in (running.process.pid, members["engine-0"], members["worker-0"])
            ]
    for few, many in zip(counts[2][:2], counts[8][:2], strict=True):
        assert many - few <= 3 * 6, "per worker"
    assert max(max(found) for found in counts.values()) < 64
