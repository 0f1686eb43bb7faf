"""Several studies on the same workers, without Ray: turns, one budget, and one that is given up."""

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

import pytest

from pipeline.config import Experiment
from pipeline.errors import DiskError, StudyError
from pipeline.records import Ended, Held, Record
from tests.tune.virtual import Clock, ignore
from tune.budget import Budget, spend_together
from tune.journal import MemoryJournal
from tune.studies import Studies
from tune.study import Study
from tune.supply import Assignment

STEP_S = 10.0  # after which a driver tells the studies about its workers again, at the latest
MakeExperiment = Callable[..., Experiment]


def make_studies(
    experiments: dict[str, Experiment],
    clock: Clock,
    journals: dict[str, MemoryJournal] | None = None,
    say: Callable[[str], None] = print,
) -> Studies:
    journals = {name: MemoryJournal() for name in experiments} if journals is None else journals
    budgets = {
        name: Budget.from_journal(experiment.search, journals[name].read(), clock)
        for name, experiment in experiments.items()
    }
    spend_together(list(budgets.values()))
    studies = [
        Study(name, experiment, journals[name], ignore, clock=clock, budget=budgets[name])
        for name, experiment in experiments.items()
    ]
    for study in studies:
        study.begin()
    return Studies(studies, say, clock)


