"""``X-Priority: low``: taken only while nobody else waits, and never in the way of others."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from service.model.artifact import Artifact
from tests.fakes import FakeRuntime
from tests.running import png, running_app
from tests.waiting import until


@pytest.mark.parametrize("path", ["/classify", "/embed", "/explain"])
def test_others_are_answered_first(artifact: Artifact, path: str) -> None:
    order: list[int] = []
    released = threading.Event()

    def before(images: NDArray[np.uint8]) -> None:
        order.extend(int(image[0, 0, 0]) for image in images)
        released.wait(30)

    runtime = FakeRuntime(max_batch=1, before=before)
    released.set()
    with running_app(artifact, runtime) as app, ThreadPoolExecutor(8) as pool:
        order.clear()
        released.clear()

        def post(marker: int, priority: str) -> int:
            headers = {"X-Priority": priority}
            return app.client.post(path, content=png(marker), headers=headers).status_code

        answers = [pool.submit(post, 1, "normal")]
        until(lambda: order == [1], timeout=30, what="the first is being inferred")
        for count, (marker, priority) in enumerate([(2, "low"), (3, "LOW"), (4, "normal"), (5, "whatever")], 1):
            answers.append(pool.submit(post, marker, priority))
            app.wait_for_metric('mobilenet_queue_depth{model="tiny",version="1"}', count)
        released.set()
        assert [answer.result(30) for answer in answers] == [200] * 5
    assert order == [1, 4, 5, 2, 3]
