"""A study that starts from the best of an earlier one."""

import math
import random
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.config import Experiment
from pipeline.data.pack import PackWriter, Sample, open_pack
from pipeline.errors import StudyError
from pipeline.paths import StudyPaths, Workspace
from pipeline.records import Begun, Drawn, Ended, Epoch, Record, Started, Warm, read_journal
from pipeline.train import fit
from pipeline.trials import fold
from tune.describe import trial_text
from tune.driver import carry_out
from tune.journal import Journal
from tune.local_ray import LocalRay
from tune.plan import make_plans, this_machine
from tune.progress import line_for
from tune.ranking import trusted_first
from tune.request import Request, refuse_other
from tune.search import build_parser, main
from tune.space import Space, canonical
from tune.study import Study
from tune.tpe import STARTUP
from tune.warm import begin, warm_lines, warm_start

MakeExperiment = Callable[..., Experiment]
DATA = 40 * "d"
SPACE = {"train.lr": {"log_uniform": (1e-4, 1e-2)}, "train.batch_size": {"choice": (8, 16)}}
CONFIGURED = {"train.lr": 1e-3, "train.batch_size": 32}


def setting(lr: float, **more: Any) -> dict[str, Any]:
    return {"train.lr": lr, "train.batch_size": 8, **more}


def trained(
    number: int, values: dict[str, Any], rmse: float | None = None, confirms: int | None = None, **end: Any
) -> list[Record]:
    """A trial's records; without an error it runs still, and has not reached a rung."""
    source = "random" if confirms is None else "confirm"
    drawn = Drawn(trial=number, values=values, seed=number, source=source, confirms=confirms)
    start = Started(trial=number, attempt=1, node="here", slurm_job=None, pid=1)
    if rmse is None and not end:
        return [drawn, start]
    epoch = Epoch(
        trial=number, attempt=1, epoch=9, rmse=rmse or math.nan, seconds=1.0, decision="continue", rung=None
    )
    return [drawn, start, *([epoch] if rmse else []), Ended(trial=number, **{"status": "completed"} | end)]


@pytest.fixture
def workspace(paths: StudyPaths) -> Workspace:
    return Workspace(paths.root.parents[1])


@pytest.fixture
def earlier(workspace: Workspace, experiment: MakeExperiment) -> Callable[..., Experiment]:
    """Writes the study `old`: its trials' records, with a configuration; says which one."""

    def write(*trials: list[Record], name: str = "old", profile: str = "smoke", **search: Any) -> Experiment:
        made = experiment(**search)
        Request(name, profile, DATA, None, made).write(workspace.study(name))
        with Journal(workspace.study(name)) as journal:
            for record in [Begun(study=name), *(record for trial in trials for record in trial)]:
                journal.append(record)
        return made

    return write


def three_trials() -> list[list[Record]]:
    return [
        trained(0, CONFIGURED, 0.004),
        trained(1, setting(2e-3), 0.005),
        trained(2, setting(3e-3), 0.003),
        trained(3, setting(4e-3)),
        trained(4, setting(5e-3), status="failed", reason="DIVERGED"),
        trained(5, setting(6e-3), status="failed", reason="CUDA_OOM"),
    ]


def request(experiment: Experiment, study: str = "s", profile: str = "smoke", data: str = DATA) -> Request:
    return Request(study, profile, data, None, experiment)


@pytest.fixture
def warm_study(workspace: Workspace, paths: StudyPaths, experiment: MakeExperiment) -> Callable[..., Study]:
    """Opens the study `s`, started from `old`, as a driver does, and closes its journal's lock."""

    def make(**search: Any) -> tuple[Study, Journal]:
        made = experiment(warm_start="old", **search)
        warm = warm_start(workspace, request(made))
        request(made).write(paths)
        journal = Journal(paths)
        begin(journal, "s", warm)
        return Study("s", made, journal, lambda _study, _record: None), journal

    return make


def take(study: Study, count: int) -> list[Drawn]:
    """The first trials as the journal has them; those that are new are given out."""
    while len(study.trials) < count and study.next_trial() is not None:
        pass
    records = read_journal(study.paths.journal)
    return [record for record in records if isinstance(record, Drawn)][:count]


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


@pytest.fixture
def taken_over(workspace: Workspace, experiment: MakeExperiment) -> Callable[..., Warm]:
    """What a new study with these search settings takes over from `old`."""

    def find(**search: Any) -> Warm:
        warm = warm_start(workspace, request(experiment(**{"warm_start": "old"} | search)))
        assert warm is not None
        return warm

    return find


