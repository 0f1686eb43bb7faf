from collections.abc import Callable

import pytest

from pipeline.config import Experiment
from pipeline.errors import StudyError
from pipeline.paths import StudyPaths, Workspace
from tune.request import Request, fresh_name, read_request, refuse_other, with_fixed_rungs

Make = Callable[..., Experiment]


def request(experiment: Experiment, data: str = "d1", commit: str | None = "abc") -> Request:
    return Request("s", "smoke", data, commit, experiment)


def test_a_request_survives_being_written_and_read(paths: StudyPaths, experiment: Make) -> None:
    assert read_request(paths) is None
    request(experiment()).write(paths)
    assert read_request(paths) == request(experiment())


def test_the_same_request_or_more_trials_or_another_device_resume(experiment: Make) -> None:
    old = request(experiment())
    refuse_other(old, request(experiment()))
    refuse_other(old, request(experiment(trials=50), commit="def"))
    refuse_other(old, request(experiment().model_copy(update={"device": "cpu"})))


def test_another_request_is_refused_with_every_difference_and_a_way_out(experiment: Make) -> None:
    with pytest.raises(StudyError) as caught:
        refuse_other(request(experiment()), request(experiment(trials=2, epochs=20), data="d2"))
    assert str(caught.value).splitlines() == [
        "study s was started with another request:",
        "  data: 'd1' -> 'd2'",
        "  search.epochs: 9 -> 20",
        "  search.trials: 6 -> 2",
        "Repeat the first command to resume it, or use --study NAME, --fresh or another --runs for a new "
        "study (search.trials may be raised, not lowered; the budget may change)",
    ]


def test_a_request_that_cannot_be_read_is_refused(paths: StudyPaths) -> None:
    paths.root.mkdir(parents=True)
    paths.request.write_text("study: s\n")
    with pytest.raises(StudyError, match=r"study\.yaml: not the request of a study of this version"):
        read_request(paths)


def test_fresh_studies_are_numbered(paths: StudyPaths, experiment: Make) -> None:
    workspace = Workspace(paths.root.parents[1])
    assert fresh_name(workspace, "s") == "s"
    for expected in ("s-2", "s-3"):
        request(experiment()).write(workspace.study(fresh_name(workspace, "s")))
        assert fresh_name(workspace, "s") == expected


def test_rungs_stay_where_the_first_command_put_them(paths: StudyPaths, experiment: Make) -> None:
    first = with_fixed_rungs(paths, experiment(trials=12, epochs=27, grace=None))
    assert first.search.grace == 9
    for trials in (24, 500):
        Request("s", "full", "d", None, first).write(paths)
        more = with_fixed_rungs(paths, experiment(trials=trials, epochs=27, grace=None))
        assert more.search.grace == 9
        refuse_other(Request("s", "full", "d", None, first), Request("s", "full", "d", None, more))
        first = more
    assert with_fixed_rungs(paths, experiment(grace=2)).search.grace == 2
