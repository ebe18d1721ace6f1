"""Versions change in a running service, by the commands and by the file, and no request notices."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.host.runtime_directory import sockets
from service.model.aliases import ALIASES, Aliases, Canary, dump
from service.model.artifact import Artifact, FileDigest, load
from service.serving.admin import ask
from service.store.write import manifest_bytes, serialize
from tests.artifacts import make_artifact
from tests.e2e.process import PATIENT, ServerProcess, server
from tests.running import png
from tests.waiting import until

pytestmark = pytest.mark.slow

PHOTO = png(5)
VERSIONS = "1234"


def variant(artifact: Artifact, version: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Another version beside ``artifact`` whose weights differ by ``change``."""
    weights = artifact.load_weights()
    change(weights)
    data = serialize(weights)
    manifest = artifact.manifest.model_copy(update={"version": version, "weights": FileDigest.of(data)})
    directory = artifact.directory.parent / version
    shutil.copytree(artifact.directory, directory)
    (directory / "weights.safetensors").write_bytes(data)
    (directory / "model.json").write_bytes(manifest_bytes(manifest))


def scaled(by: float) -> Callable[[dict[str, Any]], None]:
    """Other probabilities, the same classes."""

    def change(weights: dict[str, Any]) -> None:
        for name in ("classifier.1.weight", "classifier.1.bias"):
            weights[name] = (weights[name] * by).astype(np.float32)

    return change


