import math
import random
from typing import Any

import numpy as np
import pytest

from pipeline.config import SearchConfig
from pipeline.records import Epoch, Revived
from tune.asha import Rungs, Verdict, milestones, quantile


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


def journaled(rungs: Rungs, trial: int, number: int, rmse: float) -> Epoch:
    """Judges an epoch, and lets the rungs know what was decided."""
    verdict = rungs.decide(trial, number, rmse)
    record = Epoch(
        trial=trial,
        attempt=1,
        epoch=number,
        rmse=rmse,
        seconds=1.0,
        decision=verdict.decision,
        rung=verdict.rung,
    )
    rungs.take(record)
    return record


def one_overtaken(overtaking: bool = True) -> Rungs:
    """Rungs at 1 and 3 of 9: trial 0 comes first, three better ones follow."""
    rungs = Rungs(9, 1, 3, overtaking)
    for trial, rmse in enumerate([0.5, 0.4, 0.3, 0.2]):
        journaled(rungs, trial, 1, rmse)
    return rungs


def test_who_was_overtaken_at_a_rung_is_stopped_between_rungs() -> None:
    rungs = one_overtaken()
    assert rungs.decide(0, 2, 0.1) == Verdict("stop", 1)
    assert rungs.decide(3, 2, 0.9) == Verdict("continue", None)


def test_a_rung_judges_who_reaches_it_whatever_happened_at_the_one_before() -> None:
    assert one_overtaken().decide(0, 3, 0.1) == Verdict("continue", 2)


def test_at_the_last_epoch_nobody_is_stopped() -> None:
    assert one_overtaken().decide(0, 9, 0.1).decision == "continue"


@pytest.mark.parametrize("to_end", [True, False])
def test_on_a_second_chance_only_rungs_stop_a_trial(to_end: bool) -> None:
    rungs = one_overtaken()
    journaled(rungs, 0, 2, 0.1)
    rungs.take(Revived(trial=0, to_end=to_end))
    assert rungs.decide(0, 3 if to_end else 2, 9.0).decision == "continue"


def test_where_stopped_means_gone_only_rungs_stop_a_trial() -> None:
    assert one_overtaken(overtaking=False).decide(0, 2, 0.1).decision == "continue"
    for share, decision in [(0.0, "continue"), (0.25, "stop")]:
        rungs = Rungs.of(SearchConfig(epochs=9, grace=1, reduction=3, share=share))
        for trial, rmse in enumerate([0.5, 0.4, 0.3, 0.2]):
            journaled(rungs, trial, 1, rmse)
        assert rungs.decide(0, 2, 0.1).decision == decision


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
            records.append(journaled(live, trial, epoch, draw.random()))
            if records[-1].decision == "stop":
                break
    restored = Rungs.from_journal(search, records)
    for trial in range(30):  # those that have survived their last rung may be overtaken by now
        assert restored.decide(trial, 8, 0.5) == live.decide(trial, 8, 0.5)
    for rmse in (0.0, 0.1, 0.2, 0.3, 0.5, 1.0):
        for epoch in live.milestones:
            assert restored.decide(99, epoch, rmse) == live.decide(99, epoch, rmse)


def test_ten_thousand_trials_at_a_rung_cost_little() -> None:
    rungs, draw = Rungs(9, 1, 3), random.Random(0)
    survivors = sum(rungs.decide(trial, 1, draw.random()).decision == "continue" for trial in range(10_000))
    assert 3000 < survivors < 3700


@pytest.mark.parametrize(
    ("trials", "rungs"),
    [
        (1, [9]),
        (12, [9]),
        (35, [9]),
        (36, [3, 9]),
        (107, [3, 9]),
        (108, [1, 3, 9]),
        (10_000, [1, 3, 9]),
    ],
)
def test_more_rungs_where_more_trials_are_left_to_the_end(trials: int, rungs: list[int]) -> None:
    assert Rungs.of(SearchConfig(trials=trials, epochs=27)).milestones == rungs
    assert Rungs.of(SearchConfig(trials=trials, epochs=27, grace=2)).milestones == [2, 6, 18]
