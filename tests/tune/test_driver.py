"""What a driver does around a search: upkeep that ends nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config import Experiment
from pipeline.paths import StudyPaths, Workspace
from pipeline.records import Started
from tune.driver import UPKEEP_EVERY_S, Upkeep, by_budget
from tune.journal import Journal, MemoryJournal
from tune.request import Request
from tune.study import Study

OpenStudy = Callable[..., tuple[Study, Journal]]


def test_upkeep_that_fails_is_told_once_and_ends_nothing(open_study: OpenStudy, paths: StudyPaths) -> None:
    study, journal = open_study()
    Request("s", "smoke", "d", None, study.experiment).write(paths)
    study.next_trial()
    study.started(0, 1, "here", None, 1)
    workspace = Workspace(paths.root.parents[1])
    workspace.leaderboard.mkdir()  # so that it cannot be replaced
    told: list[str] = []
    upkeep = Upkeep(workspace, told.append)
    for _ in range(2):
        upkeep.run([study])
    journal.close()
    assert len(told) == 1
    assert told[0].startswith(
        "upkeep (leaderboard, old checkpoints) failed; the search goes on: IsADirectoryError"
    )


def test_what_another_study_left_damaged_ends_nothing(open_study: OpenStudy, paths: StudyPaths) -> None:
    study, journal = open_study()
    workspace = Workspace(paths.root.parents[1])
    damaged = workspace.study("damaged")
    damaged.root.mkdir()
    damaged.request.touch()
    damaged.journal.write_text("what is this\n")
    run = workspace.run("train", "old")
    run.root.mkdir(parents=True)
    run.record.write_text("{}\n")
    Upkeep(workspace, lambda text: None).run([study])
    journal.close()


def test_upkeep_is_not_due_after_every_record(open_study: OpenStudy, paths: StudyPaths) -> None:
    study, journal = open_study()
    workspace = Workspace(paths.root.parents[1])
    upkeep = Upkeep(workspace, lambda text: None)
    upkeep.after(study, Started(trial=0, attempt=1, node="here", slurm_job=None, pid=1))
    journal.close()
    assert not workspace.leaderboard.exists()


def test_a_study_that_is_over_is_seen_to_with_the_next_one_that_changes(
    experiment: Callable[..., Experiment], tmp_path: Path
) -> None:
    workspace = Workspace(tmp_path)
    now = 0.0
    upkeep = Upkeep(workspace, pytest.fail, clock=lambda: now)
    with Journal(workspace.study("a")) as first, Journal(workspace.study("b")) as second:
        studies = [
            Study(name, experiment(trials=1), journal, upkeep.after)
            for name, journal in (("a", first), ("b", second))
        ]
        for study in studies:
            Request(study.name, "smoke", "d", None, study.experiment).write(study.paths)
            study.next_trial()
            study.started(0, 1, "here", None, 1)
        upkeep.run([])  # nothing is due for a while
        run = studies[0].paths.trial(0)
        run.root.mkdir(parents=True)
        run.latest.touch()
        studies[0].ended(0, 1, "failed", "DIVERGED", "the loss is nan")
        assert run.latest.exists()
        now += UPKEEP_EVERY_S
        studies[1].ended(0, 1, "failed", "DIVERGED", "the loss is nan")
        assert not run.latest.exists()


def test_a_study_that_its_budget_ended_says_how_to_go_on(experiment: Callable[..., Experiment]) -> None:
    now = [1e9]
    study = Study("s", experiment(gpu_hours=1.0), MemoryJournal(), lambda s, r: None, clock=lambda: now[0])
    study.held(["w"])
    assert by_budget(study).endswith(
        "the budget stopped 0 trials, and 5 never began; a larger --gpu-hours goes on with them"
    )
    study.next_trial()
    study.started(0, 1, "here", None, 1)
    now[0] += 3600
    study.epoch(0, 1, 1, 0.004, 3600.0)
    assert by_budget(study) == (
        " within 1 of 1 GPU hours: the budget stopped 1 trial, and 5 never began; a larger "
        "--gpu-hours goes on with them"
    )
    unlimited = Study("s", experiment(), MemoryJournal(), lambda s, r: None)
    assert by_budget(unlimited) == ""
