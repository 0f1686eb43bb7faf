"""What a study takes over from an earlier one, and when it refuses to."""

from collections.abc import Callable
from typing import Any

import pytest

from pipeline.config import Experiment
from pipeline.errors import StudyError
from pipeline.paths import StudyPaths, Workspace
from pipeline.records import Warm, read_journal
from pipeline.trials import fold
from tests.tune.earlier import (
    CONFIGURED,
    SPACE,
    MakeExperiment,
    request,
    setting,
    take,
    three_trials,
    trained,
)
from tune.describe import trial_text
from tune.journal import Journal
from tune.progress import line_for
from tune.ranking import trusted_first
from tune.request import refuse_other
from tune.space import canonical
from tune.study import Study
from tune.tpe import STARTUP
from tune.warm import begin, warm_lines, warm_start


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
