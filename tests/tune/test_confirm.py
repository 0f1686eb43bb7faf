"""The best of a search, run again with other seeds."""

import random
from collections.abc import Callable
from statistics import fmean, stdev
from typing import Any

import pytest

from pipeline.config import Experiment, SearchConfig
from pipeline.paths import StudyPaths
from pipeline.records import Drawn, Epoch, Record, read_journal
from pipeline.spread import SEEDS, Spread, spreads
from pipeline.trials import TrialState, fold
from tune.budget import Budget
from tune.journal import Journal, MemoryJournal
from tune.progress import line_for, status_line
from tune.ranking import most_trusted
from tune.request import Request, refuse_other
from tune.study import Study
from tune.summary import worth
from tune.supply import Assignment, Supply

OpenStudy = Callable[..., tuple[Study, Journal]]
MakeExperiment = Callable[..., Experiment]


def error_of(assignment: Assignment, epoch: int) -> float:
    """A curve in metres that depends on the setting, and a little on the seed."""
    config = assignment.config
    quality = random.Random(f"{config.train.lr} {config.train.batch_size}").uniform(2e-3, 8e-3)
    return (quality + random.Random(config.seed).uniform(-5e-4, 5e-4)) * (1 + 1 / epoch)


def run(study: Study, workers: int = 2, epochs: float = float("inf")) -> None:
    """Trains every trial, `workers` at a time, in turn; or dies after so many epochs."""
    at_work: list[Assignment] = []
    while not study.complete and epochs > 0:
        while len(at_work) < workers and (assignment := study.next_trial()) is not None:
            study.started(assignment.trial, assignment.attempt, "here", None, 1)
            at_work.append(assignment)
        if not at_work:
            continue
        assignment, epochs = at_work.pop(0), epochs - 1
        trial, attempt = assignment.trial, assignment.attempt
        epoch = len(study.trials[trial].epochs) + 1
        if epoch > assignment.config.train.epochs:
            study.ended(trial, attempt, "completed")
        elif study.epoch(trial, attempt, epoch, error_of(assignment, epoch), 1.0) == "continue":
            at_work.append(assignment)


def confirmed(trials: dict[int, TrialState]) -> list[int]:
    return sorted({t.confirms for t in trials.values() if t.confirms is not None})


def searched(trials: dict[int, TrialState]) -> list[TrialState]:
    return [trial for trial in trials.values() if trial.confirms is None]


def facts(trials: dict[int, TrialState]) -> list[tuple[Any, ...]]:
    return [(t.number, t.values, t.seed, t.confirms, t.status, t.epochs) for t in trials.values()]


def test_the_best_run_again_to_their_end_for_three_seeds_each(open_study: OpenStudy) -> None:
    study, journal = open_study(confirm=2, trials=8)
    run(study)
    journal.close()
    originals = sorted(searched(study.trials), key=lambda trial: trial.best_rmse or 1)[:2]
    assert confirmed(study.trials) == sorted(trial.number for trial in originals)
    for original in originals:
        repeats = [t for t in study.trials.values() if t.confirms == original.number]
        assert len(repeats) == SEEDS
        assert len({trial.seed for trial in [original, *repeats]}) == 1 + SEEDS
        assert all((t.status, len(t.epochs), t.rung) == ("completed", 9, None) for t in repeats)
        assert all((t.values, t.source) == (original.values, "confirm") for t in repeats)
        scores = [trial.best_rmse for trial in repeats if trial.best_rmse is not None]
        expected = Spread(pytest.approx(fmean(scores)), pytest.approx(stdev(scores)), SEEDS)
        assert spreads(study.trials)[repeats[0].number] == expected


def test_it_changes_nothing_about_the_search(experiment: MakeExperiment) -> None:
    def trials_of(confirm: int) -> list[TrialState]:
        study = Study("s", experiment(confirm=confirm, trials=8), MemoryJournal(), lambda s, r: None)
        run(study)
        return searched(study.trials)

    plain, also_confirmed = trials_of(0), trials_of(3)
    assert facts(dict(enumerate(plain))) == facts(dict(enumerate(also_confirmed)))


def test_added_later_it_confirms_a_complete_study_and_more_trials_may_follow(
    open_study: OpenStudy, paths: StudyPaths
) -> None:
    counts = []
    for search in ({}, {"confirm": 1}, {"confirm": 2}, {"confirm": 2}, {"confirm": 2, "trials": 12}):
        study, journal = open_study(**search)
        run(study)
        journal.close()
        trials = fold(read_journal(paths.journal))
        counts.append((len(searched(trials)), len(confirmed(trials))))
    assert counts[:4] == [(6, 0), (6, 1), (6, 2), (6, 2)]
    assert counts[4][0] == 12
    best = sorted(searched(trials), key=lambda trial: trial.best_rmse or 1)[:2]
    assert {trial.number for trial in best} <= set(confirmed(trials))


