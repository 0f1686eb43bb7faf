"""Budgets on a virtual clock."""

import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Experiment, SearchConfig
from pipeline.paths import StudyPaths, Workspace
from pipeline.records import Begun, Drawn, Ended, Epoch, Held, Record, read_journal
from pipeline.trials import TrialState, fold
from tests.tune.virtual import Clock, Executor, ignore, simulate
from tune.budget import BEAT_S, Budget
from tune.budget_plan import budget_text
from tune.journal import Journal, MemoryJournal
from tune.prune import prune
from tune.request import Request, refuse_other
from tune.study import Study

MakeExperiment = Callable[..., Experiment]
HOUR = 3600.0


@pytest.mark.parametrize(
    ("kind", "trials", "kept"),
    [("gpu_hours", 500, True), ("deadline", 500, True), ("gpu_hours", 20, False), ("deadline", 20, False)],
)
def test_ten_studies_overrun_their_budget_by_at_most_an_epoch_a_worker(
    experiment: MakeExperiment,
    kind: str,
    trials: int,
    kept: bool,
    record_property: Callable[[str, object], None],
) -> None:
    largest = 0.0  # in epochs a worker
    for seed in range(10):
        draw = random.Random(seed)
        workers, budget_h = draw.randint(1, 8), draw.uniform(0.5, 4.0)
        seconds = budget_h * HOUR / workers
        limit: dict[str, Any] = {"gpu_hours": budget_h}
        if kind == "deadline":
            limit = {"deadline": datetime.fromtimestamp(1e9 + seconds, UTC)}
        study, clock, executor = simulate(experiment(trials=trials, **limit), workers, seed, kept=kept)
        over_s = clock.now - 1e9 - seconds
        largest = max(largest, over_s / executor.longest_s)
        assert over_s <= executor.longest_s
        assert max(executor.began) < 1e9 + seconds  # nothing begins once it is spent
        assert trials < 500 or over_s > -180  # and what there is, is used
        assert study.budget.used_s == pytest.approx(workers * (clock.now - 1e9))
        assert {t.status for t in study.trials.values()} <= {"completed", "stopped"}
        assert {t.reason for t in study.trials.values()} <= {"", "BUDGET"}
    print(f"\nlargest overrun, {kind}: {largest:.2f} epochs a worker")
    record_property("largest_overrun_epochs_a_worker", largest)


def test_what_is_left_over_goes_to_whichever_stopped_trial_has_room(experiment: MakeExperiment) -> None:
    between_rungs = 6
    for epochs in range(100, 400, 7):
        search = experiment(trials=20, epochs=27, grace=3, gpu_hours=epochs * 100 / HOUR)
        _, clock, _ = simulate(search, 1, seed=epochs, pace=lambda study, trial, luck: 100)
        assert 1e9 + epochs * 100 - clock.now < between_rungs * 100


def test_no_trial_starts_that_cannot_reach_its_first_rung(experiment: MakeExperiment) -> None:
    clock = Clock()
    study = Study("s", experiment(trials=50, grace=3, gpu_hours=1.0), MemoryJournal(), ignore, clock=clock)
    study.held(["w"])
    assignment = study.next_trial()
    assert assignment is not None
    study.started(0, 1, "here", None, 1)
    clock.now += 1000
    study.epoch(0, 1, 1, 0.004, 1000.0)  # 2,600 s are left; a first rung takes 3,000 s, an epoch 1,000 s
    assert study.next_trial() is None
    assert not study.complete
    clock.now += 1000
    assert study.epoch(0, 1, 2, 0.003, 1000.0) == "continue"
    clock.now += 1000
    assert study.epoch(0, 1, 3, 0.003, 1000.0) == "stop"
    assert (study.trials[0].status, study.trials[0].reason) == ("stopped", "BUDGET")
    assert study.trials[0].message == "the budget leaves no time for it: 0.833 of 1 GPU hours"
    assert (study.complete, study.left) == (True, 0)


