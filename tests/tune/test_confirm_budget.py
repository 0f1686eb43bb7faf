"""The time that a budget keeps to confirm the best of a search."""

from collections.abc import Callable

import pytest

from pipeline.config import Experiment
from pipeline.paths import StudyPaths
from pipeline.records import Drawn, Started
from pipeline.spread import SEEDS, spreads
from pipeline.trials import TrialState
from tests.tune.virtual import Clock, Executor, ignore, simulate
from tune.budget import Budget, spend_together
from tune.journal import Journal, MemoryJournal
from tune.ranking import best_first
from tune.study import Study

MakeExperiment = Callable[..., Experiment]


def searched(trials: dict[int, TrialState]) -> list[TrialState]:
    return [trial for trial in trials.values() if trial.confirms is None]


def confirmed(trials: dict[int, TrialState]) -> set[int]:
    return {trial.confirms for trial in trials.values() if trial.confirms is not None}


def pace(study: Study, trial: int, luck: float) -> float:
    """Seconds of an epoch: one batch size takes twice as long, and all up to 30% more at random."""
    return (1 + 0.3 * luck) * (200 if study.trials[trial].values["train.batch_size"] == 8 else 100)


@pytest.mark.parametrize(("workers", "confirm"), [(1, 1), (2, 2), (4, 1), (4, 2), (8, 2)])
def test_a_budget_leaves_time_to_confirm_and_that_time_is_for_nothing_else(
    experiment: MakeExperiment, workers: int, confirm: int
) -> None:
    for seed in range(10):
        search = experiment(confirm=confirm, trials=200, gpu_hours=(4 + seed / 2) * workers)
        study, clock, _ = simulate(search, workers, seed, pace)
        assert clock.now - 1e9 <= (4 + seed / 2) * 3600 + 260
        repeats = [trial for trial in study.trials.values() if trial.confirms is not None]
        assert {trial.status for trial in repeats} == {"completed"}
        assert SEEDS * confirm - len(repeats) in {0, 1}  # the last find may be slower than all before
        best = best_first(study.trials.values())[:confirm]
        assert {trial.confirms for trial in repeats} == {trial.number for trial in best}
        first = min(trial.drawn for trial in repeats)
        assert not [trial.number for trial in searched(study.trials) if (trial.finished or 0) > first]


@pytest.mark.parametrize(("workers", "confirm"), [(1, 1), (4, 2)])
def test_a_driver_that_dies_while_the_best_are_confirmed_goes_on_with_that(
    experiment: MakeExperiment, workers: int, confirm: int
) -> None:
    search = experiment(confirm=confirm, trials=200, gpu_hours=4 * workers)
    clock, records = Clock(), MemoryJournal()
    whole = Study("s", search, records, ignore, clock=clock)
    Executor(whole, clock, workers, 0, pace).run()
    begun = next(k for k, record in enumerate(records) if getattr(record, "confirms", None) is not None)
    for end in range(begun + 1, len(records), 5):
        journal, clock = MemoryJournal(records[:end]), Clock(records[end - 1].time + 1)
        study = Study("s", search, journal, ignore, clock=clock)
        Executor(study, clock, workers, end, pace).run()
        after = [record for record in journal[end:] if isinstance(record, Started | Drawn)]
        assert all(study.trials[record.trial].confirms is not None for record in after)


def test_joint_studies_know_of_what_each_keeps_before_any_begins(experiment: MakeExperiment) -> None:
    clock, searches = Clock(), [experiment(confirm=2, trials=trials, gpu_hours=10) for trials in (500, 500)]
    journals = [MemoryJournal(), MemoryJournal()]
    studies = open_together(searches, journals, clock)
    for study in studies:
        study.held(["w"])
        assignment = study.next_trial()
        assert assignment is not None
        study.started(assignment.trial, 1, "here", None, 1)
        study.epoch(assignment.trial, 1, 1, 0.004, 600.0 if study.name == "b" else 1.0)
    studies[0].ended(0, 1, "failed", "DIVERGED", "the loss is nan")
    for _ in range(9 * 60):
        clock.now += 60
        for study in studies:
            study.held(["w"], share=0.5)
    before = [len(journal) for journal in journals]
    again = open_together(searches, journals, clock)
    assert again[0].budget.seconds_left() < 0 < again[0].budget.seconds_left(confirming=True)
    new = [journal[count:] for journal, count in zip(journals, before, strict=True)]
    assert not [record for records in new for record in records if isinstance(record, Drawn)]


def open_together(searches: list[Experiment], journals: list[MemoryJournal], clock: Clock) -> list[Study]:
    """Studies `a`, `b`, that spend from one budget, as a driver opens them."""
    budgets = [
        Budget.from_journal(search.search, journal, clock)
        for search, journal in zip(searches, journals, strict=True)
    ]
    spend_together(budgets)
    studies = [
        Study(name, search, journal, ignore, clock=clock, budget=budget)
        for name, search, journal, budget in zip("ab", searches, journals, budgets, strict=True)
    ]
    for study in studies:
        study.begin()
    return studies


def test_with_more_gpu_hours_a_confirmed_search_goes_on_and_confirms_what_it_finds(
    experiment: MakeExperiment, paths: StudyPaths
) -> None:
    clock = Clock()
    counts = []
    for seed, gpu_hours in enumerate((4, 4.5, 12)):
        with Journal(paths) as journal:
            search = experiment(confirm=1, trials=200, gpu_hours=gpu_hours)
            study = Study("s", search, journal, ignore, clock=clock)
            Executor(study, clock, 1, seed, pace).run()
        counts.append((len(searched(study.trials)), len(confirmed(study.trials))))
        best = best_first(study.trials.values())[0]
        repeats = [trial for trial in study.trials.values() if trial.confirms == best.number]
        assert [trial.status for trial in repeats] == ["completed"] * SEEDS
    assert counts[0] == counts[1]  # not enough to confirm another one
    assert counts[0][0] < counts[2][0]


def test_what_is_confirmed_keeps_no_time_from_other_studies(
    experiment: MakeExperiment,
) -> None:
    clock, searches = Clock(), [experiment(confirm=3, trials=trials, gpu_hours=10) for trials in (1, 50)]
    first, second = open_together(searches, [MemoryJournal(), MemoryJournal()], clock)
    second.held(["w"])
    assignment = first.next_trial()
    assert assignment is not None
    first.started(0, 1, "here", None, 1)
    for epoch in range(1, 10):
        first.epoch(0, 1, epoch, 0.004, 60.0)
    assert second.budget.seconds_left() == pytest.approx(10 * 3600 - SEEDS * 10 * 60)  # one can be confirmed
    first.ended(0, 1, "completed")
    Executor(first, clock, 1, pace=lambda study, trial, luck: 60.0).run()
    assert first.complete
    assert len(spreads(first.trials)) == 1 + SEEDS
    assert second.budget.seconds_left() == second.budget.seconds_left(confirming=True)
