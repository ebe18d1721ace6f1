"""What a new version must pass, on runtimes that fail as the test says, and once on two real networks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.config import Settings
from service.metrics import Metrics
from service.model.artifact import Artifact
from service.model.outputs import BatchOutputs
from service.serving import gate
from service.serving.build import create_served
from service.serving.gate import Figures, Refused, compare, parity_photos
from service.serving.intake import Served
from service.serving.local import for_one_photo, served_locally
from tests.artifacts import make_artifact
from tests.fakes import FakeRuntime, Gate, given, image_is_probe, started
from tests.running import png
from tests.waiting import eventually, soon

pytestmark = pytest.mark.anyio

PHOTOS = [png(marker) for marker in range(20)]

After = Callable[[NDArray[np.uint8], BatchOutputs], BatchOutputs]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_artifact(tmp_path_factory.mktemp("store"), name="pets", crop_size=32)


@asynccontextmanager
async def serving(
    artifact: Artifact, version: str, runtime: FakeRuntime, labels: Sequence[str] = ()
) -> AsyncIterator[Served]:
    manifest = artifact.manifest.model_copy(update={"version": version})
    made = replace(artifact, manifest=manifest, labels=tuple(labels) or artifact.labels)
    async with started(runtime, model=made.reference) as engine:
        yield create_served(Settings(), made, engine, 100_000, Metrics())


async def verdict(
    artifact: Artifact,
    candidate: FakeRuntime,
    current: FakeRuntime | None = None,
    *,
    labels: Sequence[str] = (),
    photos: Sequence[bytes] = PHOTOS,
    accept: Collection[str] = ("slower",),
) -> Figures:
    """Of pets/2 with ``labels`` beside pets/1; passes of fakes are so short that their times say nothing."""
    async with AsyncExitStack() as stack:
        new = await stack.enter_async_context(serving(artifact, "2", candidate, labels))
        old = await stack.enter_async_context(serving(artifact, "1", current or FakeRuntime()))
        return await compare(new, old, photos, accept, pause_s=0)


def moved(images: NDArray[np.uint8], outputs: BatchOutputs, by: int = 1) -> BatchOutputs:
    """Each class's score is that of another class."""
    return outputs._replace(
        logits=np.roll(outputs.logits, by, axis=1), top=(outputs.top + by) % outputs.logits.shape[1]
    )


def on_photo(marker: int, after: After) -> After:
    """``after`` for one photo only."""

    def change(images: NDArray[np.uint8], outputs: BatchOutputs) -> BatchOutputs:
        return after(images, outputs) if not image_is_probe(images) and images[0, 0, 0, 0] == marker else outputs

    return change


def not_finite(images: NDArray[np.uint8], outputs: BatchOutputs) -> BatchOutputs:
    return outputs._replace(logits=np.full_like(outputs.logits, np.nan))


def constant(images: NDArray[np.uint8], outputs: BatchOutputs) -> BatchOutputs:
    return outputs._replace(logits=np.tile(np.arange(10, dtype=np.float32), (len(images), 1)))


def raises(images: NDArray[np.uint8], outputs: BatchOutputs) -> BatchOutputs:
    raise RuntimeError("this photo")


async def test_a_version_that_agrees_passes_with_its_figures(artifact: Artifact) -> None:
    figures = await verdict(artifact, FakeRuntime())
    assert figures.agreement == 1.0
    assert figures.cosine == pytest.approx(1.0)
    assert figures.cost_ratio is not None
    assert figures.cost_ratio > 0
    assert figures.sentence == "pets/2 and pets/1 agree on 20 of 20 photos"


async def test_classes_are_compared_by_their_labels_whatever_their_order(artifact: Artifact) -> None:
    labels = (*artifact.labels[-1:], *artifact.labels[:-1])
    figures = await verdict(artifact, FakeRuntime(after=moved), labels=labels)
    assert figures.agreement == 1.0


async def test_permuted_classes_are_refused_unless_that_is_accepted(artifact: Artifact) -> None:
    with pytest.raises(Refused) as caught:
        await verdict(artifact, FakeRuntime(after=moved))
    assert caught.value.reason == "disagreement"
    assert str(caught.value) == (
        "pets/2 and pets/1 agree on 0 of 20 photos, 16 are needed; use --accept-disagreement if you want that"
    )
    assert caught.value.figures.agreement == 0.0
    assert caught.value.figures.cosine == pytest.approx(1.0)
    figures = await verdict(artifact, FakeRuntime(after=moved), accept=("slower", "disagreement"))
    assert figures.agreement == 0.0
    assert figures.cosine == pytest.approx(1.0)


