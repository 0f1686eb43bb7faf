"""What a search on a cluster asks for, before anything is submitted."""

from pathlib import Path

import pytest

from pipeline.errors import StudyError
from pipeline.paths import Workspace
from pipeline.records import Held, seconds_now
from slurm.cluster import load_cluster
from slurm.errors import SlurmError
from slurm.head import address_of, comes_back
from slurm.job import SUPERVISED
from slurm.launch import main
from slurm.launching import launches
from slurm.search import (
    are_complete,
    driver_arguments,
    introduce,
    machine_of,
    name_of,
    refuse_queued,
    refuse_running,
)
from tests.slurm.launched import launched_into
from tune.journal import Journal
from tune.plan import Because, Plan, make_plans
from tune.request import Request
from tune.search import build_parser
from tune.study import Study


def planned(tmp_path: Path, *arguments: str) -> tuple[list[str], list[Plan]]:
    fixed = ["--runs", str(tmp_path), "--profile", "smoke", *arguments]
    args = build_parser().parse_args(fixed)
    plans = make_plans(args, machine_of(load_cluster("test"), Because("slurm", "for a test")))
    return driver_arguments(args, plans), plans


def test_the_driver_is_asked_for_the_same_in_a_way_that_reads_the_same_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIPELINE_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    more = ["--model", "resnet50", "--trials", "5", "--seed", "9", "--set", "search.grace=2"]
    arguments, plans = planned(tmp_path, *more)
    again = build_parser().parse_args(arguments)
    assert (again.model, again.trials, again.seed, again.overrides) == ("resnet50", 5, 9, ["search.grace=2"])
    assert (again.study, again.runs) == ("resnet50", tmp_path.resolve())
    assert plans[0].experiment.device == "cpu"
    assert (plans[0].workers.count, plans[0].workers.threads, plans[0].workers.gpus) == (3, 1, 0)


def test_the_driver_knows_the_study_to_start_from(tmp_path: Path) -> None:
    _, (plan,) = planned(tmp_path, "--model", "resnet50")
    args = build_parser().parse_args(["--model", "resnet50", "--study", "two", "--warm-start", "resnet50"])
    again = build_parser().parse_args(driver_arguments(args, [plan]))
    assert again.warm_start == "resnet50"


def test_a_fresh_study_keeps_its_number_when_its_driver_is_requeued(tmp_path: Path) -> None:
    _, (plan,) = planned(tmp_path, "--model", "resnet50")
    plan.workspace.study("resnet50").root.mkdir(parents=True)
    plan.workspace.study("resnet50").request.touch()
    arguments, _ = planned(tmp_path, "--model", "resnet50", "--fresh")
    assert arguments[arguments.index("--study") + 1] == "resnet50-2"
    assert "--fresh" not in arguments


def test_all_models_are_one_job(tmp_path: Path) -> None:
    arguments, plans = planned(tmp_path, "--model", "all")
    assert name_of(plans) == "all"
    assert "--study" not in arguments
    assert {dict(plan.lines)["stop"] for plan in plans} == {
        f"python -m slurm.launch stop all --runs {tmp_path}; the same command resumes"
    }


def test_a_study_that_is_run_elsewhere_is_refused_before_anything_is_submitted(tmp_path: Path) -> None:
    _, plans = planned(tmp_path, "--model", "resnet50")
    with (
        Journal(plans[0].workspace.study("resnet50")),
        pytest.raises(StudyError, match="is being run. Follow"),
    ):
        refuse_running(plans[0].workspace, plans)


def complete(plans: list[Plan]) -> None:
    """Runs the planned study to its end, every trial alike."""
    (plan,) = plans
    paths = plan.workspace.study(plan.study)
    fingerprint = "0" * 32
    Request(plan.study, plan.profile, fingerprint, None, plan.experiment).write(paths)
    with Journal(paths) as journal:
        study = Study(plan.study, plan.experiment, journal, lambda _study, _record: None)
        while (assignment := study.next_trial()) is not None:
            trial, attempt = assignment.trial, assignment.attempt
            study.started(trial, attempt, "here", None, 1)
            epochs = range(1, assignment.config.train.epochs + 1)
            if all(study.epoch(trial, attempt, epoch, 0.004, 1.0) == "continue" for epoch in epochs):
                study.ended(trial, attempt, "completed")


def test_a_complete_study_is_told_of_and_not_submitted(slurm_commands, tmp_path: Path, capsys) -> None:
    runs = tmp_path / "my runs"
    words = ["search", "--cluster", "test", "--model", "resnet50", "--profile", "smoke", "--runs", str(runs)]
    few = ["--trials", "3"]
    _, plans = planned(runs, "--model", "resnet50", *few)
    assert not are_complete(plans)
    complete(plans)
    main([*words, *few])
    told = capsys.readouterr().out
    assert told.startswith("study resnet50 is complete already; nothing was submitted\n")
    assert f"results    {runs}/leaderboard.csv and best.yaml\n" in told
    assert f"--study resnet50 --runs '{runs}'\n" in told
    assert slurm_commands.asked("sbatch") == []
    journal = plans[0].workspace.study("resnet50").journal
    before = journal.read_bytes()
    for more in (["--trials", "4"], [*few, "--confirm", "1"], [*few, "--fresh"]):
        assert not are_complete(planned(runs, "--model", "resnet50", *more)[1]), more
    main([*words, "--trials", "4"])
    assert "submitted the search as Slurm job 100; it is requeued until it is" in capsys.readouterr().out
    assert journal.read_bytes() == before


