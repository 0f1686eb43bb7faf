"""A study that starts from the best of an earlier one."""

import math
import random
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.paths import StudyPaths, Workspace
from pipeline.records import Begun, Drawn, Warm, read_journal
from pipeline.trials import fold
from tests.tune.earlier import CONFIGURED, MakeExperiment, setting, take, three_trials, trained
from tune.journal import Journal
from tune.study import Study


def test_the_best_settings_come_after_the_configured_one(
    earlier: MakeExperiment, warm_study: Callable[..., Any]
) -> None:
    earlier(*three_trials())
    study, journal = warm_study()
    drawn = take(study, 5)
    journal.close()
    assert [record.source for record in drawn] == ["configured", "warm", "warm", "random", "random"]
    assert [record.values for record in drawn[:3]] == [CONFIGURED, setting(3e-3), setting(2e-3)]
    assert len({record.seed for record in drawn}) == 5


def test_the_other_trials_are_those_of_a_study_that_starts_from_nothing(
    earlier: MakeExperiment, warm_study: Callable[..., Any], experiment: MakeExperiment, tmp_path: Path
) -> None:
    earlier(*three_trials())
    study, journal = warm_study()
    drawn = take(study, 6)
    journal.close()
    cold_journal = Journal(StudyPaths(tmp_path / "cold"))
    cold = take(Study("s", experiment(), cold_journal, lambda _study, _record: None), 6)
    cold_journal.close()
    assert [(r.values, r.seed) for r in drawn[3:]] == [(r.values, r.seed) for r in cold[3:]]
    assert [r.seed for r in drawn] == [r.seed for r in cold]


def test_what_is_taken_over_is_the_first_thing_in_the_journal_and_there_once(
    earlier: MakeExperiment, warm_study: Callable[..., Any], paths: StudyPaths
) -> None:
    earlier(*three_trials())
    for _ in range(2):
        study, journal = warm_study()
        take(study, 3)
        journal.close()
    records = read_journal(paths.journal)
    assert [type(record) for record in records[:3]] == [Begun, Warm, Drawn]
    assert sum(isinstance(record, Warm) for record in records) == 1
    assert fold(records).keys() == {0, 1, 2}


def test_it_resumes_without_the_earlier_study_as_if_that_were_there(
    earlier: MakeExperiment, warm_study: Callable[..., Any], workspace: Workspace, paths: StudyPaths
) -> None:
    earlier(*three_trials())
    study, journal = warm_study(sampler="tpe")
    expected = take(study, 5)
    journal.close()
    whole = paths.journal.read_bytes().splitlines(keepends=True)
    shutil.rmtree(workspace.study("old").root)
    for lines in range(2, len(whole)):
        paths.journal.write_bytes(b"".join(whole[:lines]) + whole[lines][:9])
        study, journal = warm_study(sampler="tpe")
        drawn = take(study, 5)
        journal.close()
        assert [(r.values, r.seed, r.source) for r in drawn] == [
            (r.values, r.seed, r.source) for r in expected
        ]


def test_a_driver_that_died_before_it_was_written_down_takes_it_over_again(
    earlier: MakeExperiment, warm_study: Callable[..., Any], paths: StudyPaths
) -> None:
    earlier(*three_trials())
    for cut in (0, 1):
        study, journal = warm_study()
        journal.close()
        whole = paths.journal.read_bytes().splitlines(keepends=True)
        paths.journal.write_bytes(b"".join(whole[:cut]) + whole[cut][:20])
        study, journal = warm_study()
        assert [record.source for record in take(study, 2)] == ["configured", "warm"]
        journal.close()
        paths.journal.unlink()


def test_what_the_earlier_study_does_later_changes_nothing(
    earlier: MakeExperiment, warm_study: Callable[..., Any], workspace: Workspace
) -> None:
    earlier(*three_trials())
    study, journal = warm_study()
    journal.close()
    with Journal(workspace.study("old")) as old:
        for record in trained(6, setting(7e-3), 0.001):
            old.append(record)
    study, journal = warm_study()
    drawn = take(study, 3)
    journal.close()
    assert [record.values for record in drawn[1:]] == [setting(3e-3), setting(2e-3)]


def test_tpe_goes_out_from_what_the_earlier_study_learnt(
    earlier: MakeExperiment, warm_study: Callable[..., Any]
) -> None:
    def error(values: dict[str, Any]) -> float:
        return float(0.003 * (1 + abs(math.log10(values["train.lr"]) + 3)))  # best at 1e-3

    draw = random.Random(0)
    settings = [setting(10 ** draw.uniform(-4, -2)) for _ in range(30)]
    earlier(*(trained(number, values, error(values)) for number, values in enumerate(settings)))
    study, journal = warm_study(sampler="tpe", warm_settings=1, trials=12, share=0)
    while (assignment := study.next_trial()) is not None:
        trial = study.trials[assignment.trial]
        study.started(trial.number, 1, "here", None, 1)
        study.epoch(trial.number, 1, 1, error(trial.values), 1.0)
        study.ended(trial.number, 1, "completed")
    journal.close()
    assert [trial.source for trial in study.trials.values()] == ["configured", "warm"] + 10 * ["tpe"]
    misses = [abs(math.log10(trial.values["train.lr"]) + 3) for trial in study.trials.values()]
    assert statistics.median(misses[2:]) < 0.25  # at random: 0.5