def test_tpe_is_told_what_each_trial_promised_and_of_no_others(
    earlier: MakeExperiment, taken_over: Callable[..., Warm]
) -> None:
    earlier(*three_trials())
    assert taken_over(sampler="tpe").told == [
        {"values": CONFIGURED, "promise": 0.004},
        {"values": setting(2e-3), "promise": 0.005},
        {"values": setting(3e-3), "promise": 0.003},
        {
            "values": setting(5e-3),
            "promise": None,
        },  # diverged; those that run or met a full GPU teach nothing
    ]
    assert taken_over(sampler="random").told == []


def test_tpe_is_told_nothing_where_errors_mean_something_else(
    earlier: MakeExperiment, taken_over: Callable[..., Warm]
) -> None:
    earlier(*three_trials(), epochs=27)
    warm = taken_over(sampler="tpe")
    assert (warm.told, warm.differs) == ([], ["train.epochs"])
    assert warm.best == [setting(3e-3), setting(2e-3)]
    assert warm_lines(warm) == [
        (
            "warm start",
            "old: its best 2 settings come after the configured one; "
            "TPE is not told of its errors, as it had another train.epochs",
        )
    ]
    assert taken_over(sampler="random").differs == []


def test_what_a_study_was_told_itself_is_passed_on(
    earlier: MakeExperiment, taken_over: Callable[..., Warm]
) -> None:
    told = [{"values": setting(7e-3), "promise": 0.002}, {"values": setting(8e-3), "promise": None}]
    first = Warm(study="older", best=[setting(7e-3)], told=told, differs=[])
    earlier([first], trained(0, CONFIGURED, 0.004), trained(1, setting(7e-3), 0.0021))
    found = taken_over(sampler="tpe").told
    assert found[:2] == told
    assert [entry["promise"] for entry in found[2:]] == [0.004, 0.0021]


def test_few_results_do_not_replace_random_draws(
    earlier: MakeExperiment, warm_study: Callable[..., Any]
) -> None:
    earlier(*three_trials())
    assert len(three_trials()) < STARTUP
    study, journal = warm_study(sampler="tpe", warm_settings=1)
    assert [record.source for record in take(study, 3)] == ["configured", "warm", "random"]
    journal.close()


def test_duplicates_and_the_configured_setting_are_skipped(
    earlier: MakeExperiment, taken_over: Callable[..., Warm]
) -> None:
    earlier(
        trained(0, CONFIGURED, 0.002),
        trained(1, setting(2e-3), 0.003),
        trained(2, setting(2e-3), 0.004, confirms=1),
        trained(3, setting(3e-3), 0.005),
        trained(4, setting(4e-3), 0.006),
        trained(5, setting(5e-3), 0.007),
    )
    assert taken_over().best == [setting(2e-3), setting(3e-3), setting(4e-3)]
    assert taken_over(warm_settings=1).best == [setting(2e-3)]


def test_a_setting_that_was_drawn_already_is_not_drawn_again(
    earlier: MakeExperiment, paths: StudyPaths, experiment: MakeExperiment
) -> None:
    journal = Journal(paths)
    begin(journal, "s", Warm(study="old", best=[CONFIGURED, setting(2e-3)], told=[], differs=[]))
    study = Study("s", experiment(), journal, lambda _study, _record: None)
    drawn = take(study, 3)
    journal.close()
    assert [record.source for record in drawn] == ["configured", "warm", "random"]
    assert len({canonical(record.values) for record in drawn}) == 3


def test_confirmed_settings_come_first() -> None:
    trials = fold(
        [
            *trained(0, CONFIGURED, 0.002),
            *trained(1, setting(2e-3), 0.005),
            *trained(2, setting(3e-3), 0.003),
            *(record for n in (3, 4) for record in trained(n, setting(2e-3), 0.005, confirms=1)),
            *(record for n in (5, 6) for record in trained(n, setting(3e-3), 0.006, confirms=2)),
        ]
    )
    assert [trial.number for trial in trusted_first(trials)] == [1, 2, 0]  # means 5 and 6 mm; not confirmed


