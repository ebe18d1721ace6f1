"""The torch side: torchvision's ``mobilenet_v2`` with the weights, the transform and the labels that our server uses.

``PEER_PRECISION`` fp32 is eager float32, as every peer's documentation has it; bf16 is ``torch.autocast``.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file
from torchvision import transforms
from torchvision.models import mobilenet_v2

ARTIFACT = Path(__file__).parents[2] / "model_store" / "mobilenet_v2" / "1"
PREPROCESSING = json.loads((ARTIFACT / "model.json").read_text())["preprocessing"]
LABELS = (ARTIFACT / "labels.txt").read_text().split("\n")
AUTOCAST = os.environ.get("PEER_PRECISION", "fp32") == "bf16"

Answer = list[dict[str, Any]]


def load_model() -> torch.nn.Module:
    """(B, 3, 224, 224) float32 → (B, 1000) logits."""
    model: torch.nn.Module = mobilenet_v2()
    model.load_state_dict(load_file(ARTIFACT / "weights.safetensors"))
    return model.eval()


def _rotate(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.ROTATE_180) if PREPROCESSING["rotate_180"] else image


#: PIL image → (3, 224, 224) float32.
transform = transforms.Compose(
    [
        transforms.Resize(PREPROCESSING["resize_size"]),
        transforms.CenterCrop(PREPROCESSING["crop_size"]),
        _rotate,
        transforms.ToTensor(),
        transforms.Normalize(PREPROCESSING["mean"], PREPROCESSING["std"]),
    ]
)


def prepare(jpeg: bytes) -> Any:
    return transform(Image.open(io.BytesIO(jpeg)).convert("RGB"))


def load(threads: int, callers: int = 1) -> Callable[[Sequence[Any]], list[Answer]]:
    """``callers``, the number of threads that will call at once, does not matter to torch."""
    torch.set_num_threads(threads)
    model = load_model()

    def classify(images: Sequence[Any]) -> list[Answer]:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=AUTOCAST):
            logits = model(torch.stack([torch.as_tensor(image) for image in images]))
        return top5(logits.float())

    return classify


def top5(logits: torch.Tensor) -> list[Answer]:
    scores, classes = logits.softmax(dim=1).topk(5)
    return [
        [{"label": LABELS[index], "score": score} for index, score in zip(*row, strict=True)]
        for row in zip(classes.tolist(), scores.tolist(), strict=True)
    ]
