"""What a driver does around a search: upkeep that ends nothing."""

from collections.abc import Callable

from pipeline.paths import StudyPaths, Workspace
from pipeline.records import Started
from tune.driver import Upkeep
from tune.journal import Journal
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
        upkeep.run(study)
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
    Upkeep(workspace, lambda text: None).run(study)
    journal.close()


def test_upkeep_is_not_due_after_every_record(open_study: OpenStudy, paths: StudyPaths) -> None:
    study, journal = open_study()
    workspace = Workspace(paths.root.parents[1])
    upkeep = Upkeep(workspace, lambda text: None)
    upkeep.after(study, Started(trial=0, attempt=1, node="here", slurm_job=None, pid=1))
    journal.close()
    assert not workspace.leaderboard.exists()
