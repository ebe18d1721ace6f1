"""What a new version must pass before it answers anyone: enough memory, varied and finite answers, cost, agreement.

    check_memory ─► load: digests, probe image ─► compare: cost of a forward pass ─► answers to photos ─► Figures
          └──────────────────┴─ load_refusal ──────────────┴───────────────────────────┴─► Refused

A candidate is compared with the version that answers now, on the engine that serves both. Requests go first: photos
are inferred one at a time, at low priority, with a pause after each.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from zlib import crc32

import numpy as np

from service.engine.client import InferResult, Source
from service.engine.warmup import probe_image
from service.errors import (
    ArtifactError,
    BadImage,
    DeadlineExceeded,
    ImageTooLarge,
    InferenceFailed,
    OperatorError,
    ServiceError,
    UnsupportedFormat,
)
from service.host.memory import free_memory
from service.image import Findings, inspect
from service.model.artifact import Artifact
from service.model.outputs import ItemOutput, normalize
from service.serving.intake import Served
from service.store.photos import image_files, read_photo

logger = logging.getLogger(__name__)

#: What a version takes at most while it is loaded, as multiples of its weights, within a fifth: 91 MiB for the default
#: model on two runners, of which 86 stay. Measured for widths 1.0 and 1.4 on 1, 2 and 4 runners.
_COPIES = 1.3
_COPIES_PER_GRAPH = 1.8

#: A forward pass may take this many times as long as the present version's.
MAX_COST_RATIO = 1.5
#: Forward passes of each version. The ratio is that of the shortest ones or the median of all ratios, whichever is
#: less, and a high one is measured again: on a machine with seven times more work than cores, ten passes of the same
#: network gave ratios up to 2.5 of the shortest and up to 2.1 in the median, hardly ever both.
_PASSES = 10
_ROUNDS = 3

#: The share of photos on which both versions must name the same class first. Measured on 248 photos of as many classes:
#: 1.0 if the last convolution's weights change by 5 %, 0.93 if photos are resized or cropped otherwise, 0.79 if red and
#: blue are exchanged, 0.5 if half of the classes are permuted, 0.0 if all are.
MIN_AGREEMENT = 0.8
#: Of the photos, the share whose class both versions must know; else agreement says nothing.
_COMPARABLE = 0.5

#: Scores that differ between photos by no more than this share of their range are the same.
_CONSTANT = 1e-3

#: How long one forward pass may wait behind requests.
_PATIENCE_S = 30.0
PAUSE_S = 0.05

#: Folder of an operator's own photos, in that of the model.
PARITY = ".parity"
_MAX_PHOTOS = 64
_MAX_BYTES = 32 * 2**20
_BUILT_IN = Path(__file__).parent / "photos"

#: The reason for which a version cannot be loaded, by a part of the error's sentence.
_LOAD_REASONS = {
    "not finite": "not_finite",
    "every class the same score": "constant",
    "no model ": "missing",
    "is missing": "missing",
    "never pulled": "missing",
}


@dataclass(frozen=True, slots=True)
class Figures:
    """How a candidate compares with the present version; None: not known, or not defined."""

    agreement: float | None = None  # share of photos with the same first label
    cosine: float | None = None  # mean, between embeddings of one photo
    cost_ratio: float | None = None  # of a forward pass
    #: What was compared, for people.
    sentence: str = ""


class Refused(OperatorError):
    """The candidate must not answer requests. ``reason`` is one word."""

    def __init__(self, reason: str, sentence: str, figures: Figures = Figures()) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.figures = figures


def check_memory(artifact: Artifact, runners: int) -> None:
    """Raise Refused unless the memory that is left suffices for one more version. Call before it is loaded."""
    weights = artifact.manifest.weights
    graphs = runners + (runners > 1)  # one more for images that are alone
    needed = round((_COPIES + _COPIES_PER_GRAPH * graphs) * weights.bytes) if weights else 0
    if needed > (left := free_memory()):
        sentence = f"{artifact.reference} needs {_mebibytes(needed)} MiB of memory, {_mebibytes(left)} are left"
        raise Refused("memory", sentence)


def load_refusal(error: OperatorError) -> Refused:
    """The refusal of a version that could not be loaded, because of ``error``."""
    known = (reason for part, reason in _LOAD_REASONS.items() if part in str(error))
    return Refused(next(known, "corrupt" if isinstance(error, ArtifactError) else "failed"), str(error))


async def compare(
    candidate: Served,
    current: Served | None,
    photos: Sequence[bytes],
    accept: Collection[str],
    *,
    pause_s: float = PAUSE_S,
) -> Figures:
    """How ``candidate`` compares with ``current``; Refused if that is bad, or if its answers are bad in themselves.

    ``accept`` may have "slower" and "disagreement", for which nothing is refused then. Photos that cannot be decoded
    are left out. Without ``current`` there are no figures.
    """
    try:
        figures = Figures()
        if current is not None:
            figures = replace(figures, cost_ratio=await _cost_ratio(candidate, current, accept, pause_s))
        answers, pairs = await _answers(candidate, current, photos, pause_s)
    except ServiceError as error:
        raise _failure(candidate, error) from None
    scores = np.stack([answer.logits for answer in answers])
    if np.ptp(scores, axis=0).max() <= _CONSTANT * np.ptp(scores):
        raise Refused("constant", f"{candidate.reference} answers every photo alike; check its weights", figures)
    photo_answers = len(answers) - 1  # the first one is that to the probe image
    left_out = f", {len(photos) - photo_answers} more cannot be decoded" * (photo_answers < len(photos))
    if current is None or not pairs:
        return replace(figures, sentence=f"{candidate.reference} answers {photo_answers} photos{left_out}")
    return _parity(candidate, current, pairs, accept, figures, left_out)


def parity_photos(store: Path, name: str) -> list[bytes]:
    """The operator's photos in ``store/name/.parity``, without those that are not readable; else the built-in ones.

    At most 64 photos and 32 MiB; of a larger folder always the same ones, from all over it. Blocks.
    """
    folder = store / name / PARITY
    photos: list[bytes] = []
    room, unreadable = _MAX_BYTES, 0
    with suppress(OperatorError):  # there is no such folder, or no image in it
        for path in sorted(image_files(folder), key=lambda path: crc32(path.name.encode()))[:_MAX_PHOTOS]:
            try:
                if path.stat().st_size <= room:
                    inspect(data := read_photo(path))
                    photos.append(data)
                    room -= len(data)
            except (OSError, ServiceError):
                unreadable += 1
    if folder.exists() and (unreadable or not photos):
        fields = {"folder": str(folder), "unreadable": unreadable, "photos": len(photos)}
        logger.warning("photos for the comparison of versions are left out", extra={"fields": fields})
    return photos or [path.read_bytes() for path in sorted(_BUILT_IN.glob("*.jpg"))]


async def _cost_ratio(candidate: Served, current: Served, accept: Collection[str], pause_s: float) -> float | None:
    """Of forward passes that alternate, so that other work slows both alike; None if ``current`` fails."""
    pairs: list[tuple[float, float]] = []
    for _ in range(_ROUNDS):
        for _ in range(_PASSES):
            seconds = await _pass_seconds(candidate)
            with suppress(InferenceFailed):
                pairs.append((seconds, await _pass_seconds(current)))
            await asyncio.sleep(pause_s)
        if not pairs:
            return None
        ours, theirs = min(mine for mine, _ in pairs), min(other for _, other in pairs)
        ratio = min(ours / theirs, median(mine / other for mine, other in pairs))
        if ratio <= MAX_COST_RATIO or "slower" in accept:
            return ratio
    raise Refused(
        "slower",
        f"a forward pass of {candidate.reference} takes {ours * 1e3:.1f} ms, one of {current.reference} "
        f"{theirs * 1e3:.1f} ms; use --accept-slower if you want that",
        Figures(cost_ratio=ratio),
    )


async def _pass_seconds(served: Served) -> float:
    result = await _infer(served, probe_image(served.transform.crop_size))
    return result.infer_s / result.batch_size


async def _answers(
    candidate: Served, current: Served | None, photos: Sequence[bytes], pause_s: float
) -> tuple[list[ItemOutput], list[tuple[ItemOutput, ItemOutput]]]:
    """The candidate's answers to the probe image and to the photos, and those that ``current`` has an answer to."""
    answers = [(await _infer(candidate, probe_image(candidate.transform.crop_size))).output]
    pairs: list[tuple[ItemOutput, ItemOutput]] = []
    for data in photos:
        await asyncio.sleep(pause_s)
        if (answer := await _answer(candidate, data)) is None:
            continue
        answers.append(answer)
        with suppress(InferenceFailed):  # the candidate may be what repairs that
            if current is not None and (other := await _answer(current, data)) is not None:
                pairs.append((answer, other))
    if len(answers) == 1:
        raise Refused("failed", f"{candidate.reference} was not tried: none of {len(photos)} photos can be decoded")
    return answers, pairs


