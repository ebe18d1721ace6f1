"""TorchServe's model file: a single class, filled from the state dict of the archive.

The ``image_classifier`` handler is left alone; it normalises with ImageNet's mean and deviation, and these weights want
others (and a rotated image): two buffers of the state dict put that right.
"""

import os

import torch
from torchvision.models import MobileNetV2


class Classifier(MobileNetV2):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(1, 3, 1, 1))
        self.register_buffer("shift", torch.zeros(1, 3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        images = (images * self.scale + self.shift).flip(2, 3)
        with torch.autocast("cpu", torch.bfloat16, enabled=os.environ.get("PEER_PRECISION") == "bf16"):
            return super().forward(images).float()