def test_a_study_that_a_budget_stopped_is_complete_until_there_is_more_of_it(tmp_path: Path) -> None:
    few = ["--model", "resnet50", "--trials", "3"]
    _, plans = planned(tmp_path, *few, "--gpu-hours", "1")
    paths = plans[0].workspace.study("resnet50")
    with Journal(paths) as journal:
        study = Study("resnet50", plans[0].experiment, journal, lambda _study, _record: None)
        study.next_trial()
        study.started(0, 1, "here", None, 1)
        for hour in (0.0, 2.0):
            journal.append(Held(workers=["a"], time=seconds_now() + 3600 * (hour - 2)))
    assert are_complete(planned(tmp_path, *few, "--gpu-hours", "1")[1])
    assert not are_complete(planned(tmp_path, *few, "--gpu-hours", "9")[1])


def queued(number: str, name: str, state: str = "PENDING") -> str:
    """A driver as squeue lists it."""
    return f"{number}|{state}|Priority||N/A|N/A|fingertip-search-{name}\n"


def test_where_to_follow_and_stop_a_search_can_be_pasted(slurm_commands, tmp_path: Path) -> None:
    runs = tmp_path / "my runs"
    _, plans = planned(runs, "--model", "resnet50")
    launched_into(runs, "7")
    slurm_commands.answer("squeue", queued("7", "resnet50"))
    with pytest.raises(SlurmError) as caught:
        refuse_queued(plans[0].workspace, plans)
    assert str(caught.value) == (
        "Slurm job 7 (PENDING) is this search already. "
        f"Follow it with: python -m slurm.launch logs 7 -f --runs '{runs.resolve()}'; "
        f"stop it with: python -m slurm.launch stop 7 --runs '{runs.resolve()}'"
    )


@pytest.mark.parametrize("state", ["PENDING", "RUNNING"])
def test_a_study_that_a_driver_of_all_models_will_run_is_refused(
    slurm_commands, tmp_path: Path, state: str
) -> None:
    """Whichever driver came first would make the other fail, that of all models with every study."""
    launched_into(tmp_path, "7", name="all")
    slurm_commands.answer("squeue", queued("7", "all", state))
    words = ["search", "--cluster", "test", "--profile", "smoke", "--runs", str(tmp_path)]
    said = rf"^Slurm job 7 \({state}\), a search of all models, is the driver of study convnext already\. "
    with pytest.raises(SlurmError, match=said + ".*logs 7 -f .*; stop it with: .* stop 7 --runs "):
        main([*words, "--model", "convnext"])
    assert slurm_commands.asked("sbatch") == []
    main([*words, "--model", "convnext", "--study", "another"])
    assert len(slurm_commands.asked("sbatch")) == 1


def test_all_models_are_refused_while_drivers_of_some_are_queued(slurm_commands, tmp_path: Path) -> None:
    launched_into(tmp_path, "7", name="convnext")
    launched_into(tmp_path, "8", name="resnet50")
    slurm_commands.answer("squeue", queued("7", "convnext") + queued("8", "resnet50", "RUNNING"))
    words = ["search", "--cluster", "test", "--profile", "smoke", "--runs", str(tmp_path), "--model", "all"]
    said = (
        r"^Slurm job 7 \(PENDING\) is the driver of study convnext already; "
        r"Slurm job 8 \(RUNNING\) is the driver of study resnet50 already\. .* stop 7 8 --runs "
    )
    with pytest.raises(SlurmError, match=said):
        main(words)
    assert slurm_commands.asked("sbatch") == []


def test_drivers_that_are_over_or_of_other_studies_or_folders_are_in_nobodys_way(
    slurm_commands, tmp_path: Path
) -> None:
    _, plans = planned(tmp_path, "--model", "convnext")
    launched_into(tmp_path, "7", "8", "9")
    others = queued("7", "all", "CANCELLED") + queued("8", "resnet50") + queued("9", "convnext-2")
    slurm_commands.answer("squeue", others + queued("10", "all"))
    refuse_queued(plans[0].workspace, plans)


def test_a_driver_submitted_by_hand_is_known_as_if_it_had_been_launched(
    slurm_commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "55")
    monkeypatch.setenv(SUPERVISED, "1")
    for _ in range(2):  # it is requeued
        introduce("resnet50", Workspace(tmp_path), load_cluster("test"), tmp_path / "code")
    ((launched, _),) = launches(tmp_path)
    assert (launched.jobs, launched.kind, launched.what) == (("55",), "search", ("resnet50",))
    assert "JobName=fingertip-search-resnet50" in slurm_commands.asked("scontrol")[0]


def test_workers_stay_only_for_a_driver_that_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SUPERVISED, raising=False)
    assert not comes_back(KeyboardInterrupt())
    monkeypatch.setenv(SUPERVISED, "1")
    assert comes_back(KeyboardInterrupt())
    assert not comes_back(StudyError("no trial had a result"))
    assert not comes_back(None)


def test_an_interface_is_turned_into_its_address() -> None:
    assert address_of(None) is None
    assert address_of("10.0.0.1") == "10.0.0.1"
    assert address_of("lo") == "127.0.0.1"
    with pytest.raises(Exception, match="no 'ib7' on this host; it has .*lo"):
        address_of("ib7")
