"""Which keys a canary gets, and what takes it out of rotation: by example, and by thousands of simulated canaries."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from statistics import median

import numpy as np
import pytest

from service.engine.client import InferResult
from service.errors import BadImage, DeadlineExceeded, InferenceFailed, NotReady, ServiceError
from service.image import Findings, Header
from service.metrics import Metrics
from service.model.outputs import ItemOutput
from service.serving.intake import Answer
from service.serving.split import IMAGES, TIMES_S, CanaryHealth, Split, in_canary
from tests.waiting import Clock

KEYS = [b"client %d" % number for number in range(10_000)]
#: Usual seconds of a forward pass.
USUAL_S = 0.01


# The split


def test_a_tenth_of_the_keys_goes_to_a_canary_of_ten_percent() -> None:
    assert abs(sum(in_canary("m", key, 10) for key in KEYS) - 1000) <= 90


def test_a_higher_percentage_moves_keys_to_the_canary_and_none_back() -> None:
    before: set[bytes] = set()
    for percent in (0, 0.01, 1, 5, 10, 50, 99.99, 100):
        chosen = {key for key in KEYS if in_canary("m", key, percent)}
        assert before <= chosen
        before = chosen
    assert not any(in_canary("m", key, 0) for key in KEYS)
    assert before == set(KEYS)


def test_two_models_have_other_keys_in_their_canaries() -> None:
    both = sum(in_canary("m", key, 10) and in_canary("n", key, 10) for key in KEYS)
    assert abs(both - 100) <= 40


def test_the_choice_is_the_same_in_every_process_and_every_release() -> None:
    chosen = [number for number in range(100) if in_canary("m", b"%d" % number, 10)]
    assert chosen == [19, 22, 30, 31, 41, 50, 75]


# Health


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> CanaryHealth:
    return CanaryHealth(clock)


def record(
    health: CanaryHealth,
    images: int,
    *,
    canary: bool = False,
    ok: bool = True,
    seconds: float = USUAL_S,
    batch_size: int = 1,
) -> None:
    for _ in range(images):
        health.record(canary, ok, seconds, batch_size)


def test_the_third_failure_of_a_canary_takes_it_out_if_stable_has_none(health: CanaryHealth) -> None:
    record(health, 100)
    record(health, 100, canary=True)
    record(health, 2, canary=True, ok=False)
    assert health.reason == ""
    record(health, 1, canary=True, ok=False)
    assert health.held == "3 of its last 103 images failed, and 0.0% of stable's"
    assert health.reason == "errors"


def test_a_canary_that_gets_everything_is_judged_by_itself(health: CanaryHealth) -> None:
    record(health, 3, canary=True, ok=False)
    assert health.reason == "errors"


def test_once_held_a_canary_stays_out_with_its_first_reason(health: CanaryHealth) -> None:
    record(health, 3, canary=True, ok=False)
    first = health.held
    record(health, 500, canary=True)
    record(health, 50, canary=True, ok=False)
    assert first is not None
    assert health.held == first


def test_failures_count_only_among_the_last_images(health: CanaryHealth) -> None:
    record(health, 2, canary=True, ok=False)
    record(health, IMAGES, canary=True)
    record(health, 2, canary=True, ok=False)
    assert health.held is None


def test_a_canary_with_little_traffic_is_held_as_well(health: CanaryHealth, clock: Clock) -> None:
    for _ in range(3):
        clock.now += 3600
        record(health, 20)
        record(health, 20, canary=True)
        record(health, 1, canary=True, ok=False)
    assert health.reason == "errors"


def test_trouble_that_both_have_is_not_held_against_the_canary(health: CanaryHealth) -> None:
    """For a moment a third of all images fail, when stable had long been well."""
    record(health, 5000)
    record(health, 500, canary=True)
    for _ in range(30):
        record(health, 2)
        record(health, 1, ok=False)
        record(health, 2, canary=True)
        record(health, 1, canary=True, ok=False)
    assert health.held is None


def test_what_stable_fails_on_rarely_the_canary_may_fail_on_too(health: CanaryHealth) -> None:
    record(health, 50, ok=False)
    record(health, 2450)  # two in a hundred, none of them of late
    record(health, 190, canary=True)
    record(health, 10, canary=True, ok=False)
    assert health.held is None
    record(health, 10, canary=True, ok=False)
    assert health.reason == "errors"


def test_a_canary_that_takes_thrice_as_long_is_out_after_fifty_images(health: CanaryHealth) -> None:
    record(health, 100)
    record(health, 49, canary=True, seconds=3 * USUAL_S)
    assert health.reason == ""
    record(health, 1, canary=True, seconds=3 * USUAL_S)
    assert health.held == "50 of its last 50 images took over 2 times as long in inference as 95% of stable's"
    assert health.reason == "slow"


def test_a_canary_may_take_nearly_twice_as_long(health: CanaryHealth) -> None:
    record(health, 200)
    record(health, 200, canary=True, seconds=1.9 * USUAL_S)
    assert health.held is None


def test_times_are_compared_among_batches_of_one_size(health: CanaryHealth) -> None:
    record(health, 200)
    record(health, 200, canary=True, seconds=8 * USUAL_S, batch_size=8)
    assert health.held is None
    record(health, 200, seconds=7 * USUAL_S, batch_size=8)
    record(health, 200, canary=True, seconds=8 * USUAL_S, batch_size=8)
    assert health.held is None
    record(health, 200, canary=True, seconds=15 * USUAL_S, batch_size=8)
    assert health.reason == "slow"


def test_times_of_another_hour_are_not_compared(health: CanaryHealth, clock: Clock) -> None:
    record(health, 200)
    clock.now += TIMES_S + 1
    record(health, 200, canary=True, seconds=3 * USUAL_S)
    assert health.held is None
    record(health, 50)
    record(health, 50, canary=True, seconds=3 * USUAL_S)
    assert health.reason == "slow"


@pytest.mark.parametrize("percent", [10, 90])
def test_a_machine_that_is_slow_for_a_while_is_not_held_against_the_canary(
    percent: int, health: CanaryHealth, clock: Clock
) -> None:
    """At 10 % stable's last 200 images are all of now and the canary's of then, at 90 % it is the other way round."""
    for slow in (False, True, False, True):
        for _ in range(200):
            clock.now += 0.1
            record(health, 10 - percent // 10, seconds=(5 if slow else 1) * USUAL_S)
            record(health, percent // 10, canary=True, seconds=(5 if slow else 1) * USUAL_S)
    assert health.held is None


# The split of a model


def answer(infer_s: float = USUAL_S) -> Answer:
    output = ItemOutput(
        np.zeros(2, np.float32), np.zeros(2, np.float32), np.arange(2), np.zeros((2, 1, 1), np.float32), 0
    )
    return Answer(Header("png", 1, 1), Findings(), InferResult(output, 0.0, 0.0, infer_s, 1))


def percent_of(metrics: Metrics) -> float | None:
    return metrics.registry.get_sample_value("mobilenet_canary_percent", {"model": "m"})


def rollbacks(metrics: Metrics, reason: str) -> float | None:
    return metrics.registry.get_sample_value("mobilenet_rollbacks_total", {"model": "m", "reason": reason})


def test_a_held_canary_is_chosen_no_more_and_shown_logged_and_counted_once(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    split = Split("m", 10, metrics)
    metrics.show_aliases("m", split.effective, None)
    chosen = [key for key in KEYS if split.chooses(key)]
    assert chosen == [key for key in KEYS if in_canary("m", key, 10)]
    assert percent_of(metrics) == 10
    split.record(True, [answer(), InferenceFailed("no"), answer(), ServiceError("no")])
    assert (split.effective, rollbacks(metrics, "errors")) == (10, None)
    split.record(True, [InferenceFailed("no")])
    split.record(True, [InferenceFailed("no")])
    assert (split.effective, percent_of(metrics), rollbacks(metrics, "errors")) == (0, 0, 1)
    assert not any(split.chooses(key) for key in KEYS)
    assert [line.getMessage() for line in caplog.records] == [f"m: its canary is out of rotation: {split.health.held}"]


def test_a_slow_canary_is_counted_as_slow() -> None:
    metrics = Metrics()
    split = Split("m", 10, metrics)
    split.record(False, [answer()] * 100)
    split.record(True, [answer(3 * USUAL_S)] * 100)
    assert (split.effective, rollbacks(metrics, "slow")) == (0, 1)


def test_what_is_no_fault_of_the_canary_is_never_counted() -> None:
    split = Split("m", 10, Metrics())
    for error in (BadImage("no"), DeadlineExceeded("late"), NotReady("not yet")):
        split.record(True, [error] * 1000)
    assert split.health.held is None


def test_without_a_canary_and_a_shadow_a_model_shows_neither() -> None:
    metrics = Metrics()
    metrics.show_aliases("m", 10, 0.5)
    metrics.show_aliases("n", 5, None)
    metrics.show_aliases("m", None, None)
    gauges = {"mobilenet_canary_percent", "mobilenet_shadow_sample"}
    shown = [
        (sample.name, sample.labels["model"], sample.value)
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name in gauges
    ]
    assert shown == [("mobilenet_canary_percent", "n", 5)]


# Simulations

Times = Iterator[float]


def steady(chance: random.Random) -> Times:
    while True:
        yield chance.lognormvariate(0, 0.3) * USUAL_S


def rough(chance: random.Random) -> Times:
    """A busy machine: one image in twenty takes five times as long, and now and then everything does for a while."""
    while True:
        factor = 5 if chance.random() < 0.05 else 1
        for _ in range(chance.randrange(200, 5000)):
            pause = 5 if chance.random() < 0.05 else 1
            yield factor * pause * chance.lognormvariate(0, 0.3) * USUAL_S


def images_until_held(seed: int, percent: float, canary_fails: float, stable_fails: float, most: int) -> int | None:
    """How many images of the canary it took; None: it was not held within ``most`` of them."""
    chance, health, images = random.Random(seed), CanaryHealth(Clock()), 0
    while images < most:
        canary = chance.random() * 100 < percent
        images += canary
        health.record(canary, chance.random() >= (canary_fails if canary else stable_fails), USUAL_S)
        if health.held:
            return images
    return None


@pytest.mark.slow
@pytest.mark.parametrize("percent", [10, 50])
def test_a_canary_that_fails_on_one_image_in_twenty_is_out_within_two_hundred(
    percent: int, report: Callable[[str], None]
) -> None:
    took = [images_until_held(seed, percent, 0.05, 0.0, 1000) for seed in range(1000)]
    found = sorted(images for images in took if images is not None)
    late = sum(images > 200 for images in found)
    report(
        f"a canary that gets {percent} % and fails on 5 %, 1000 times: held after {median(found):g} images "
        f"(p95 {found[950]}, most {found[-1]}), {late} times after more than 200"
    )
    assert len(found) == 1000
    assert late <= 10  # at most two failures among 200 are 0.2 % of all cases


@pytest.mark.slow
@pytest.mark.parametrize(
    ("machine", "percent", "fails"),
    [
        *((steady, 10, 0.0), (rough, 10, 0.0), (rough, 90, 0.0)),
        *((rough, 10, 0.001), (rough, 50, 0.001), (rough, 10, 0.01)),
    ],
)
def test_a_canary_as_good_as_stable_stays(
    machine: Callable[[random.Random], Times], percent: int, fails: float, report: Callable[[str], None]
) -> None:
    """100,000 images of a canary that fails as often and takes as long; whoever is held is replaced by another one."""
    chance, clock = random.Random(7), Clock()
    times, health = machine(chance), CanaryHealth(clock)
    images, alarms = 0, list[str]()
    while images < 100_000:
        canary = chance.random() * 100 < percent
        images += canary
        clock.now += 0.02
        health.record(canary, chance.random() >= fails, next(times))
        if health.held:
            alarms.append(health.reason)
            health = CanaryHealth(clock)
    name = f"a canary like stable, {percent} %, {fails:.1%} fail, {machine.__name__} machine"
    report(f"{name}: {len(alarms)} false alarms among 100,000 images {' '.join(alarms)}")
    assert len(alarms) <= (1 if fails else 0)
