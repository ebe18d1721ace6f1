"""Files of a model that are not what its manifest says, and disks that are read-only: one line, no traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.model import artifact
from service.model.artifact import Artifact, Derived
from service.runtimes.openvino.imports import ov
from service.runtimes.openvino.runtime import graph_from_weights
from service.store.write import manifest_bytes
from tests.artifacts import digest, make_artifact
from tests.e2e.process import server
from tests.hostile.faults.faulty import GOOD
from tests.hostile.faults.namespaces import where_nothing_can_be_written
from tests.running import png

pytestmark = pytest.mark.slow


@pytest.fixture
def with_graph(tmp_path: Path) -> Artifact:
    """A model with an int8 graph, which is in truth its fp32 one: nothing here computes with it."""
    found = make_artifact(tmp_path, width_mult=0.1)
    ov.save_model(graph_from_weights(found, "fp32"), found.directory / "int8.xml", compress_to_fp16=False)
    describe_graph(found)
    return found


def describe_graph(found: Artifact) -> None:
    """Let the manifest say of the graph's files what they are now."""
    graph, constants = (digest((found.directory / name).read_bytes()) for name in ("int8.xml", "int8.bin"))
    made_from = found.manifest.fingerprint()
    derived = Derived(graph=graph, constants=constants, made_from=made_from, recipe="none", calibration="none")
    manifest = found.manifest.model_copy(update={"derived": {"int8": derived}})
    (found.directory / artifact.MANIFEST).write_bytes(manifest_bytes(manifest))


def refusal_of_int8(found: Artifact) -> str:
    """The last line of a process that was to serve the int8 graph."""
    store = str(found.directory.parent.parent)
    with server("--model-store", store, "--model", "tiny", "--precision", "int8", "--device", "cpu") as running:
        assert running.wait() == 1
    assert "Traceback" not in running.output
    return running.lines[-1]


@pytest.mark.parametrize(
    ("name", "damage", "complaint"),
    [
        ("int8.xml", "flip", "int8.xml is corrupt (its sha256 is not the manifest's)"),
        ("int8.bin", "cut", "int8.bin is corrupt (its sha256 is not the manifest's)"),
        ("int8.bin", "remove", "int8.bin is missing"),
    ],
)
def test_a_damaged_graph_is_refused(with_graph: Artifact, name: str, damage: str, complaint: str) -> None:
    path = with_graph.directory / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    if damage != "remove":
        path.write_bytes(content if damage == "flip" else content[: len(content) // 2])
    refusal = refusal_of_int8(with_graph)
    assert refusal == f"error: tiny/1: {complaint}; run: mobilenet-service models quantize tiny/1\n"


@pytest.mark.parametrize("name", ["int8.xml", "int8.bin"])
def test_a_graph_that_is_intact_and_nonsense_is_refused(with_graph: Artifact, name: str) -> None:
    """What another version of OpenVINO or a faulty disk under ``models quantize`` could have left."""
    path = with_graph.directory / name
    path.write_bytes(path.read_bytes()[:200])
    describe_graph(with_graph)
    refusal = refusal_of_int8(with_graph)
    assert refusal.startswith("error: tiny/1: this OpenVINO cannot read the int8 graph; run: ")


def test_without_a_folder_to_write_to_workers_are_refused_in_one_line(tiny: list[str]) -> None:
    with server(*tiny, "--workers", "2", program=where_nothing_can_be_written()) as running:
        assert running.wait() == 1
    assert running.output.startswith(
        "error: no directory for metrics can be made in /dev/shm: No usable temporary directory found in "
    )
    assert len(running.lines) == 1


def test_one_process_needs_no_folder_to_write_to(tiny: list[str]) -> None:
    with server(*tiny, program=where_nothing_can_be_written()) as running:
        with running.client() as client:
            assert client.post("/classify", content=png(GOOD)).status_code == 200
            assert client.post("/explain", content=png(GOOD), headers={"Accept": "image/png"}).status_code == 200
        assert running.terminate() == 0
    assert "Traceback" not in running.output
