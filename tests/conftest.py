"""Fixtures that every test may use."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Asynchronous tests run on asyncio's own event loop and on uvloop, which is what serves."""
    return "asyncio", {"use_uvloop": request.param == "uvloop"}