@pytest.mark.parametrize(("differ", "passes"), [(4, True), (5, False)])
async def test_a_few_photos_may_differ(artifact: Artifact, differ: int, passes: bool) -> None:
    def change(images: NDArray[np.uint8], outputs: BatchOutputs) -> BatchOutputs:
        return moved(images, outputs) if images[0, 0, 0, 0] < differ else outputs

    try:
        figures = await verdict(artifact, FakeRuntime(after=change))
    except Refused as refused:
        figures = refused.figures
        assert not passes
    else:
        assert passes
    assert figures.agreement == (20 - differ) / 20


async def test_other_labels_are_not_compared_and_that_is_said(artifact: Artifact) -> None:
    figures = await verdict(artifact, FakeRuntime(after=moved), labels=[f"breed {index}" for index in range(10)])
    assert figures.agreement is None
    assert figures.cosine == pytest.approx(1.0)
    assert figures.sentence == "pets/2 and pets/1 have other labels, so their answers cannot be compared"


async def test_a_label_that_was_renamed_hides_no_disagreement(artifact: Artifact) -> None:
    with pytest.raises(Refused, match="agree on 0 of 18 photos, 15 are needed"):
        await verdict(artifact, FakeRuntime(after=moved), labels=("renamed", *artifact.labels[1:]))


async def test_embeddings_of_another_length_have_no_cosine(artifact: Artifact) -> None:
    def longer(images: NDArray[np.uint8], outputs: BatchOutputs) -> BatchOutputs:
        return outputs._replace(embeddings=np.pad(outputs.embeddings, ((0, 0), (0, 1))))

    figures = await verdict(artifact, FakeRuntime(after=longer))
    assert (figures.agreement, figures.cosine) == (1.0, None)


@pytest.mark.parametrize(
    ("after", "reason", "sentence"),
    [
        (
            on_photo(13, not_finite),
            "not_finite",
            "pets/2 fails on a photo: the model's output is not finite for this image",
        ),
        (on_photo(13, raises), "failed", "pets/2 fails on a photo: the model could not process this image"),
        (constant, "constant", "pets/2 answers every photo alike; check its weights"),
    ],
    ids=["not finite on one photo", "raises on one photo", "constant"],
)
@pytest.mark.parametrize("alone", [False, True])
async def test_bad_answers_are_refused_whatever_is_accepted(
    artifact: Artifact, after: After, reason: str, sentence: str, alone: bool
) -> None:
    async with (
        serving(artifact, "2", FakeRuntime(after=after)) as new,
        serving(artifact, "1", FakeRuntime()) as old,
    ):
        with pytest.raises(Refused) as caught:
            await compare(new, None if alone else old, PHOTOS, ("slower", "disagreement"), pause_s=0)
    assert (caught.value.reason, str(caught.value)) == (reason, sentence)


async def test_a_version_may_repair_what_fails_now(artifact: Artifact) -> None:
    figures = await verdict(artifact, FakeRuntime(), FakeRuntime(after=on_photo(13, raises)))
    assert figures.sentence == "pets/2 and pets/1 agree on 19 of 19 photos"


async def test_nothing_is_compared_with_a_version_that_always_fails(artifact: Artifact) -> None:
    def fail(images: NDArray[np.uint8]) -> None:
        raise RuntimeError("every photo")

    broken = FakeRuntime()
    async with serving(artifact, "2", FakeRuntime()) as new, serving(artifact, "1", broken) as old:
        broken.before = fail
        figures = await compare(new, old, PHOTOS, (), pause_s=0)
    assert figures == Figures(sentence="pets/2 answers 20 photos")


async def test_a_first_version_has_no_figures(artifact: Artifact) -> None:
    async with serving(artifact, "2", FakeRuntime()) as new:
        figures = await compare(new, None, PHOTOS, (), pause_s=0)
    assert figures == Figures(sentence="pets/2 answers 20 photos")


async def test_a_version_whose_passes_take_longer_is_refused_unless_that_is_accepted(artifact: Artifact) -> None:
    slow = FakeRuntime(before=lambda images: time.sleep(0.01))
    with pytest.raises(
        Refused, match=r"^a forward pass of pets/2 takes \d+\.\d ms, one of pets/1 \d+\.\d ms; "
    ) as caught:
        await verdict(artifact, slow, accept=())
    assert caught.value.reason == "slower"
    assert caught.value.figures.cost_ratio is not None
    assert caught.value.figures.cost_ratio > 1.5
    assert caught.value.figures.agreement is None
    figures = await verdict(artifact, slow)
    assert figures.cost_ratio is not None
    assert figures.cost_ratio > 1.5


