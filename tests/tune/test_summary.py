"""What a person is told of a study's best error: the mean of a confirmed setting, or that of one run."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config import Experiment
from pipeline.paths import StudyPaths, Workspace
from pipeline.records import Drawn, Ended, Epoch, Record, Started
from tune.journal import MemoryJournal
from tune.progress import status_line
from tune.request import Request
from tune.status import main
from tune.studies import Studies
from tune.study import Study
from tune.summary import summary

MakeExperiment = Callable[..., Experiment]
LUCKY = [(0, None, 0.00405)]  # number, what it confirms, RMSE in metres
STEADY = [(0, None, 0.0040), (1, 0, 0.0041), (2, 0, 0.0043), (3, 0, 0.0042)]


def records(runs: list[tuple[int, int | None, float]]) -> list[Record]:
    """The journal of a study of which each run had one epoch."""
    told: list[Record] = []
    for number, confirms, rmse in runs:
        source = "random" if confirms is None else "confirm"
        told += [
            Drawn(trial=number, values={}, seed=number, source=source, confirms=confirms),
            Started(trial=number, attempt=1, node="here", slurm_job=None, pid=1),
            Epoch(trial=number, attempt=1, epoch=1, rmse=rmse, seconds=1.0, decision="continue", rung=None),
            Ended(trial=number, status="completed"),
        ]
    return told


@pytest.fixture
def study(experiment: MakeExperiment) -> Callable[..., Study]:
    def make(name: str, runs: list[tuple[int, int | None, float]]) -> Study:
        search = experiment(trials=1, confirm=int(len(runs) > 1))
        return Study(name, search, MemoryJournal(records(runs)), lambda s, r: None)

    return make


def test_several_studies_are_told_with_what_stands_behind_their_errors(
    study: Callable[..., Study], tmp_path: Path
) -> None:
    studies = Studies([study("lucky", LUCKY), study("steady", STEADY)], print)
    assert summary(studies, Workspace(tmp_path)).splitlines()[:3] == [
        "lucky     4.050 mm, one run: trial 0; 1 completed",
        "steady    4.200 mm +- 0.100: trial 0; 4 completed",
        "confirmed    1 of 2: +- is the spread of the seeds; --confirm 3 tells of the others",
    ]


def test_the_winner_is_named_whichever_study_it_is_of(study: Callable[..., Study], tmp_path: Path) -> None:
    studies = Studies([study("lucky", LUCKY), study("steady", STEADY)], print)
    workspace = Workspace(tmp_path)
    assert f"winner       {workspace.best}\n" in summary(studies, workspace)
    workspace.best.write_text("row: {study: earlier, trial: 7, config_hash: f0}")
    assert f"winner       {workspace.best} (trial 7 of study earlier)\n" in summary(studies, workspace)


def test_several_studies_of_which_none_or_all_are_confirmed(
    study: Callable[..., Study], tmp_path: Path
) -> None:
    none = Studies([study("a", LUCKY), study("b", LUCKY)], print)
    told = summary(none, Workspace(tmp_path)).splitlines()[2]
    assert told == "confirmed    no: one run with one seed, its spread is unknown; --confirm 3 tells"
    both = Studies([study("a", STEADY), study("b", STEADY)], print)
    told = summary(both, Workspace(tmp_path)).splitlines()[2]
    assert told == "confirmed    2 of 2: +- is the spread of the seeds"


def test_while_studies_run_the_best_is_the_one_that_would_win(study: Callable[..., Study]) -> None:
    lucky, steady = study("lucky", LUCKY), study("steady", STEADY)
    assert ", best 4.050 mm (trial 0)" in status_line([lucky], workers=1)
    assert ", best 4.200 mm (trial 0, confirmed)" in status_line([steady], workers=1)
    assert ", best 4.050 mm (lucky, trial 0)" in status_line([steady, lucky], workers=1)


def test_the_table_of_studies_shows_the_mean_of_a_confirmed_setting(
    paths: StudyPaths, experiment: MakeExperiment, capsys: pytest.CaptureFixture[str]
) -> None:
    paths.root.mkdir(parents=True)
    Request("s", "smoke", "d", None, experiment(confirm=1)).write(paths)
    paths.journal.write_text("".join(record.line() for record in records(STEADY)))
    main(["--runs", str(paths.root.parents[1])])
    assert "4.200 mm 0" in " ".join(capsys.readouterr().out.split())
