"""More than all replicas take: each that is asked refuses, and the client is told what the service said."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.containers.conftest import stack_of
from tests.containers.traffic import Traffic
from tests.waiting import until


def test_a_refusal_reaches_the_client_as_the_service_said_it(
    image: str, tag: str, bodies: list[bytes], report: Callable[[str], None]
) -> None:
    with (
        stack_of(2, f"{tag}-full", image, MOBILENET_MAX_IN_FLIGHT="1") as stack,
        Traffic(stack.url, bodies, clients=32) as traffic,
    ):
        until(lambda: len(traffic.refusals) >= 100, timeout=60, what="a hundred refusals")
        traffic.wait_for(50)
    report(f"two replicas that take one image each, 32 clients: {dict(traffic.statuses)}")
    assert traffic.broken == []
    assert set(traffic.statuses) == {200, 503}
    for retry_after, body in traffic.refusals:
        assert retry_after is not None
        assert 1 <= int(retry_after) <= 30
        assert json.loads(body)["title"] == "Overloaded"