def permuted(weights: dict[str, Any]) -> None:
    for name in ("classifier.1.weight", "classifier.1.bias"):
        weights[name] = np.roll(weights[name], 1, axis=0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pets/1 to pets/4, which agree on every class, and pets/bad, whose classes are permuted."""
    store = tmp_path_factory.mktemp("made")
    artifact = make_artifact(store, name="pets", crop_size=64)
    for number, version in enumerate(VERSIONS[1:], 1):
        variant(artifact, version, scaled(1 + number / 10))
    variant(artifact, "bad", permuted)
    photos = store / "pets" / ".parity"
    photos.mkdir()
    for marker in range(5):
        (photos / f"{marker}.png").write_bytes(png(marker))
    return store


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "store"))


@contextmanager
def serving(store: Path, *options: str) -> Iterator[ServerProcess]:
    with server("--model-store", str(store), "--model", "pets", *PATIENT, *options) as running:
        assert running.url
        yield running
        assert running.terminate() == 0
    assert "Traceback" not in running.output


def answer(running: ServerProcess, **parameters: str) -> dict[str, Any]:
    found = httpx.post(f"{running.url}/classify", content=PHOTO, params=parameters, timeout=60)
    assert found.status_code == 200, found.text
    return dict(found.json())


def command(store: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "service", "models", *arguments, "--model-store", str(store)]
    return subprocess.run(program, capture_output=True, text=True, timeout=170)


def status(store: Path) -> dict[str, Any]:
    (path,) = sockets(store)
    return dict(ask(path, {"do": "status"}, 30)["models"]["pets"])


class Visitors:
    """Ask all the time, on new connections and on old ones, and count what they get."""

    def __init__(self, running: ServerProcess, count: int, pause_s: float) -> None:
        self.answers: Counter[tuple[int, str, float]] = Counter()
        self._stop = threading.Event()
        self._running, self._pause_s = running, pause_s
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(count)]

    def __enter__(self) -> Visitors:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        client = httpx.Client(base_url=self._running.url, timeout=60)
        while not self._stop.wait(self._pause_s):
            if number % 2:
                client.close()
                client = httpx.Client(base_url=self._running.url, timeout=60)
            try:
                found = client.post("/classify", content=PHOTO)
            except httpx.HTTPError as error:
                self.answers[0, type(error).__name__, 0.0] += 1
                continue
            version, probability = found.text, 0.0
            if found.status_code == 200:
                body = found.json()
                version, probability = body["version"], body["results"][0]["predictions"][0]["probability"]
            self.answers[found.status_code, version, probability] += 1
        client.close()


@pytest.mark.parametrize(
    ("promotions", "apart_s"), [(4, 0.0), pytest.param(20, 5.0, marks=[pytest.mark.torture, pytest.mark.timeout(600)])]
)
def test_promotions_under_load_fail_no_request(
    store: Path, promotions: int, apart_s: float, report: Callable[[str], None]
) -> None:
    with serving(store, "--keep-previous", "0") as running:
        right: dict[str, float] = {}
        with Visitors(running, 4, 0.05) as visitors:
            for number in range(promotions):
                version = VERSIONS[(number + 1) % len(VERSIONS)]
                done = command(store, "promote", f"pets/{version}")
                assert done.returncode == 0, done.stderr + done.stdout
                found = answer(running)
                assert found["version"] == version, "after the verdict it answers"
                right[version] = found["results"][0]["predictions"][0]["probability"]
                time.sleep(apart_s)
        until(lambda: len(status(store)["loaded"]) == 1, timeout=30, what="the others are unloaded")
        report(f"{promotions} promotions: {sum(visitors.answers.values())} requests")
        wrong = {got: count for got, count in visitors.answers.items() if got[0] != 200}
        assert wrong == {}
        assert {named for _, named, _ in visitors.answers} == set(VERSIONS)
        for _, named, probability in visitors.answers:
            assert probability == pytest.approx(right[named], abs=1e-6), "the right values of that version"
        assert json.loads((store / ALIASES).read_bytes()) == {"pets": {"stable": version}}


def test_a_bad_version_changes_nothing(store: Path) -> None:
    with serving(store) as running, Visitors(running, 2, 0.05) as visitors:
        refused = command(store, "promote", "pets/bad")
        assert refused.returncode == 1
        assert "agree on" in refused.stderr + refused.stdout
        assert not (store / ALIASES).exists()
        assert answer(running)["version"] == "1"
        assert httpx.get(f"{running.url}/readyz").status_code == 200
        assert status(store)["loaded"] == ["1"]
    assert {key[:2] for key in visitors.answers} == {(200, "1")}


def test_back_at_once_while_the_previous_version_is_kept(store: Path, report: Callable[[str], None]) -> None:
    with serving(store) as running:
        assert command(store, "promote", "pets/2").returncode == 0
        (path,) = sockets(store)
        began = time.monotonic()
        verdict = ask(path, {"do": "change", "aliases": {"pets": {"stable": "1"}}}, 60)
        assert verdict["ok"], verdict
        first = answer(running)
        seconds = time.monotonic() - began
        assert first["version"] == "1"
        report(f"rollback of a kept version: first answer after {seconds * 1e3:.0f} ms")
        assert seconds < 0.5
        assert command(store, "promote", "pets/2").returncode == 0
        assert command(store, "rollback", "pets").returncode == 0
        assert answer(running)["version"] == "1"
        assert "pets" in command(store, "status").stdout


def test_the_file_decides_at_the_start_and_at_a_hang_up(store: Path) -> None:
    (store / ALIASES).write_bytes(dump({"pets": Aliases("2", canary=Canary("3", 50.0))}))
    with serving(store) as running:
        assert "pets/2" in running.output
        until(lambda: status(store)["canary"] is not None, timeout=60, what="the canary is loaded")
        assert answer(running, alias="canary")["version"] == "3"
        asked = [
            httpx.post(f"{running.url}/classify", content=PHOTO, headers={"X-Split-Key": f"{n}"}).json()["version"]
            for n in range(40)
        ]
        assert set(asked) == {"2", "3"}
        assert {answer(running)["version"] for _ in range(5)} in ({"2"}, {"3"}), "the same photo, the same version"
        vectors = {httpx.post(f"{running.url}/embed", content=png(n)).json()["version"] for n in range(20)}
        assert vectors == {"2"}, "vectors never come from a canary by chance"
        (store / ALIASES).write_bytes(dump({"pets": Aliases("4")}))
        os.kill(running.process.pid, signal.SIGHUP)
        until(lambda: answer(running)["version"] == "4", timeout=60, what="the file is read again")
        (store / ALIASES).write_text('{"pets": {"stable": "nothing"}}')
        os.kill(running.process.pid, signal.SIGHUP)
        until(lambda: "no model pets/nothing" in running.output, timeout=60, what="it is refused")
        assert answer(running)["version"] == "4"


def test_a_canary_that_cannot_be_loaded_does_not_keep_the_service_from_starting(store: Path) -> None:
    (store / ALIASES).write_bytes(dump({"pets": Aliases("1", canary=Canary("gone", 10.0))}))
    with serving(store) as running:
        until(lambda: "no model pets/gone" in running.output, timeout=60, what="it is refused")
        assert httpx.get(f"{running.url}/readyz").status_code == 200
        assert answer(running)["version"] == "1"


def test_several_models_by_name(store: Path) -> None:
    make_artifact(store, name="cars", version="7", seed=3, crop_size=32, num_classes=3)
    with server("--model-store", str(store), "--models", "pets,cars/7", *PATIENT) as running:
        client = httpx.Client(base_url=running.url, timeout=60)
        with client:
            assert client.post("/classify", content=PHOTO).json()["model"] == "pets"
            cars = client.post("/models/cars/classify?top_k=3", content=PHOTO).json()
            assert (cars["model"], cars["version"], len(cars["results"][0]["predictions"])) == ("cars", "7", 3)
            assert client.post("/models/cars/classify?top_k=4", content=PHOTO).status_code == 422
            assert client.post("/models/boats/classify", content=PHOTO).status_code == 404
            assert client.post("/models/cars/embed", content=PHOTO).json()["embedding_id"].startswith("cars/7;")
            assert client.get("/models/cars/readyz").status_code == 200
            assert client.get("/models/boats/readyz").status_code == 404
            assert [card["name"] for card in client.get("/models").json()["models"]] == ["pets", "cars"]
            assert 'endpoint="models/{name}/classify"' in client.get("/metrics").text
        assert running.terminate() == 0
    assert load(store, "cars", "7").digest