def test_settings_reach_another_space_as_far_as_it_can_train_them(
    earlier: MakeExperiment, taken_over: Callable[..., Warm]
) -> None:
    weight_decay = {"uniform": (0.0, 0.1)}
    earlier(
        trained(0, {**CONFIGURED, "train.weight_decay": 0.0}, 0.004),
        trained(1, setting(0.05, **{"train.weight_decay": 0.0}), 0.003),
        trained(2, setting(2e-3, **{"train.weight_decay": 0.05}), 0.002),
        space={**SPACE, "train.weight_decay": weight_decay},
    )
    momentum = {"train.momentum": {"uniform": (0.5, 0.8)}}
    warm = taken_over(sampler="tpe", space={**SPACE, **momentum})
    # 0.05 is outside the bounds; the momentum is what trained there; a weight decay cannot be set here
    assert warm.best == [setting(0.05, **{"train.momentum": 0.9})]
    assert [entry["promise"] for entry in warm.told] == [0.004, 0.003]


@pytest.mark.parametrize(
    ("search", "settings", "message"),
    [
        (
            {"warm_start": "odl"},
            {},
            r"--warm-start odl: no such study in .*; known: old; did you mean 'old'\? \(or leave",
        ),
        ({"warm_start": "../old"}, {}, r"--warm-start \.\./old: no such study"),
        ({"warm_start": "s"}, {}, "--warm-start s: is the new study itself; give that another name"),
        ({}, {"model": {"name": "hrnet"}}, r"that one differs:\n  model\.name: 'resnet50' -> 'hrnet'\nName"),
        ({}, {"model": {"name": "resnet50", "small": True}}, r"  model\.small: False -> True\n"),
        ({}, {"model": {"name": "resnet50", "pretrained": True}}, r"  model\.pretrained: False -> True\n"),
    ],
)
def test_an_earlier_study_that_does_not_fit_is_refused(
    search: dict[str, Any],
    settings: dict[str, Any],
    message: str,
    earlier: MakeExperiment,
    workspace: Workspace,
    experiment: MakeExperiment,
) -> None:
    earlier(*three_trials())
    made = experiment(**{"warm_start": "old"} | search)
    made = Experiment.model_validate(made.model_dump(mode="json") | settings)
    with pytest.raises(StudyError, match=message):
        warm_start(workspace, request(made))


def test_other_data_and_another_profile_are_refused(
    earlier: MakeExperiment, workspace: Workspace, experiment: MakeExperiment
) -> None:
    earlier(*three_trials())
    made = experiment(warm_start="old")
    with pytest.raises(StudyError, match=r"  data: dddddddd\.\.\. -> eeeeeeee\.\.\.\n"):
        warm_start(workspace, request(made, data=40 * "e"))
    with pytest.raises(StudyError, match=r"  profile: 'smoke' -> 'full'\nName another study \(known: old\)"):
        warm_start(workspace, request(made, profile="full"))


def test_a_study_without_anything_to_take_over_is_refused(
    earlier: MakeExperiment, workspace: Workspace, experiment: MakeExperiment
) -> None:
    earlier(
        trained(0, CONFIGURED), trained(1, setting(5e-3), status="failed", reason="DIVERGED"), name="none"
    )
    with pytest.raises(StudyError, match="--warm-start none: none of its trials has a result yet; name"):
        warm_start(workspace, request(experiment(warm_start="none")))
    earlier(trained(0, CONFIGURED, 0.003), name="one")
    with pytest.raises(StudyError, match="none of its settings with a result .* search.space, or leave"):
        warm_start(workspace, request(experiment(warm_start="one")))


def test_a_study_keeps_what_it_was_started_from(experiment: MakeExperiment) -> None:
    cold, warm, other = (request(experiment(warm_start=name)) for name in (None, "old", "other"))
    refuse_other(warm, warm)
    with pytest.raises(StudyError, match=r"  search\.warm_start: None -> 'old'\n"):
        refuse_other(cold, warm)
    with pytest.raises(StudyError, match=r"  search\.warm_start: 'old' -> None\n"):
        refuse_other(warm, cold)
    with pytest.raises(StudyError, match=r"  search\.warm_start: 'old' -> 'other'\n"):
        refuse_other(warm, other)


def test_a_person_is_told_where_a_setting_comes_from(
    earlier: MakeExperiment, warm_study: Callable[..., Any], paths: StudyPaths
) -> None:
    earlier(*three_trials())
    study, journal = warm_study()
    take(study, 2)
    study.started(1, 1, "here", None, 1)
    begun = read_journal(paths.journal)[-1]
    journal.close()
    assert (
        line_for(study, begun) == "trial 1    starts with an earlier study's setting: lr 0.003, batch_size 8"
    )
    assert "values from: warm\n" in trial_text(paths, study.trials[1])


