"""Part ``answers``: photos on the device, in each precision, against torch on the CPU in fp32."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.gpu import part
from benchmarks.gpu.part import PHOTOS, Options, decide, say, say_head, say_row
from service.errors import OperatorError
from service.host.cores import available_cores
from service.image import inspect, preprocess
from service.model.artifact import Artifact
from service.model.outputs import BatchOutputs
from service.model.runtime import Images, concatenate
from service.runtimes.torch.network import DTYPES, load_classifier
from service.runtimes.torch.replay import Lane
from service.runtimes.torch.runtime import EagerLane, check_device

#: Of this many images at once on the CPU.
_BATCH = 8


class Accuracy(NamedTuple):
    """Against the reference, over all photos."""

    cosine: float  # of the embeddings, the least
    top1: float  # share with the same strongest class
    logits: float  # largest difference over the largest magnitude


def accuracy(actual: BatchOutputs, expected: BatchOutputs) -> Accuracy:
    products = (actual.embeddings * expected.embeddings).sum(axis=1)
    lengths = np.linalg.norm(actual.embeddings, axis=1) * np.linalg.norm(expected.embeddings, axis=1)
    return Accuracy(
        cosine=float((products / lengths).min()),
        top1=float((actual.top[:, 0] == expected.top[:, 0]).mean()),
        logits=float(np.abs(actual.logits - expected.logits).max() / np.abs(expected.logits).max()),
    )


def reference(artifact: Artifact, images: Images) -> BatchOutputs:
    """torchvision's graph on the CPU."""
    torch.set_num_threads(available_cores())
    lane = EagerLane(load_classifier(artifact), artifact.manifest.preprocessing.crop_size)
    return concatenate([lane.run(images[at : at + _BATCH]) for at in range(0, len(images), _BATCH)])


def prepared(artifact: Artifact, jpegs: Sequence[bytes]) -> list[NDArray[np.uint8]]:
    """Each an array of its own, as they come from slots."""
    transform = artifact.manifest.preprocessing.transform()
    return [preprocess(jpeg, inspect(jpeg), transform) for jpeg in jpegs]


def main(options: Options, deadline: float) -> None:
    artifact = part.load_artifact()
    side = artifact.manifest.preprocessing.crop_size
    images = prepared(artifact, part.jpegs(options)[: PHOTOS if options.gpu else _BATCH])
    expected = reference(artifact, images)
    say(f"{len(images)} photos in one batch.\n")
    say_head("against torch on the CPU, fp32", "least cosine of embeddings", "same top class", "logits, relative error")
    cosines: list[str] = []
    for precision in DTYPES:
        try:
            device = check_device(options.device, precision)
        except OperatorError as reason:
            say_row(precision, str(reason), "", "")
            continue
        module = load_classifier(artifact, folded_to=precision).to(device)
        cosine, top1, logits = accuracy(Lane(module, (len(images),), side, device).run(images), expected)
        say_row(precision, f"{cosine:.6f}", f"{top1:.1%}", f"{logits:.1e}")
        cosines.append(f"{precision} {cosine:.6f}")
    say()
    if not cosines:
        sys.exit("no precision can run here")
    decide(f"Answers, least cosine of the embeddings: {', '.join(cosines)}.")


if __name__ == "__main__":
    part.run(main)
