"""The service on a device that takes the time of a large GPU, and no processor time: the program that part ``http`` of
``benchmarks.gpu`` starts in its tests.

A batch takes 0.4 ms and 0.03 ms for each image, one batch at a time; the start takes as many seconds as ``START_S`` of
the environment says.
"""

from __future__ import annotations

import os
import threading
import time

import numpy as np

from benchmarks.gpu import sampler
from benchmarks.wire import Instant
from service.model.artifact import Artifact
from service.model.outputs import BatchOutputs
from service.model.runtime import Classes, Images, Runtime, RuntimeOptions
from service.processes.wire.slots import Layout
from service.serving import build

START_S = "TEST_START_S"
_LAUNCH_S, _IMAGE_S = 0.4e-3, 0.03e-3


class LargeDevice(Instant):
    def __init__(self, artifact: Artifact) -> None:
        size, network = artifact.manifest.preprocessing.crop_size, artifact.network
        side = network.feature_size(size)
        super().__init__(Layout(size, network.num_classes, network.embedding_dim, side, slots=1))
        self._free = threading.Lock()
        self._pinned = np.empty((self.max_batch, size, size, 3), np.uint8)

    def run(self, images: Images, *, classes: Classes = None, alone: bool = False) -> BatchOutputs:
        for row, image in zip(self._pinned, images, strict=False):
            row[:] = image
        with self._free:
            time.sleep(_LAUNCH_S + _IMAGE_S * len(images))
        return super().run(images)


def create_runtime(options: RuntimeOptions, artifact: Artifact) -> Runtime:
    time.sleep(float(os.environ[START_S]))
    return LargeDevice(artifact)


def main() -> None:
    build.create_runtime = create_runtime
    sampler.main("tests.benchmarks.large_device")


if __name__ == "__main__":
    main()
