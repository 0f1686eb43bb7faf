import math
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import StudyError
from pipeline.paths import StudyPaths
from pipeline.records import Ended, Record, Revived, read_journal
from tests.tune.soundness import assert_sound, decided
from tune.failures import CONSEQUENCES, MAX_FRUITLESS
from tune.journal import Journal, MemoryJournal
from tune.study import Study
from tune.supply import Assignment

OpenStudy = Callable[..., tuple[Study, Journal]]


MAX_LOST_NODES = CONSEQUENCES["NODE_FAIL"].retries or 0


def curve(assignment: Assignment, epoch: int) -> float:
    """A made-up validation RMSE in metres that depends on the configuration only."""
    return random.Random(assignment.config.hash()).uniform(2e-3, 8e-3) * (1 + 1 / epoch)


def run(study: Study, workers: int = 2) -> None:
    """Trains every trial of a study with made-up curves, `workers` at a time, in turn."""
    at_work: list[tuple[Assignment, int]] = []
    while not study.complete:
        while len(at_work) < workers and (assignment := study.next_trial()) is not None:
            study.started(assignment.trial, assignment.attempt, "here", None, 1)
            at_work.append((assignment, 1))
        assignment, epoch = at_work.pop(0)
        trial, attempt = assignment.trial, assignment.attempt
        if epoch > assignment.config.train.epochs:
            study.ended(trial, attempt, "completed")
        elif study.epoch(trial, attempt, epoch, curve(assignment, epoch), 1.0) == "continue":
            at_work.append((assignment, epoch + 1))


def test_a_study_runs_to_its_end(open_study: OpenStudy, paths: StudyPaths) -> None:
    study, journal = open_study()
    run(study)
    journal.close()
    assert_sound(read_journal(paths.journal), study.experiment.search)
    assert study.trials[0].source == "configured"
    assert {"completed", "stopped"} == {trial.status for trial in study.trials.values()}


def test_a_trial_is_trained_for_the_studys_epochs_with_its_own_seed(open_study: OpenStudy) -> None:
    study, journal = open_study()
    first, second = study.next_trial(), study.next_trial()
    journal.close()
    assert first is not None
    assert second is not None
    assert first.config.train.epochs == second.config.train.epochs == 9
    assert (first.config.seed, second.config.seed) == (study.trials[0].seed, study.trials[1].seed)
    assert first.config.seed != second.config.seed


def test_stopped_trials_go_on_with_what_is_left_of_the_share(
    open_study: OpenStudy, paths: StudyPaths
) -> None:
    study, journal = open_study(share=1)
    run(study)
    journal.close()
    assert_sound(read_journal(paths.journal), study.experiment.search)
    assert {trial.status for trial in study.trials.values()} == {"completed"}
    assert any(isinstance(record, Revived) for record in read_journal(paths.journal))


def test_unfinished_trials_come_first_with_their_own_values(open_study: OpenStudy) -> None:
    study, journal = open_study()
    before = [study.next_trial(), study.next_trial()]
    assert before[0] is not None
    study.started(before[0].trial, before[0].attempt, "here", None, 1)
    journal.close()
    study, journal = open_study()
    again = [study.next_trial(), study.next_trial()]
    journal.close()
    assert [a.config for a in again if a] == [b.config for b in before if b]
    assert [a.attempt for a in again if a] == [2, 1]


def test_epochs_that_are_known_are_not_recorded_again(open_study: OpenStudy, paths: StudyPaths) -> None:
    study, journal = open_study()
    assignment = study.next_trial()
    assert assignment is not None
    study.started(0, 1, "here", None, 1)
    assert study.epoch(0, 1, 1, 0.004, 1.0) == "continue"
    size = paths.journal.stat().st_size
    assert study.epoch(0, 1, 1, 0.009, 1.0) == "continue"
    assert paths.journal.stat().st_size == size
    journal.close()


def test_an_attempt_that_was_thought_dead_is_told_to_stop(open_study: OpenStudy) -> None:
    study, journal = open_study()
    study.next_trial()
    study.started(0, 1, "here", None, 1)
    study.lost(0, 1, "silent")
    study.next_trial()
    study.started(0, 2, "there", None, 2)
    assert study.epoch(0, 1, 1, 0.004, 1.0) == "stop"
    study.ended(0, 1, "failed", "USER_ERROR", "another attempt owns the folder")
    assert study.trials[0].status == "running"
    assert study.epoch(0, 2, 1, 0.004, 1.0) == "continue"
    journal.close()


