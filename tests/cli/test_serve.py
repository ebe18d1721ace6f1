"""What ``serve`` relies on in uvicorn without an option for it."""

from __future__ import annotations

import pytest
from uvicorn.protocols.http import flow_control, httptools_impl

from service.config import Settings
from service.http.server.http_server import config
from service.metrics import Metrics
from service.serving.lifecycle import Lifecycle

pytestmark = pytest.mark.anyio


async def test_the_parsers_limit_on_unread_bodies_is_where_we_set_it() -> None:
    assert hasattr(httptools_impl, "HIGH_WATER_LIMIT")
    assert flow_control.HIGH_WATER_LIMIT == 65536, "uvicorn's own default has changed: look at it again"

    async def app(scope: object, receive: object, send: object) -> None: ...

    lifecycle = Lifecycle(drain_s=1.5)
    made = config(app, Settings(), Metrics(), lifecycle)
    assert vars(httptools_impl)["HIGH_WATER_LIMIT"] == 2**18
    assert made.timeout_graceful_shutdown == 2
