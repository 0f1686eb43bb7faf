import math
import random
from typing import Any

import numpy as np
import pytest

from pipeline.config import SearchConfig
from pipeline.records import Epoch
from tune.asha import Rungs, milestones, quantile


def test_the_first_at_a_rung_goes_on_and_then_only_the_better_ones() -> None:
    rungs = Rungs(epochs=9, grace=3, reduction=3)
    verdicts = [rungs.decide(trial, 3, rmse) for trial, rmse in enumerate([0.004, 0.005, 0.004, 0.003])]
    assert [verdict.decision for verdict in verdicts] == ["continue", "stop", "continue", "continue"]
    assert {verdict.rung for verdict in verdicts} == {1}


@pytest.mark.parametrize(
    ("epochs", "grace", "reduction", "expected"),
    [
        (9, 1, 3, [1, 3]),
        (10, 1, 3, [1, 3, 9]),
        (100, 3, 3, [3, 9, 27, 81]),
        (5, 5, 2, []),
        (16, 1, 2, [1, 2, 4, 8]),
    ],
)
def test_where_the_rungs_are(epochs: int, grace: int, reduction: int, expected: list[int]) -> None:
    assert milestones(epochs, grace, reduction) == expected


def test_between_rungs_everyone_goes_on() -> None:
    verdict = Rungs(9, 3, 3).decide(0, 2, 5.0)
    assert (verdict.decision, verdict.rung) == ("continue", None)


@pytest.mark.parametrize("rmse", [math.nan, math.inf])
def test_what_is_not_finite_never_survives_a_rung_and_does_not_count_there(rmse: float) -> None:
    rungs = Rungs(9, 1, 3)
    assert rungs.decide(0, 1, rmse).decision == "stop"
    assert rungs.decide(1, 1, 9.0).decision == "continue"
    assert rungs.decide(2, 1, rmse).decision == "stop"


def test_a_trial_enters_a_rung_once() -> None:
    rungs = Rungs(9, 1, 2)
    rungs.decide(0, 1, 0.1)
    rungs.decide(0, 1, 0.1)
    rungs.decide(1, 1, 0.3)
    again = Rungs(9, 1, 2)
    again.decide(0, 1, 0.1)
    again.decide(1, 1, 0.3)
    assert rungs.decide(2, 1, 0.2) == again.decide(2, 1, 0.2)


@pytest.mark.parametrize("fraction", [1 - 1 / 2, 1 - 1 / 3, 1 - 1 / 4, 0.0, 1.0])
def test_the_quantile_is_numpys_to_the_last_bit(fraction: float) -> None:
    generator = np.random.default_rng(0)
    for count in (*range(1, 60), 997):
        values = np.sort(np.round(generator.normal(size=count), 2))
        assert quantile(list(values), fraction) == np.percentile(values, fraction * 100)


class LightTrial:
    """What Ray's scheduler needs of a trial."""

    def __init__(self, number: int) -> None:
        self.trial_id = str(number)


@pytest.mark.parametrize("seed", range(20))
def test_decides_as_rays_scheduler_does(seed: int) -> None:
    from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

    draw = random.Random(seed)
    epochs, grace, reduction = draw.choice([(27, 1, 3), (30, 3, 2), (100, 3, 3), (81, 5, 4), (20, 1, 2)])
    ours = Rungs(epochs, grace, reduction)
    rays: Any = AsyncHyperBandScheduler(
        time_attr="epoch",
        metric="rmse",
        mode="min",
        max_t=epochs,
        grace_period=grace,
        reduction_factor=reduction,
    )
    running = {number: [LightTrial(number), 0] for number in range(40)}
    for trial, _ in running.values():
        rays.on_trial_add(None, trial)
    while running:
        number = draw.choice(list(running))
        trial, epoch = running[number]
        epoch += 1
        running[number][1] = epoch
        rmse = round(draw.uniform(2e-3, 9e-3), draw.choice([4, 18]))  # with ties and without
        result = {"epoch": epoch, "rmse": rmse}
        theirs = rays.on_trial_result(None, trial, result)
        last = epoch == epochs
        mine = ours.decide(number, epoch, rmse).decision
        if not last:  # there Ray says stop, and the trial is complete
            assert (mine == "stop") == (theirs == TrialScheduler.STOP)
        if mine == "stop" or last:
            rays.on_trial_complete(None, trial, result)
            del running[number]


def test_rungs_from_the_journal_decide_as_those_that_wrote_it() -> None:
    search = SearchConfig(epochs=9, grace=1, reduction=3)
    live, records, draw = Rungs.of(search), [], random.Random(1)
    for trial in range(30):
        for epoch in range(1, 10):
            rmse = draw.random()
            verdict = live.decide(trial, epoch, rmse)
            records.append(
                Epoch(
                    trial=trial,
                    attempt=1,
                    epoch=epoch,
                    rmse=rmse,
                    seconds=1.0,
                    decision=verdict.decision,
                    rung=verdict.rung,
                )
            )
            if verdict.decision == "stop":
                break
    restored = Rungs.from_journal(search, records)
    for rmse in (0.0, 0.1, 0.2, 0.3, 0.5, 1.0):
        for epoch in live.milestones:
            assert restored.decide(99, epoch, rmse) == live.decide(99, epoch, rmse)


def test_ten_thousand_trials_at_a_rung_cost_little() -> None:
    rungs, draw = Rungs(9, 1, 3), random.Random(0)
    survivors = sum(rungs.decide(trial, 1, draw.random()).decision == "continue" for trial in range(10_000))
    assert 3000 < survivors < 3700