def test_a_trial_whose_workers_keep_dying_fails_in_the_end(open_study: OpenStudy) -> None:
    study, journal = open_study(trials=1)
    for attempt in range(1, MAX_LOST_NODES + 2):
        assert study.next_trial() is not None
        study.started(0, attempt, "here", None, 1)
        study.lost(0, attempt, "killed")
    journal.close()
    assert study.complete
    trial = study.trials[0]
    assert (trial.status, trial.reason) == ("failed", "NODE_FAIL")
    assert "died 4 times; the last time: killed" in trial.message


def test_a_loss_that_is_no_fault_of_the_trial_is_not_held_against_it(open_study: OpenStudy) -> None:
    study, journal = open_study(trials=1)
    for attempt in range(1, MAX_LOST_NODES + 3):
        assert study.next_trial() is not None
        study.started(0, attempt, "here", "17", 1)
        study.lost(0, attempt, "its Slurm job 17 was preempted", counted=False)
    run(study)
    journal.close()
    assert (study.trials[0].status, study.trials[0].losses) == ("completed", 0)


def test_losses_without_an_epoch_are_held_against_a_trial_in_the_end(open_study: OpenStudy) -> None:
    study, journal = open_study(trials=1)
    attempts = 0
    while not study.complete:
        attempts += 1
        assert study.next_trial() is not None
        study.started(0, attempts, "here", "17", 1)
        study.lost(0, attempts, "its Slurm job 17 is ending", counted=False)
    journal.close()
    assert attempts == MAX_FRUITLESS
    assert (study.trials[0].status, study.trials[0].reason) == ("failed", "NODE_FAIL")


def test_the_loss_of_an_attempt_counts_once_and_does_not_take_its_successor(open_study: OpenStudy) -> None:
    study, journal = open_study(trials=1)
    study.next_trial()
    study.started(0, 1, "here", "17", 1)
    study.lost(0, 1, "saved", counted=False)
    study.lost(0, 1, "its process ended")
    assert study.next_trial() is not None
    study.lost(0, 1, "its process ended")
    assert (study.active, study.trials[0].losses) == (1, 0)
    assert study.started(0, 1, "here", "19", 1) == "stop"
    assert study.started(0, 2, "here", "18", 1) == "continue"
    study.lost(0, 1, "its process ended")
    journal.close()
    assert (study.trials[0].status, study.active, study.trials[0].losses) == ("running", 1, 0)


def test_it_knows_what_is_left_and_which_jobs_are_busy(open_study: OpenStudy) -> None:
    study, journal = open_study(trials=3)
    assert (study.left, study.busy_jobs) == (3, frozenset())
    for job in ("17", "18"):
        assignment = study.next_trial()
        assert assignment is not None
        study.started(assignment.trial, 1, "here", job, 1)
    assert (study.left, study.busy_jobs) == (3, {"17", "18"})
    study.ended(0, 1, "completed")
    study.lost(1, 1, "gone")
    journal.close()
    assert (study.left, study.busy_jobs) == (2, frozenset())
    assert (study.job_of(0, 1), study.job_of(0, 2)) == ("17", None)


def test_workers_that_cannot_begin_end_the_search_but_cost_no_trial(open_study: OpenStudy) -> None:
    study, journal = open_study(trials=1)
    with pytest.raises(
        StudyError, match=r"6 workers in a row died .*: no module named x\. No trial was lost"
    ):
        while (assignment := study.next_trial()) is not None:
            study.lost(assignment.trial, assignment.attempt, "no module named x")
    journal.close()
    assert (study.trials[0].status, study.trials[0].losses) == ("waiting", 0)


def test_a_full_disk_ends_the_search_and_no_trial(open_study: OpenStudy) -> None:
    study, journal = open_study(trials=2)
    study.next_trial()
    study.started(0, 1, "here", None, 1)
    error = study.stuck(0, "OSError: [Errno 28] No space left on device")
    journal.close()
    assert "No space left on device. No trial is lost: make room" in str(error)
    study, journal = open_study(trials=2)
    run(study)
    journal.close()
    assert {trial.status for trial in study.trials.values()} <= {"completed", "stopped"}