def test_a_trial_that_waited_too_long_for_its_worker_does_not_begin(experiment: MakeExperiment) -> None:
    clock = Clock()
    deadline = datetime.fromtimestamp(clock.now + 60, UTC)
    study = Study("s", experiment(deadline=deadline), MemoryJournal(), ignore, clock=clock)
    assert study.next_trial() is not None
    clock.now += 60
    assert study.overdue
    assert study.started(0, 1, "here", None, 1) == "stop"
    assert study.trials[0].reason == "BUDGET"


def test_trials_whose_workers_never_came_are_ended_with_the_search(experiment: MakeExperiment) -> None:
    clock = Clock()
    deadline = datetime.fromtimestamp(clock.now + 60, UTC)
    study = Study("s", experiment(deadline=deadline), MemoryJournal(), ignore, clock=clock)
    study.next_trial()
    study.next_trial()
    assert not study.overdue
    clock.now += 60
    study.close()
    assert study.complete
    assert [trial.reason for trial in study.trials.values()] == ["BUDGET", "BUDGET"]


def epochs_of(trials: dict[int, TrialState]) -> int:
    return sum(len(trial.epochs) for trial in trials.values())


def test_a_spent_study_is_complete_until_its_budget_grows(
    experiment: MakeExperiment, paths: StudyPaths
) -> None:
    clock, before = Clock(), 0
    for seed, gpu_hours in enumerate((0.5, 1.0, 20.0)):
        with Journal(paths) as journal:
            study = Study("s", experiment(gpu_hours=gpu_hours), journal, ignore, clock=clock)
            assert not study.complete
            Executor(study, clock, 2, seed).run()
        with Journal(paths) as journal:
            study = Study("s", experiment(gpu_hours=gpu_hours), journal, ignore, clock=clock)
            assert study.complete
        trials = fold(read_journal(paths.journal))
        assert epochs_of(trials) > before
        assert all(sorted(t.epochs) == list(range(1, len(t.epochs) + 1)) for t in trials.values())
        before = epochs_of(trials)
        clock.now += 10 * HOUR  # nobody pays for the time between
    assert len(trials) == 6
    assert not any(trial.reason for trial in trials.values())
    assert study.budget.used_s < 20 * HOUR


def test_what_a_trial_needs_to_go_on_waits_with_it(
    experiment: MakeExperiment, paths: StudyPaths, tmp_path: Path
) -> None:
    clock = Clock()
    with Journal(paths) as journal:
        study = Study("s", experiment(gpu_hours=0.5), journal, ignore, clock=clock)
        Executor(study, clock, 2).run()
    stopped = [trial.number for trial in study.trials.values() if trial.reason == "BUDGET"]
    assert stopped
    for number in study.trials:
        run = paths.trial(number)
        run.root.mkdir(parents=True)
        run.latest.touch()
    prune(paths, study.trials.values(), keep=1)
    assert [number for number in study.trials if paths.trial(number).latest.exists()] == stopped


def held(time: float, *workers: str) -> Held:
    return Held(time=time, workers=list(workers))


@pytest.mark.parametrize(
    ("records", "used_s"),
    [
        ([held(0, "a", "b"), held(50, "a", "b")], 100),
        ([held(0, "a"), held(50, "a", "b"), held(70, "b")], 70 + 20),
        ([held(0, "a"), held(50, "a"), held(1000, "b"), held(1010, "b")], 50 + BEAT_S + 10),  # killed
        ([held(0, "17"), held(50, "17"), held(1000), held(1010, "17")], 1010),  # outlived its driver
        ([held(0, "a"), held(50), held(1000, "b"), held(1010, "b")], 50 + 10),
        ([held(50, "a"), held(20, "a")], 0),  # a clock that was set back
        (
            [held(0, "a", "b"), Ended(time=32, trial=0, status="completed")],
            2 * 32,
        ),  # known to be held by then
    ],
)
def test_what_was_used_is_a_fold_over_the_journal(records: list[Record], used_s: float) -> None:
    assert Budget.from_journal(SearchConfig(gpu_hours=1), records).used_s == used_s