@pytest.fixture
def searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[str]]:
    """A folder with the study `resnet50`, and the command that made it."""
    monkeypatch.delenv("PIPELINE_DATA", raising=False)
    runs = tmp_path / "runs"
    data = tmp_path / "pack"
    with PackWriter(data, {"train": 4}, 64, 64, ("train",), "made up") as writer:
        for index in range(4):
            rgb, depth = np.zeros((9, 64, 64), np.uint8), np.full((3, 64, 64), 500, np.uint16)
            writer.write("train", index, Sample(rgb, depth, index, np.zeros(12)))
    command = ["--model", "resnet50", "--runs", str(runs), "--data", str(data), "--profile", "smoke"]
    command += ["--executor", "local"]
    (plan,) = make_plans(build_parser().parse_args(command), this_machine("for a test"))
    paths = plan.workspace.study("resnet50")
    Request("resnet50", "smoke", open_pack(data).meta.fingerprint, None, plan.experiment).write(paths)
    space = Space(plan.experiment.search.space, plan.experiment.trial(0))
    with Journal(paths) as journal:
        journal.append(Begun(study="resnet50"))
        for number in range(12):
            draw = space.draw("resnet50", number, ())
            assert draw is not None
            for record in trained(number, draw.values, 0.004 + number / 1000):
                journal.append(record)
    return runs, command


def test_the_plan_says_what_is_taken_over_and_touches_nothing(
    searched: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    runs, command = searched
    main([*command, "--study", "two", "--warm-start", "resnet50", "--sampler", "tpe", "--dry-run"])
    text = capsys.readouterr().out
    assert "  warm start resnet50: its best 3 settings come after the configured one; TPE is\n" in text
    assert "told 12 results\n" in text
    assert all(len(line) <= 80 for line in text.splitlines() if str(runs.parent) not in line)
    assert not Workspace(runs).study("two").root.exists()
    main([*command, "--fresh", "--warm-start", "resnet50", "--set", "search.warm_settings=1", "--dry-run"])
    text = " ".join(capsys.readouterr().out.split())
    assert "study resnet50-2 (new)" in text
    assert "warm start resnet50: its best setting comes after the configured one results" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--warm-start", "resnet50"],
            r"search\.warm_start: None -> 'resnet50'\n.*use --study NAME, --fresh or",
        ),
        (["--study", "two", "--warm-start", "two"], "--warm-start two: is the new study itself"),
        (["--study", "two", "--warm-start", "1e3"], "--warm-start 1e3: no such study"),
    ],
)
def test_the_command_refuses_what_cannot_be_started_from(
    arguments: list[str], message: str, searched: tuple[Path, list[str]]
) -> None:
    _, command = searched
    with pytest.raises(StudyError, match=message):
        main([*command, *arguments, "--dry-run"])


def test_all_models_cannot_start_from_one_study(searched: tuple[Path, list[str]]) -> None:
    _, command = searched
    with pytest.raises(
        StudyError, match="--warm-start resnet50: a study starts from one of its own backbone"
    ):
        main(["--model", "all", *command[2:], "--warm-start", "resnet50", "--dry-run"])


class Interrupted(LocalRay):
    """A place where the user stops the search before a worker is started."""

    def start(self) -> None:
        raise KeyboardInterrupt


def test_a_search_writes_down_what_it_takes_over_and_resumes_when_the_earlier_study_is_gone(
    searched: tuple[Path, list[str]],
) -> None:
    runs, command = searched
    arguments = build_parser().parse_args([*command, "--study", "two", "--warm-start", "resnet50"])
    journals = []
    for _ in range(2):
        (plan,) = make_plans(arguments, this_machine("for a test"))
        with pytest.raises(KeyboardInterrupt), Interrupted(plan.workers) as here:
            carry_out([plan], fit, here)
        journals.append(read_journal(plan.workspace.study("two").journal))
        shutil.rmtree(runs / "studies" / "resnet50", ignore_errors=True)
    assert [type(record) for record in journals[0]] == [Begun, Warm, Drawn]
    assert journals[1] == journals[0]
    with pytest.raises(StudyError, match=r"  search\.warm_start: 'resnet50' -> None\n"):
        main([*command, "--study", "two", "--dry-run"])
