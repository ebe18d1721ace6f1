"""A loopback server that stands in for a published URL, and stores whose manifests point to it."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from service.model import artifact
from service.model.artifact import Artifact, WeightsSource
from service.store.write import manifest_bytes
from tests.artifacts import make_artifact

if TYPE_CHECKING:
    import torch

State = dict[str, "torch.Tensor"]
Behaviour = Literal["whole", "truncated", "stalled", "no length", "missing"]


@dataclass
class Published:
    """Serves ``body`` at any path, as ``behaviour`` says; ``requests`` counts."""

    port: int
    body: bytes = b""
    behaviour: Behaviour = "whole"
    requests: int = 0
    half_sent: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/models/mobilenet_v2-tiny.pth"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.requests += 1
        if self.behaviour == "missing":
            handler.send_error(404)
            return
        handler.send_response(200)
        if self.behaviour != "no length":
            handler.send_header("Content-Length", str(len(self.body)))
        handler.end_headers()
        half = len(self.body) // 2
        handler.wfile.write(self.body[:half])
        if self.behaviour == "truncated":
            return
        if self.behaviour == "stalled":
            handler.wfile.flush()
            self.half_sent.set()
            self.go_on.wait(30)
        with suppress(ConnectionError):  # the client was killed, which is the point of some tests
            handler.wfile.write(self.body[half:])


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Iterator[Published]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page.answer(self)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        page = Published(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield page
        page.go_on.set()
        server.shutdown()
        thread.join()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What pulls or adds a file of torch's own needs torch."""
    for item in items:
        if isinstance(item, pytest.Function) and {"pth", "state"} & set(item.fixturenames):
            item.add_marker("extra")


@pytest.fixture(scope="session")
def pth(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A state_dict as torchvision publishes it, ``num_batches_tracked`` included: width 0.1, 3 classes."""
    import torch
    from torchvision.models import MobileNetV2

    found = make_artifact(tmp_path_factory.mktemp("pth"), width_mult=0.1, num_classes=3)
    model = MobileNetV2(3, 0.1)
    model.load_state_dict({k: torch.from_numpy(v) for k, v in found.load_weights().items()}, strict=False)
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    return buffer.getvalue()


def unpulled(store: Path, source: WeightsSource) -> Artifact:
    """``store/tiny/1`` without weights, to be pulled from ``source``: width 0.1, 3 classes."""
    found = make_artifact(store, width_mult=0.1, num_classes=3)
    (found.directory / artifact.WEIGHTS).unlink()
    return change_manifest(found, source=source, weights=None)


def change_manifest(found: Artifact, **update: Any) -> Artifact:
    """``found`` with other fields in its manifest, read again."""
    manifest = found.manifest.model_copy(update=update)
    (found.directory / artifact.MANIFEST).write_bytes(manifest_bytes(manifest))
    return artifact.load(found.directory.parent.parent, manifest.name, manifest.version)


@pytest.fixture
def store(tmp_path: Path, published: Published, pth: bytes) -> Path:
    """A store with ``tiny/1`` unpulled, whose source is ``published``, which serves the right file."""
    published.body = pth
    prefix = hashlib.sha256(pth).hexdigest()[:8]
    unpulled(
        tmp_path / "store", WeightsSource(kind="torchvision", origin="tests", url=published.url, sha256_prefix=prefix)
    )
    return tmp_path / "store"


def litter(store: Path) -> list[str]:
    """Everything below ``store`` that is not one of an artifact's three files."""
    known = {artifact.MANIFEST, artifact.LABELS, artifact.WEIGHTS}
    files = [path for path in store.rglob("*") if path.is_file() or path.name.startswith(".")]
    return sorted(str(path.relative_to(store)) for path in files if path.name not in known)


def nothing_was_stored(store: Path) -> bool:
    """Neither weights nor their digest nor a part of a file."""
    weights = store / "tiny/1" / artifact.WEIGHTS
    return not weights.exists() and artifact.load(store, "tiny", "1").manifest.weights is None and litter(store) == []


def child(code: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    """``code`` in a process of its own."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def fail_with(code: int) -> Any:
    """To stand in for a system call that fails with ``code``."""

    def fail(*args: Any, **kwargs: Any) -> NoReturn:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_artifact(tmp_path_factory.mktemp("original"), width_mult=0.1, num_classes=3)


@pytest.fixture
def weights(original: Artifact) -> dict[str, NDArray[np.float32]]:
    return original.load_weights()


@pytest.fixture
def state(original: Artifact) -> State:
    """``original``'s weights as ``state_dict()`` gives them, with the counters that inference does not need."""
    import torch

    state: State = {name: torch.from_numpy(tensor.copy()) for name, tensor in original.load_weights().items()}
    norms = [name for name in state if name.endswith("running_var")]
    return state | {name.replace("running_var", "num_batches_tracked"): torch.tensor(7) for name in norms}


@pytest.fixture
def checkpoint(original: Artifact, tmp_path: Path) -> Path:
    """``original``'s weights as safetensors, counters included."""
    weights = original.load_weights()
    norms = [name for name in weights if name.endswith("running_var")]
    counters = {name.replace("running_var", "num_batches_tracked"): np.array(7) for name in norms}
    save_file(weights | counters, tmp_path / "mine.safetensors")
    return tmp_path / "mine.safetensors"


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    (tmp_path / "labels.txt").write_text("cat\ndog\nbird\n")
    return tmp_path / "labels.txt"