async def test_a_pass_that_other_work_made_longer_does_not_count(artifact: Artifact) -> None:
    """All but one of the candidate's passes are."""
    passes: list[None] = []

    def before(images: NDArray[np.uint8]) -> None:
        passes.append(None)
        time.sleep(0.02 if len(passes) % 6 else 0.0)

    figures = await verdict(
        artifact, FakeRuntime(before=before), FakeRuntime(before=lambda images: time.sleep(0.01)), accept=()
    )
    assert figures.cost_ratio is not None
    assert figures.cost_ratio < 1


async def test_photos_that_cannot_be_decoded_are_left_out(artifact: Artifact) -> None:
    broken = png(3)[:-40]
    figures = await verdict(artifact, FakeRuntime(), photos=[b"", *PHOTOS, b"no photo", broken])
    assert figures.sentence == "pets/2 and pets/1 agree on 20 of 20 photos, 3 more cannot be decoded"
    with pytest.raises(Refused) as caught:
        await verdict(artifact, FakeRuntime(), photos=[b"", broken])
    assert (caught.value.reason, str(caught.value)) == (
        "failed",
        "pets/2 was not tried: none of 2 photos can be decoded",
    )


async def test_requests_go_first(artifact: Artifact) -> None:
    order: list[int] = []
    hold = Gate()

    def before(images: NDArray[np.uint8]) -> None:
        if not image_is_probe(images):
            hold(images)
            order.append(int(images[0, 0, 0, 0]))

    runtime = FakeRuntime(max_batch=1, before=before)
    async with serving(artifact, "2", runtime) as served, asyncio.TaskGroup() as tasks:
        tasks.create_task(served.engine.infer(served.reference, given(101), soon()))
        await hold.reached()
        trial = tasks.create_task(compare(served, None, PHOTOS[:1], (), pause_s=0))
        engine: Any = served.engine
        await eventually(lambda: len(engine._batcher) == 1)
        for marker in (102, 103):
            tasks.create_task(served.engine.infer(served.reference, given(marker), soon()))
        await eventually(lambda: len(engine._batcher) == 3)
        hold.open()
        await trial
    assert order == [101, 102, 103, 0]


async def test_a_service_that_is_too_busy_refuses(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "_PATIENCE_S", 0.05)
    hold = Gate()
    async with serving(artifact, "2", FakeRuntime(before=hold)) as served:
        request = asyncio.ensure_future(served.engine.infer(served.reference, given(1), soon()))
        await hold.reached()
        try:
            with pytest.raises(Refused, match="too busy") as caught:
                await compare(served, None, PHOTOS, (), pause_s=0)
        finally:
            hold.open()
            await request
    assert caught.value.reason == "busy"


async def test_an_engine_that_is_closed_refuses(artifact: Artifact) -> None:
    async with serving(artifact, "2", FakeRuntime()) as served:
        pass
    with pytest.raises(Refused, match=r"^pets/2 was not tried: the service is shutting down$") as caught:
        await compare(served, None, PHOTOS, (), pause_s=0)
    assert caught.value.reason == "failed"


async def test_there_is_a_pause_before_each_photo_and_after_each_pass(artifact: Artifact) -> None:
    async with serving(artifact, "2", FakeRuntime()) as new, serving(artifact, "1", FakeRuntime()) as old:
        started_at = time.monotonic()
        await compare(new, old, PHOTOS[:5], ("slower",), pause_s=0.01)
    assert time.monotonic() - started_at >= (5 + 10) * 0.009  # uvloop's clock has whole milliseconds


async def test_two_real_networks(tmp_path: Path) -> None:
    """On the photos of the package: the same weights agree, those of another seed do not."""
    settings = for_one_photo(Settings(device="cpu", runtime="openvino"))
    photos = parity_photos(tmp_path, "tiny")
    current, same, other = (
        make_artifact(tmp_path, version=version, seed=seed, crop_size=64, resize_size=64)
        for version, seed in (("1", 0), ("2", 0), ("3", 1))
    )
    async with served_locally(settings, current, lambda reason: None) as old:
        async with served_locally(settings, same, lambda reason: None) as new:
            figures = await compare(new, old, photos, ("slower",), pause_s=0)
        assert figures.agreement == 1.0
        assert figures.cosine == pytest.approx(1.0)
        async with served_locally(settings, other, lambda reason: None) as new:
            with pytest.raises(Refused) as caught:
                await compare(new, old, photos, ("slower",), pause_s=0)
    assert caught.value.reason == "disagreement"
    assert caught.value.figures.cosine is not None
    assert caught.value.figures.cosine < 0.99
