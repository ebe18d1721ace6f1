"""Fixtures of the service's own tests that these share."""

from __future__ import annotations

import pytest

from tests.conftest import real_artifact

__all__ = ["real_artifact"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
