"""Wall clocks jump: an NTP step, a suspended machine, an operator's hand. Deadlines must not.

Ruff lets only what people read ask for the time of day (``banned-api`` in pyproject.toml).
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from service.model import artifact
from tests.fakes import FakeRuntime
from tests.running import png, running_app


@pytest.mark.parametrize("jump_s", [-1e6, 1e6])
def test_deadlines_hold_while_the_clock_jumps(tiny_store: Path, monkeypatch: pytest.MonkeyPatch, jump_s: float) -> None:
    released = threading.Event()
    real = time.time
    jumped = 0.0

    def jump(images: NDArray[np.uint8]) -> None:
        nonlocal jumped
        if images[0, 0, 0, 2] == 1:
            jumped = jump_s
            if images[0, 0, 0, 0] == 2:
                released.wait(30)

    monkeypatch.setattr(time, "time", lambda: real() + jumped)
    with running_app(artifact.load(tiny_store, "tiny", "1"), FakeRuntime(before=jump)) as app:
        # It jumps while this one is inferred, and nothing comes of it.
        assert app.client.post("/classify", content=png(1)).status_code == 200
        assert time.time() - real() == pytest.approx(jump_s, abs=60)
        began = time.monotonic()
        answer = app.client.post("/classify", content=png(2), headers={"X-Request-Timeout-Ms": "300"})
        took = time.monotonic() - began
        released.set()
        assert answer.status_code == 504
        assert 0.3 <= took < 10
        assert app.client.post("/classify", content=png(1)).status_code == 200
        assert app.client.get("/readyz").status_code == 200