def test_an_error_that_is_not_finite_never_survives_a_rung(open_study: OpenStudy) -> None:
    for _ in range(2):  # a restarted study judges as the first one did
        study, journal = open_study(trials=3, share=1)
        while (assignment := study.next_trial()) is not None:
            study.started(assignment.trial, assignment.attempt, "here", None, 1)
            rung_epochs = (1, 2, 3) if assignment.trial else (1,)
            rmse = {1: 0.004 if assignment.trial else math.nan, 3: math.inf}
            decisions = [
                study.epoch(assignment.trial, assignment.attempt, epoch, rmse.get(epoch, 0.004), 1.0)
                for epoch in rung_epochs
            ]
            assert decisions == ["continue"] * (len(rung_epochs) - 1) + ["stop"]
        journal.close()
        assert {trial.status for trial in study.trials.values()} == {"stopped"}
        assert [trial.best_rmse for trial in study.trials.values()] == [None, 0.004, 0.004]
        assert study.left == 0


def test_no_configuration_is_trained_twice(open_study: OpenStudy) -> None:
    space = {"train.batch_size": {"choice": (8, 16, 32, 64)}}  # the configured one among them
    for sampler in ("random", "tpe"):
        study, journal = open_study(trials=9, space=space, sampler=sampler)
        run(study)
        journal.close()
        assert sorted(trial.values["train.batch_size"] for trial in study.trials.values()) == [8, 16, 32, 64]
        study.paths.journal.unlink()


def test_losses_are_counted_across_drivers(open_study: OpenStudy) -> None:
    for attempt in range(1, MAX_LOST_NODES + 2):
        study, journal = open_study(trials=1)
        assert study.next_trial() is not None
        study.started(0, attempt, "here", None, 1)
        study.lost(0, attempt, "killed")
        journal.close()
    assert study.trials[0].status == "failed"


def test_a_driver_killed_after_one_loss_too_many_has_the_trial_failed_by_the_next(
    open_study: OpenStudy, paths: StudyPaths
) -> None:
    study, journal = open_study(trials=1)
    while not study.complete:
        assignment = study.next_trial()
        assert assignment is not None
        study.started(0, assignment.attempt, "here", None, 1)
        study.lost(0, assignment.attempt, "killed")
    journal.close()
    whole = read_journal(paths.journal)
    assert isinstance(whole[-1], Ended)
    for cut in range(1, len(whole)):
        memory = MemoryJournal(whole[:cut])
        again = Study("s", study.experiment, memory, lambda study, record: None)
        assert again.complete == (cut == len(whole) - 1), f"cut after {cut} of {len(whole)} records"
    assert decided(memory) == decided(whole)


def test_a_failed_trial_does_not_hold_the_study_up(open_study: OpenStudy) -> None:
    study, journal = open_study(trials=2)
    study.next_trial()
    study.started(0, 1, "here", None, 1)
    study.ended(0, 1, "failed", "DIVERGED", "loss is nan")
    run(study)
    journal.close()
    assert [trial.status for trial in study.trials.values()] == ["failed", "completed"]


def test_a_finite_space_ends_the_study_early_and_a_restart_knows_it(open_study: OpenStudy) -> None:
    space = {"train.batch_size": {"choice": (8, 16)}}
    study, journal = open_study(trials=50, space=space)
    run(study)
    journal.close()
    assert (study.exhausted, len(study.trials)) == (True, 3)
    study, journal = open_study(trials=50, space=space)
    journal.close()
    assert study.complete


def test_more_trials_can_be_asked_for_later(open_study: OpenStudy, paths: StudyPaths) -> None:
    for trials in (3, 5):
        study, journal = open_study(trials=trials)
        run(study)
        journal.close()
    assert_sound(read_journal(paths.journal), study.experiment.search)


def test_a_record_is_on_disk_when_the_listener_hears_of_it(paths: StudyPaths, open_study: OpenStudy) -> None:
    def check(study: Study, record: Record) -> None:
        assert read_journal(paths.journal)[-1] == record

    study, journal = open_study(listen=check, trials=2)
    run(study)
    journal.close()


@pytest.mark.parametrize("workers", [1, 5])
def test_the_number_of_workers_changes_nothing_about_what_is_drawn(
    open_study: OpenStudy, paths: StudyPaths, workers: int, tmp_path: Path
) -> None:
    study, journal = open_study()
    run(study, workers)
    journal.close()
    reference = Study(
        "s", study.experiment, Journal(StudyPaths(tmp_path / "other")), lambda _study, _record: None
    )
    run(reference)
    assert [t.values for t in study.trials.values()] == [t.values for t in reference.trials.values()]
    assert [t.seed for t in study.trials.values()] == [t.seed for t in reference.trials.values()]
