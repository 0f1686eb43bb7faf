"""What a search on a cluster asks for, before anything is submitted."""

from pathlib import Path

import pytest

from pipeline.errors import StudyError
from slurm.cluster import load_cluster
from slurm.head import address_of, comes_back
from slurm.job import SUPERVISED
from slurm.search import driver_arguments, machine_of, name_of, refuse_running
from tune.journal import Journal
from tune.plan import Because, Plan, make_plans
from tune.search import build_parser


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


def test_a_study_that_is_run_elsewhere_is_refused_before_anything_is_submitted(tmp_path: Path) -> None:
    _, plans = planned(tmp_path, "--model", "resnet50")
    with (
        Journal(plans[0].workspace.study("resnet50")),
        pytest.raises(StudyError, match="is being run. Follow"),
    ):
        refuse_running(plans[0].workspace, plans, "fingertip-search-resnet50")


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
