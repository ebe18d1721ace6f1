from __future__ import annotations

import pytest

from service.model.artifact import Artifact
from tests.artifacts import make_artifact


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Small, so that a forward pass takes milliseconds."""
    return make_artifact(tmp_path_factory.mktemp("store"), num_classes=10, resize_size=64, crop_size=64)
