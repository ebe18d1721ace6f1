"""An engine process over a device that takes the time of a large GPU, and no processor time (``benchmarks.front``)."""

from __future__ import annotations

import threading
import time

import numpy as np

from benchmarks.wire import Instant
from service.model.outputs import BatchOutputs
from service.model.runtime import Classes, Images
from service.processes import engine_process as engine
from service.runtimes.torch.replay import gather
from service.serving import build as assembly

#: Seconds of a batch, and more for each image; the most images.
LAUNCH_S, IMAGE_S, BATCH = 0.4e-3, 0.03e-3, 64


class LargeDevice(Instant):
    """One batch after the other."""

    name = "cost-curve"

    def __init__(self) -> None:
        super().__init__()
        self._free = threading.Lock()
        self._pinned = np.empty((BATCH, 224, 224, 3), np.uint8)

    def run(self, images: Images, *, classes: Classes = None, alone: bool = False) -> BatchOutputs:
        gather(images, self._pinned)
        with self._free:
            time.sleep(LAUNCH_S + IMAGE_S * len(images))
        return super().run(images, classes=classes)


def main() -> None:
    assembly.create_runtime = lambda chosen, artifact: LargeDevice()
    engine.main()