def test_held_workers_are_recorded_when_they_change_and_now_and_then() -> None:
    clock = Clock()
    budget = Budget(SearchConfig(), clock)

    def written(*workers: str) -> bool:
        record = budget.report(workers)
        if record is not None:
            budget.take(Held(time=clock.now, workers=record.workers))
        return record is not None

    assert written("a")
    assert not written("a")
    assert written("a", "b")
    clock.now += BEAT_S
    assert written("b", "a")
    clock.now += 5
    assert budget.used_s == 2 * BEAT_S + 2 * 5
    assert written()


def test_without_a_limit_everything_fits() -> None:
    budget = Budget.from_journal(SearchConfig(), [epoch(1e6)])
    assert (budget.fits(1e9), budget.trials(1)) == (True, float("inf"))
    assert (budget.limited, budget.text()) == (False, "")


def test_a_deadline_alone_tells_nothing_of_gpu_hours() -> None:
    search = SearchConfig(deadline=datetime.fromtimestamp(1e9 + 100, UTC))
    budget = Budget.from_journal(search, [Begun(time=1e9, study="s"), epoch(10)], Clock())
    assert (budget.trials(9), budget.trials(11)) == (float("inf"), 0)


def epoch(seconds: float) -> Epoch:
    return Epoch(trial=0, attempt=1, epoch=1, rmse=1, seconds=seconds, decision="continue", rung=None)


@pytest.mark.parametrize(
    ("records", "told"),
    [
        ([], "whether that is enough is seen after the first epochs"),
        ([epoch(36)], "all that is left to train takes about 1 GPU hours and fits"),
        ([epoch(72)], "all that is left to train takes about 2 GPU hours and does not fit"),
    ],
)
def test_a_plan_can_tell_whether_it_fits_once_an_epoch_was_measured(
    paths: StudyPaths, records: list[Record], told: str
) -> None:
    search = SearchConfig(gpu_hours=1.5, trials=101, epochs=1, share=0)
    with Journal(paths) as journal:
        begun = [Begun(study="s"), Drawn(trial=0, values={}, seed=0, source="random")]
        for record in [*begun, *records, Ended(trial=0, status="completed")]:
            journal.append(record)
    text = budget_text([(paths, search)], workers=1)
    assert text.startswith(f"0 of 1.5 GPU hours; {told}")


def test_a_plan_of_several_studies_tells_of_their_one_budget(tmp_path: Path) -> None:
    searches = []
    for name, used_s in (("a", 360), ("b", 720)):
        paths = Workspace(tmp_path).study(name)
        with Journal(paths) as journal:
            for record in [held(0, "w"), held(used_s, "w"), held(used_s)]:
                journal.append(record)
        searches.append((paths, SearchConfig(gpu_hours=2)))
    assert budget_text(searches, workers=1).startswith("0.3 of 2 GPU hours for 2 studies together; ")


def test_another_budget_is_no_other_request(experiment: MakeExperiment) -> None:
    moment = datetime(2026, 12, 1, 8, tzinfo=UTC)
    old = Request("s", "full", "d", None, experiment(gpu_hours=1.0, deadline=moment))
    refuse_other(old, Request("s", "full", "d", None, experiment(gpu_hours=0.5)))


def test_a_deadline_without_an_offset_is_local_time() -> None:
    naive = SearchConfig.model_validate({"deadline": "2026-12-01T08:00"}).deadline
    assert naive is not None
    assert naive == datetime(2026, 12, 1, 8).astimezone()
    given = SearchConfig.model_validate({"deadline": "2026-12-01T08:00+05:00"}).deadline
    assert given == datetime(2026, 12, 1, 3, tzinfo=UTC)