@pytest.mark.parametrize("lives", [1, 7, 20])
def test_drivers_that_die_change_no_repeat(
    open_study: OpenStudy, paths: StudyPaths, experiment: MakeExperiment, lives: int
) -> None:
    reference = Study("s", experiment(confirm=2), MemoryJournal(), lambda s, r: None)
    run(reference, workers=1)
    while True:
        study, journal = open_study(confirm=2)
        run(study, workers=1, epochs=lives)
        journal.close()
        if study.complete:
            break
    trials = fold(read_journal(paths.journal))
    assert facts(trials) == facts(reference.trials)
    epochs = [(r.trial, r.epoch) for r in read_journal(paths.journal) if isinstance(r, Epoch)]
    assert len(set(epochs)) == len(epochs)


def test_more_of_the_same_setting_is_no_other_request(experiment: MakeExperiment) -> None:
    old = Request("s", "full", "d", None, experiment())
    refuse_other(old, Request("s", "full", "d", None, experiment(confirm=3)))


def test_a_person_is_told(open_study: OpenStudy) -> None:
    lines: list[str] = []

    def listen(study: Study, record: Record) -> None:
        lines.append(line_for(study, record) or "")

    study, journal = open_study(listen=listen, confirm=1)
    run(study)
    journal.close()
    original = confirmed(study.trials)[0]
    told = f"starts with the setting of trial {original} and another seed, to confirm it"
    assert sum(told in line for line in lines) == SEEDS
    assert f"6/6 trials, {len(study.trials) - 6} confirming runs" in status_line([study], 2)
    best = most_trusted(study.trials)
    assert best is not None
    assert best.number == original
    assert "is the mean of 3 seeds, which spread by 0." in worth(study.trials, best)


def test_without_it_a_person_is_told_what_one_run_is_worth(open_study: OpenStudy) -> None:
    study, journal = open_study()
    run(study)
    journal.close()
    best = most_trusted(study.trials)
    assert best is not None
    assert worth(study.trials, best) == (
        "confirmed    no: one run with one seed, its spread is unknown; --confirm 3 tells"
    )


def state(number: int, rmse: float, confirms: int | None = None, status: Any = "completed") -> TrialState:
    return TrialState(number, {}, number, "random", 0.0, confirms, status=status, best_rmse=rmse)


def test_a_run_that_was_stopped_or_failed_is_no_part_of_the_mean() -> None:
    trials = [
        state(0, 0.001, status="stopped"),
        state(1, 0.002),
        *(state(2, 0.004, 0), state(3, 0.006, 0), state(4, 0.001, 0, "failed")),
        state(5, 0.009, 1, "failed"),
    ]
    by_number = {trial.number: trial for trial in trials}
    assert spreads(by_number)[0] == Spread(0.005, pytest.approx(0.001414, rel=1e-3), 2)
    assert set(spreads(by_number)) == {0, 2, 3}


def test_the_lowest_mean_is_trusted_most() -> None:
    trials = [state(0, 0.001), state(1, 0.002), state(2, 0.0005, status="stopped")]
    trials += [state(3, 0.009, 0), state(4, 0.009, 0), state(5, 0.002, 1), state(6, 0.002, 1)]
    best = most_trusted({trial.number: trial for trial in trials})
    assert best is not None
    assert best.number == 1


def test_journals_of_before_can_be_read(paths: StudyPaths) -> None:
    line = Drawn(trial=0, values={}, seed=1, source="random").line().replace(', "confirms": null', "")
    paths.root.mkdir(parents=True)
    paths.journal.write_text(line)
    assert "confirms" not in line
    assert fold(read_journal(paths.journal))[0].confirms is None


def test_a_repeat_that_a_budget_stopped_goes_on_under_a_larger_one(experiment: MakeExperiment) -> None:
    trials = {
        0: TrialState(0, {}, 0, "random", 0.0, status="completed", best_rmse=0.003),
        1: TrialState(1, {}, 1, "random", 0.0, 0, status="stopped", reason="BUDGET", best_rmse=0.004),
        2: TrialState(2, {}, 2, "random", 0.0, 0, status="stopped", reason="BUDGET"),
        3: TrialState(3, {}, 3, "random", 0.0, status="stopped", reason="BUDGET", best_rmse=0.005),
    }
    supply = Supply("s", experiment(confirm=1), None, Budget(SearchConfig()), trials)
    assert supply.resumable() == [3, 1, 2]
