"""What a test needs beyond Python packages: a Docker engine, a browser, other HTTP clients, promtool."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(what: str, *, required_by: str) -> NoReturn:
    """Skip the test because of ``what``; fail it where the environment variable ``required_by`` is set, as in CI."""
    if os.environ.get(required_by):
        pytest.fail(f"{what}, and {required_by} is set")
    pytest.skip(what)
