"""BentoML: a batchable API on a list of images."""

from typing import Any

import bentoml
from PIL import Image

from benchmarks.peers.classifier import BATCH, CORES, load
from benchmarks.peers.model import transform


@bentoml.service(logging={"access": {"enabled": False}})
class ImageClassifier:
    def __init__(self) -> None:
        self.model = load(threads=CORES)

    @bentoml.api(batchable=True, max_batch_size=BATCH, max_latency_ms=1000)
    def classify(self, images: list[Image.Image]) -> list[list[dict[str, Any]]]:
        return self.model([transform(image.convert("RGB")) for image in images])