async def _answer(served: Served, data: bytes) -> ItemOutput | None:
    """None if it is the photo's fault that there is none."""
    try:
        header = inspect(data, served.limits)
        return (await _infer(served, served.source(data, header, Findings()))).output
    except (BadImage, ImageTooLarge, UnsupportedFormat):
        return None


async def _infer(served: Served, source: Source) -> InferResult:
    return await served.engine.infer(served.reference, source, time.monotonic() + _PATIENCE_S, priority="low")


def _failure(candidate: Served, error: ServiceError) -> Refused:
    """The refusal of a version whose trial ended with ``error``."""
    name = candidate.reference
    if isinstance(error, InferenceFailed):
        reason = "not_finite" if "not finite" in error.detail else "failed"
        return Refused(reason, f"{name} fails on a photo: {error.detail}")
    if isinstance(error, DeadlineExceeded):
        return Refused("busy", f"{name} was not tried: the service is too busy, a photo waited {_PATIENCE_S:.0f} s")
    return Refused("failed", f"{name} was not tried: {error.detail}")


def _parity(
    candidate: Served,
    current: Served,
    pairs: Sequence[tuple[ItemOutput, ItemOutput]],
    accept: Collection[str],
    figures: Figures,
    left_out: str,
) -> Figures:
    """``figures`` with the agreement of ``pairs`` by label; Refused if it is too low.

    Classes may stand in another order. Agreement counts the photos whose present label the candidate has, too, if
    these are most.
    """
    both = f"{candidate.reference} and {current.reference}"
    if all(len(mine.embedding) == len(theirs.embedding) for mine, theirs in pairs):
        cosines = [normalize(mine.embedding) @ normalize(theirs.embedding) for mine, theirs in pairs]
        figures = replace(figures, cosine=float(np.mean(cosines)))
    known = frozenset(candidate.labels)
    labels = [(candidate.labels[mine.top[0]], current.labels[theirs.top[0]]) for mine, theirs in pairs]
    comparable = [(mine, theirs) for mine, theirs in labels if theirs in known]
    if len(comparable) < _COMPARABLE * len(labels):
        return replace(figures, sentence=f"{both} have other labels, so their answers cannot be compared")
    same = sum(mine == theirs for mine, theirs in comparable)
    told = f"{both} agree on {same} of {len(comparable)} photos{left_out}"
    figures = replace(figures, agreement=same / len(comparable), sentence=told)
    if same < MIN_AGREEMENT * len(comparable) and "disagreement" not in accept:
        needed = f"{math.ceil(MIN_AGREEMENT * len(comparable))} are needed"
        raise Refused("disagreement", f"{told}, {needed}; use --accept-disagreement if you want that", figures)
    return figures


def _mebibytes(count: int) -> int:
    return round(count / 2**20)
