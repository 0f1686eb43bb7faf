"""When a search ends because nothing but one mistake comes of its first trials."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import StudyError
from pipeline.trials import TrialState
from tune.failures import CONSEQUENCES, MAX_FRUITLESS, teaches
from tune.journal import Journal
from tune.study import Study

OpenStudy = Callable[..., tuple[Study, Journal]]


def fail_next(study: Study, reason: str, message: str) -> None:
    assignment = study.next_trial()
    assert assignment is not None
    study.started(assignment.trial, assignment.attempt, "here", None, 1)
    study.ended(assignment.trial, assignment.attempt, "failed", reason, message)


def test_the_same_error_from_the_first_trials_spares_the_others(open_study: OpenStudy) -> None:
    study, journal = open_study(trials=50)
    fail_next(study, "USER_ERROR", "Traceback\nValueError: betas at trial 0")
    fail_next(study, "USER_ERROR", "Traceback\nValueError: betas at trial 1")
    with pytest.raises(
        StudyError, match=r"3 trials failed of the same error before any had trained(.|\n)*betas at trial 0"
    ):
        fail_next(study, "USER_ERROR", "Traceback\nValueError: betas at trial 2")
    journal.close()
    assert len(study.trials) == 3


@pytest.mark.parametrize("reason", ["USER_ERROR", "CUDA_OOM"])
def test_what_fails_by_itself_beside_the_same_error_does_not_hide_it(
    open_study: OpenStudy, reason: str
) -> None:
    study, journal = open_study(trials=50)
    fail_next(study, "DIVERGED", "the loss is nan")
    fail_next(study, reason, "no room for 3 GB")
    fail_next(study, reason, "no room for 3 GB")
    with pytest.raises(StudyError, match=r"3 trials failed of the same error(.|\n)*no room for 3 GB"):
        fail_next(study, reason, "no room for 4 GB")
    journal.close()


def after_three_failures(open_study: OpenStudy) -> tuple[Study, Journal]:
    """A study of five trials that an error of the request has ended, opened again."""
    study, journal = open_study(trials=5)
    for _ in range(2):
        fail_next(study, "USER_ERROR", "no such module")
    with pytest.raises(StudyError):
        fail_next(study, "USER_ERROR", "no such module")
    journal.close()
    return open_study(trials=5)


def test_once_that_is_mended_the_same_command_tries_these_trials_again(open_study: OpenStudy) -> None:
    again, journal = after_three_failures(open_study)
    given = [again.next_trial() for _ in range(5)]
    assert [(a.trial, a.attempt) for a in given if a] == [(0, 2), (1, 2), (2, 2), (3, 1), (4, 1)]
    assert again.started(0, 2, "here", None, 1) == "continue"
    assert again.epoch(0, 2, 1, 0.004, 1.0) == "continue"
    assert (again.trials[0].status, again.trials[0].reason) == ("running", "")
    journal.close()


def test_who_is_to_be_tried_again_is_so_after_the_next_death_of_the_driver_too(open_study: OpenStudy) -> None:
    again, journal = after_three_failures(open_study)
    assert again.next_trial() is not None
    again.started(0, 2, "here", None, 1)
    again.epoch(0, 2, 1, 0.004, 1.0)
    journal.close()
    third, journal = open_study(trials=5)
    journal.close()
    assert [third.trials[number].status for number in range(3)] == ["running", "waiting", "waiting"]


def test_workers_that_always_die_end_a_search_too_and_count_anew_once_that_is_mended(
    open_study: OpenStudy,
) -> None:
    study, journal = open_study(trials=50)
    with pytest.raises(StudyError, match=r"3 trials failed(.|\n)*died 2 times; the last time: out of memory"):
        while (assignment := study.next_trial()) is not None:
            study.started(assignment.trial, assignment.attempt, "here", None, 1)
            study.lost(assignment.trial, assignment.attempt, "out of memory", "HOST_OOM")
    journal.close()
    assert len(study.trials) == 3
    again, journal = open_study(trials=50)
    assert again.next_trial() is not None
    again.started(0, 3, "here", None, 1)
    again.lost(0, 3, "out of memory", "HOST_OOM")
    journal.close()
    assert [again.trials[number].status for number in range(3)] == ["waiting"] * 3


@pytest.mark.parametrize(
    ("reason", "messages"),
    [
        ("DIVERGED", ["the loss is nan"] * 5),
        ("USER_ERROR", ["one thing", "another", "a third", "one thing", "another"]),
    ],
)
def test_trials_that_fail_by_themselves_end_no_search(
    open_study: OpenStudy, reason: str, messages: list[str]
) -> None:
    study, journal = open_study(trials=50)
    for message in messages:
        fail_next(study, reason, message)
    journal.close()


def test_the_same_error_after_something_has_been_trained_ends_no_search(open_study: OpenStudy) -> None:
    study, journal = open_study(trials=50)
    study.next_trial()
    study.started(0, 1, "here", None, 1)
    study.epoch(0, 1, 1, 0.004, 1.0)
    for _ in range(5):
        fail_next(study, "USER_ERROR", "the same")
    journal.close()


def test_every_reason_of_the_leaderboard_has_its_consequence() -> None:
    promised = "CUDA_OOM HOST_OOM TIMEOUT PREEMPTED NODE_FAIL DIVERGED USER_ERROR BUDGET STOPPED_BY_USER"
    assert set(CONSEQUENCES) == set(promised.split())
    again = {reason: consequence.retries for reason, consequence in CONSEQUENCES.items()}
    assert [reason for reason, retries in again.items() if retries == 0] == [
        *("CUDA_OOM", "DIVERGED", "USER_ERROR")
    ]
    assert (again["HOST_OOM"], again["NODE_FAIL"]) == (1, 3)


@pytest.mark.parametrize(
    ("status", "reason", "told"),
    [
        ("completed", "", True),
        ("stopped", "BUDGET", True),
        ("failed", "DIVERGED", True),
        ("failed", "CUDA_OOM", False),
        ("failed", "NODE_FAIL", False),
    ],
)
def test_only_what_is_the_settings_own_teaches_the_sampler(status: str, reason: str, told: bool) -> None:
    trial = TrialState(0, {}, 0, "random", 0.0, status=status, reason=reason)
    assert teaches(trial) == told


@pytest.mark.parametrize("reason", [r for r, c in CONSEQUENCES.items() if c.retries == 0])
def test_what_would_fail_again_is_not_tried_again(open_study: OpenStudy, reason: str) -> None:
    study, journal = open_study(trials=1)
    fail_next(study, reason, "no")
    journal.close()
    assert (study.complete, study.trials[0].reason) == (True, reason)


LIMITED = [(reason, c.retries) for reason, c in CONSEQUENCES.items() if c.retries is not None]


@pytest.mark.parametrize(("reason", "retries"), LIMITED)
def test_a_trial_is_tried_again_as_often_as_the_table_says(
    open_study: OpenStudy, reason: str, retries: int
) -> None:
    study, journal = open_study(trials=1)
    lose_until_complete(study, reason)
    journal.close()
    trial = study.trials[0]
    assert (trial.status, trial.reason, len(trial.attempts)) == ("failed", reason, retries + 1)


@pytest.mark.parametrize("reason", [r for r, c in CONSEQUENCES.items() if c.retries is None])
def test_what_is_no_fault_of_the_trial_counts_only_when_nothing_comes_of_it(
    open_study: OpenStudy, reason: str
) -> None:
    study, journal = open_study(trials=1)
    lose_until_complete(study, reason)
    journal.close()
    trial = study.trials[0]
    assert (trial.status, trial.reason, len(trial.attempts)) == ("failed", reason, MAX_FRUITLESS)


def lose_until_complete(study: Study, reason: str) -> None:
    while not study.complete:
        assignment = study.next_trial()
        assert assignment is not None
        study.started(assignment.trial, assignment.attempt, "here", "17", 1)
        study.lost(assignment.trial, assignment.attempt, "gone", reason)


def test_each_reason_has_retries_of_its_own_and_the_last_one_names_the_failure(open_study: OpenStudy) -> None:
    study, journal = open_study(trials=1)
    for attempt, reason in enumerate(["NODE_FAIL", "NODE_FAIL", "HOST_OOM", "NODE_FAIL", "HOST_OOM"], 1):
        assert study.next_trial() is not None
        study.started(0, attempt, "here", "17", 1)
        study.lost(0, attempt, "gone", reason)
    journal.close()
    trial = study.trials[0]
    assert (trial.status, trial.reason) == ("failed", "HOST_OOM")
    assert trial.message == "its worker died 5 times; the last time: gone"


def test_losses_in_a_row_that_bring_nothing_end_a_trial_whatever_they_are(open_study: OpenStudy) -> None:
    study, journal = open_study(trials=1)
    for attempt, reason in enumerate(["PREEMPTED", "TIMEOUT"] * (MAX_FRUITLESS // 2), 1):
        assert not study.complete
        assert study.next_trial() is not None
        study.started(0, attempt, "here", "17", 1)
        study.lost(0, attempt, "gone", reason, counted=False)
    journal.close()
    assert (study.complete, study.trials[0].reason) == (True, "TIMEOUT")


def test_the_page_on_searches_says_what_follows_from_each_failure() -> None:
    page = (Path(__file__).parents[2] / "tune" / "README.md").read_text(encoding="utf-8")
    rows = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("| `")]
    told = {name: row for row in rows for name in re.findall(r"`(\w+)`", row[0]) if name in CONSEQUENCES}
    words = {0: "no", 1: "once", 3: "three times"}
    for reason, consequence in CONSEQUENCES.items():
        _, _, again, teaches = map(str.strip, told[reason])
        if consequence.retries is None:
            assert again.startswith(("as often as it happens", "when there is more"))
        else:
            assert again == words[consequence.retries]
        assert teaches.startswith("yes" if consequence.teaches else "no")