@dataclass
class Pool:
    """Workers that train the studies' trials; an epoch of a study takes about `epoch_s[study]`."""

    studies: Studies
    clock: Clock
    workers: int
    epoch_s: dict[str, float]

    def __post_init__(self) -> None:
        self.trained_s = dict.fromkeys(self.epoch_s, 0.0)
        self._events: list[tuple[float, int, Assignment, float]] = []
        self._order, self._draw = count(), random.Random(0)
        self._idle = self.workers
        self._names = [f"w{number}" for number in range(self.workers)]

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Trains until all studies are complete, or `until` says so."""
        while not self.studies.complete and not until():
            self._give_out()
            self.studies.held(self._names)
            if self._events:
                self._next_epoch()
            else:
                assert self.studies.complete
        self.studies.held(())

    def _give_out(self) -> None:
        while self._idle and (assignment := self.studies.next_trial()) is not None:
            study = self.studies[assignment.study]
            if study.started(assignment.trial, assignment.attempt, "here", None, 1) == "continue":
                self._idle -= 1
                self._begin_epoch(assignment)

    def _begin_epoch(self, assignment: Assignment) -> None:
        seconds = self.epoch_s[assignment.study] * self._draw.uniform(0.5, 1.5)
        heapq.heappush(self._events, (self.clock.now + seconds, next(self._order), assignment, seconds))

    def _next_epoch(self) -> None:
        moment, _, assignment, seconds = heapq.heappop(self._events)
        while self.clock.now < moment:
            self.clock.now = min(self.clock.now + STEP_S, moment)
            self.studies.held(self._names)
        self.trained_s[assignment.study] += seconds
        study, trial, attempt = self.studies[assignment.study], assignment.trial, assignment.attempt
        epoch = len(study.trials[trial].epochs) + 1
        rmse = random.Random(assignment.config.hash()).uniform(2e-3, 8e-3) * (1 + 1 / epoch)
        if study.epoch(trial, attempt, epoch, rmse, seconds) == "stop":
            self._idle += 1
        elif epoch == assignment.config.train.epochs:
            self.studies.ended(study.name, trial, attempt, "completed", "", "")
            self._idle += 1
        else:
            self._begin_epoch(assignment)


def three(experiment: MakeExperiment, **search: object) -> dict[str, Experiment]:
    return {name: experiment(**search) for name in ("slow", "middle", "fast")}


EPOCH_S = {"slow": 100.0, "middle": 30.0, "fast": 10.0}


@pytest.mark.parametrize("workers", [1, 5, 6])
def test_each_study_gets_the_same_time_of_the_workers(experiment: MakeExperiment, workers: int) -> None:
    clock = Clock()
    studies = make_studies(three(experiment, trials=40, share=0), clock)
    pool = Pool(studies, clock, workers, EPOCH_S)
    pool.run(until=lambda: studies["fast"].complete)
    shares = [seconds / sum(pool.trained_s.values()) for seconds in pool.trained_s.values()]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.1)


def test_what_a_complete_study_leaves_the_others_get(experiment: MakeExperiment) -> None:
    epoch_s, busy = dict.fromkeys(EPOCH_S, 30.0), []
    for names in (["slow", "middle", "fast"], ["slow"]):
        experiments, clock = {name: experiment(trials=12, share=0) for name in names}, Clock()
        studies = make_studies(experiments, clock)
        pool = Pool(studies, clock, workers=6, epoch_s=epoch_s)
        pool.run()
        assert all(len(study.trials) == 12 for study in studies)
        busy.append(sum(pool.trained_s.values()) / 6 / (clock.now - 1e9))
    together, alone = busy
    assert together > 0.8
    assert alone < 0.6  # its last trials leave workers idle


@pytest.mark.parametrize("workers", [1, 4, 7])
def test_all_spend_from_one_budget_to_its_end(experiment: MakeExperiment, workers: int) -> None:
    clock = Clock()
    limit_s = 4 * 3600.0
    studies = make_studies(three(experiment, trials=500, gpu_hours=limit_s / 3600), clock)
    pool = Pool(studies, clock, workers, EPOCH_S)
    pool.run()
    spent_s = workers * (clock.now - 1e9)
    assert limit_s - workers * 300 < spent_s < limit_s + workers * 150  # an epoch takes at most 150 s
    assert studies["slow"].budget.used_s == pytest.approx(spent_s)
    assert sum(study.budget.own_s for study in studies) == pytest.approx(spent_s)


def test_what_each_study_used_is_in_its_journal(experiment: MakeExperiment) -> None:
    clock, experiments = Clock(), three(experiment, trials=500, gpu_hours=2)
    journals = {name: MemoryJournal() for name in experiments}
    studies = make_studies(experiments, clock, journals)
    Pool(studies, clock, 3, EPOCH_S).run()
    clock.now += 1e6  # nobody pays for the time between
    again = make_studies(experiments, clock, journals)
    assert again.complete
    assert [study.budget.own_s for study in again] == pytest.approx([s.budget.own_s for s in studies])
    alone = Budget.from_journal(experiments["slow"].search, journals["slow"].read())
    assert alone.text().endswith(" of 2 GPU hours, shared with other studies")
    shares = [record.share for journal in journals.values() for record in journal if isinstance(record, Held)]
    assert {0.0, 1 / 3, 1.0} <= set(shares)


def test_studies_that_spend_together_want_no_more_workers_than_one_would(experiment: MakeExperiment) -> None:
    clock = Clock()
    studies = make_studies(three(experiment, trials=500, gpu_hours=1), clock)
    Pool(studies, clock, 3, EPOCH_S).run(until=lambda: studies["slow"].budget.used_s > 3000)
    begun = sum(study.left - study.to_come for study in studies)
    assert 0 < studies.left - begun == max(study.to_come for study in studies)


def fail(studies: Studies, name: str, trials: Sequence[int]) -> None:
    """Lets trials of a study fail of the same error, as the request is wrong."""
    for trial in trials:
        studies[name].started(trial, 1, "here", None, 1)
        studies.ended(name, trial, 1, "failed", "USER_ERROR", "KeyError: 'depth'")


def give_out(studies: Studies, trials: int) -> list[Assignment]:
    return [assignment for _ in range(trials) if (assignment := studies.next_trial()) is not None]


def test_a_hopeless_study_is_given_up_and_the_others_go_on(experiment: MakeExperiment) -> None:
    told: list[str] = []
    studies = make_studies(three(experiment, share=0), Clock(), say=told.append)
    given = give_out(studies, 9)
    assert [assignment.study for assignment in given] == ["slow", "middle", "fast"] * 3
    fail(studies, "slow", range(3))
    assert [study.name for study in studies.going] == ["middle", "fast"]
    assert told[0].startswith("study slow is given up: its trials fail of the same error before any")
    assert told[0].endswith("The other studies go on")
    assert {assignment.study for assignment in give_out(studies, 6)} == {"middle", "fast"}
    assert str(studies.error).startswith("study slow: 3 trials failed")
    fail(studies, "middle", range(3))
    with pytest.raises(StudyError, match=r"study slow: 3 trials failed(.|\n)*study fast: 3 trials failed"):
        fail(studies, "fast", range(3))
    assert len(told) == 2


def train(studies: Studies, assignment: Assignment) -> None:
    """Trains a trial to its end, however long that is."""
    study, trial, attempt = studies[assignment.study], assignment.trial, assignment.attempt
    assert study.started(trial, attempt, "here", None, 1) == "continue"
    for epoch in range(1, assignment.config.train.epochs + 1):
        if study.epoch(trial, attempt, epoch, 0.004, 1.0) == "stop":
            return
    studies.ended(study.name, trial, attempt, "completed", "", "")


def test_trials_of_a_study_given_up_keep_nobody_waiting_and_are_not_ended_by_the_budget(
    experiment: MakeExperiment,
) -> None:
    told: list[str] = []
    experiments = {"hopeless": experiment(trials=6, share=0), "good": experiment(trials=4, share=0)}
    studies = make_studies(experiments, Clock(), say=told.append)
    given = give_out(studies, 8)
    fail(studies, "hopeless", range(3))
    assert not studies.overdue
    for assignment in given:
        if assignment.study == "good":
            train(studies, assignment)
    assert (studies.complete, studies["good"].complete, studies.active) == (True, True, 1)
    assert studies.overdue  # its fourth trial may wait for a worker that nobody asks for
    studies.close()
    fourth = studies["hopeless"].trials[3]
    assert (fourth.status, fourth.reason) == ("waiting", "")
    fail(studies, "hopeless", [3])
    assert (len(told), studies.active, studies.overdue) == (1, 0, False)


def test_the_last_study_to_be_given_up_does_not_hide_what_the_others_found(
    experiment: MakeExperiment,
) -> None:
    studies = make_studies({name: experiment(trials=3, share=0) for name in ("good", "hopeless")}, Clock())
    for assignment in give_out(studies, 6):
        if assignment.study == "good":
            train(studies, assignment)
    fail(studies, "hopeless", range(3))
    assert (studies.complete, studies.overdue) == (True, False)
    assert str(studies.error).startswith("study hopeless: 3 trials failed")


class FullJournal(MemoryJournal):
    """One whose disk is full when a trial has ended."""

    def append(self, record: Record) -> None:
        if isinstance(record, Ended):
            raise DiskError("the disk is full")
        super().append(record)


def test_a_full_disk_ends_the_search_and_gives_no_study_up(experiment: MakeExperiment) -> None:
    journals = {"a": FullJournal(), "b": MemoryJournal()}
    studies = make_studies({name: experiment() for name in journals}, Clock(), journals)
    give_out(studies, 2)
    with pytest.raises(DiskError, match="the disk is full"):
        fail(studies, "a", [0])
    assert studies.error is None


def test_a_complete_study_holds_no_worker(experiment: MakeExperiment) -> None:
    clock = Clock()
    journals = {name: MemoryJournal() for name in ("a", "b")}
    experiments = {"a": experiment(trials=1), "b": experiment(trials=3)}
    studies = make_studies(experiments, clock, journals)
    Pool(studies, clock, 2, {"a": 1.0, "b": 100.0}).run()
    held = [record for record in journals["a"] if isinstance(record, Held)]
    assert held[-1].workers == []
    assert held[-1].time < 1e9 + 30
    assert studies["a"].budget.own_s < 30
