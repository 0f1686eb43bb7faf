import os
import stat
from pathlib import Path

import numpy as np
import pytest

from pipeline.config import LogUniform
from pipeline.data.pack import PackWriter, Sample
from pipeline.errors import ConfigError, DataError, PipelineError, StudyError
from pipeline.paths import Workspace
from tune.plan import SLURM_CONFS, choose_executor, choose_workers, make_plans, this_machine
from tune.request import Request
from tune.search import build_parser, main


@pytest.fixture
def no_slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.delenv("PIPELINE_DATA", raising=False)


def plan_text(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    main([*arguments, "--dry-run"])
    return capsys.readouterr().out


@pytest.mark.usefixtures("no_slurm")
def test_a_dry_run_explains_every_choice_and_touches_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    text = plan_text(
        capsys, "--model", "resnet50", "--runs", str(runs), "--profile", "smoke", "--trials", "5"
    )
    labels = [line.split()[0] for line in text.splitlines() if line[2] != " "]
    assert labels == [
        *("study", "model", "profile", "executor", "workers", "device", "data"),
        *("trials", "rungs", "share", "space", "results", "stop", "follow"),
    ]
    assert "local (no sbatch on PATH)" in text
    assert "rendered on first use; no --data" in " ".join(text.split())
    assert "trials     5 of up to" in text
    assert all(len(line) <= 80 for line in text.splitlines() if str(runs) not in line)
    assert not runs.exists()


@pytest.mark.usefixtures("no_slurm")
def test_all_plans_a_study_for_every_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = plan_text(capsys, "--model", "all", "--runs", str(tmp_path), "--profile", "smoke")
    studies = [line.split()[1] for line in text.splitlines() if line.startswith("  study")]
    assert sorted(studies) == ["convnext", "hrnet", "poseresnet152", "resnest269", "resnet152", "resnet50"]
    assert text.startswith("  studies    6, at the same time, with the same workers\n")
    assert text.count("  profile    smoke (--profile)") == 1  # what they have in common, once
    assert text.count("  model      ") == 6
    assert text.count("  stop       Ctrl-C; the same command resumes\n") == 1


@pytest.mark.usefixtures("no_slurm")
def test_each_of_several_fresh_studies_is_resumed_by_its_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = plan_text(capsys, "--model", "all", "--runs", str(tmp_path), "--profile", "smoke", "--fresh")
    told = "Ctrl-C; the same command, but for --model hrnet, resumes with --study hrnet"
    assert told in " ".join(text.split())


@pytest.mark.usefixtures("no_slurm")
def test_following_where_there_is_no_cluster_is_said_to_change_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = plan_text(capsys, "--model", "resnet50", "--runs", str(tmp_path), "--profile", "smoke", "--follow")
    assert text.startswith("--follow changes nothing here")


@pytest.mark.usefixtures("no_slurm")
def test_flags_reach_the_configuration(tmp_path: Path) -> None:
    command = ["--model", "resnet50", "--runs", str(tmp_path), "--profile", "smoke", "--trials", "3"]
    command += [
        "--epochs",
        "7",
        "--seed",
        "9",
        "--study",
        "mine",
        "--workers",
        "3",
        "--set",
        "search.grace=2",
    ]
    command += ["--set", "search.space={train.lr: {log_uniform: [0.001, 0.002]}}"]
    (plan,) = make_plans(build_parser().parse_args(command), this_machine("for a test"))
    search = plan.experiment.search
    assert (search.trials, search.epochs, search.grace) == (3, 7, 2)
    assert search.space["train.lr"] == LogUniform(log_uniform=(1e-3, 2e-3))
    assert (plan.experiment.seed, plan.study, plan.workers.count) == (9, "mine", 3)


@pytest.mark.usefixtures("no_slurm")
def test_a_budget_is_part_of_the_plan(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    command = ["--model", "resnet50", "--runs", str(tmp_path), "--profile", "smoke"]
    text = plan_text(capsys, *command, "--gpu-hours", "2.5", "--deadline", "2999-12-01T08:00")
    assert "budget     0 of 2.5 GPU hours, until 2999-12-01T08:00" in text
    assert "whether that is enough is seen after the first epochs" in " ".join(text.split())
    with pytest.raises(ConfigError, match=r"--deadline 2001-02-03T.* has passed, it is 20"):
        main([*command, "--deadline", "2001-02-03", "--dry-run"])


@pytest.mark.usefixtures("no_slurm")
def test_confirming_is_part_of_the_plan(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    command = ["--model", "resnet50", "--runs", str(tmp_path), "--profile", "smoke"]
    text = " ".join(plan_text(capsys, *command, "--confirm", "3").split())
    assert "confirm the best 3 settings are trained again at the end, each with 3 other seeds" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpu-hours", "0"], "'0': a number above 0 is needed"),
        (["--gpu-hours", "lots"], "'lots': a number above 0 is needed"),
        (["--deadline", "tomorrow"], "'tomorrow': a moment is needed, such as 2026-12-01T08:00"),
    ],
)
def test_a_budget_that_is_none_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["--model", "resnet50", *arguments])
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("no_slurm")
def test_fresh_takes_the_next_number_and_says_how_to_resume(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command = ["--model", "resnet50", "--runs", str(tmp_path), "--profile", "smoke"]
    (plan,) = make_plans(build_parser().parse_args(command), this_machine("for a test"))
    Request("resnet50", "smoke", "d", None, plan.experiment).write(Workspace(tmp_path).study("resnet50"))
    assert "resnet50 (goes on where it was)" in plan_text(capsys, *command)
    text = plan_text(capsys, *command, "--fresh")
    assert "resnet50-2 (new)" in text
    assert "resumes with --study resnet50-2" in text


@pytest.mark.usefixtures("no_slurm")
def test_a_changed_request_is_refused_when_it_is_planned(tmp_path: Path) -> None:
    command = ["--model", "resnet50", "--runs", str(tmp_path), "--profile", "smoke"]
    (plan,) = make_plans(build_parser().parse_args(command), this_machine("for a test"))
    Request("resnet50", "smoke", 40 * "d", None, plan.experiment).write(Workspace(tmp_path).study("resnet50"))
    main([*command, "--dry-run"])
    with pytest.raises(StudyError, match="study resnet50 was started with another request:\n  search.epochs"):
        main([*command, "--epochs", "50", "--dry-run"])
    data = unusual_pack(tmp_path / "pack", 64, labelled=True)
    with pytest.raises(StudyError, match=r"  data: dddddddd\.\.\. -> [0-9a-f]{8}\.\.\.\n"):
        main([*command, "--data", str(data), "--dry-run"])


@pytest.mark.usefixtures("no_slurm")
def test_a_cluster_that_is_named_where_there_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"--cluster greene, but trials would run on this machine \(no sbatch"
    ):
        main(["--model", "resnet50", "--runs", str(tmp_path), "--cluster", "greene"])


def an_sbatch(folder: Path) -> None:
    sbatch = folder / "sbatch"
    sbatch.write_text("#!/bin/sh\n")
    sbatch.chmod(sbatch.stat().st_mode | stat.S_IXUSR)


def test_the_executor_is_a_cluster_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("SLURM_CONF", raising=False)
    assert str(choose_executor(None)) == "local (no sbatch on PATH)"
    an_sbatch(tmp_path)
    assert str(choose_executor("local")) == "local (--executor)"
    if not any(conf.exists() for conf in SLURM_CONFS):
        assert str(choose_executor(None)) == "local (sbatch is on PATH, but no Slurm is set up here)"
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    assert str(choose_executor(None)) == "slurm (sbatch is on PATH)"


@pytest.mark.usefixtures("no_slurm")
def test_a_search_on_a_cluster_is_planned_with_its_job_scripts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--model", "resnet50", "--runs", str(tmp_path), "--executor", "slurm", "--cluster", "greene"]
    text = plan_text(capsys, *command, "--set", "model.pretrained=false")
    assert "full (the GPUs of greene)" in text
    assert "8 with 8 threads each (at most, each a Slurm job with gpu:rtx8000:1; pool.workers)" in " ".join(
        text.split()
    )
    assert "#SBATCH --job-name=fingertip-search-resnet50" in text
    assert "#SBATCH --job-name=fingertip-worker-resnet50" in text
    assert "#SBATCH --gres=gpu:rtx8000:1" in text
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("no_slurm")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "resnet5"], "unknown model 'resnet5'; known: convnext, "),
        (["--model", "all", "--study", "x"], "--study names one study"),
        (["--model", "resnet50", "--set", "search.spaces=1"], "unknown key 'spaces'; known here: trials"),
        (["--model", "resnet50", "--set", "search.space.train.lr=1"], "search.space"),
        (["--model", "resnet50", "--epochs", "0"], "search.epochs"),
        (["--model", "resnet50", "--study", "../x"], r"--study '\.\./x': a name is made of letters"),
        (["--model", "resnet50", "--study", "a/b"], "--study 'a/b'"),
        (
            ["--model", "resnet50", "--study", "all"],
            "--study 'all': is what a search of all models is called",
        ),
        (["--model", "resnet50", "--set", "model.name=hrnet"], "give --model hrnet instead"),
        (["--model", "resnet50", "--set", "model.pretrained=true"], "no pretrained weights"),
        (["--model", "resnet50", "--set", "train.precision=fp16"], "fp16 needs a GPU, and none is in use"),
        (["--model", "resnet50", "--set", "data.split=kfold:5/5"], "folds are numbered from 0 to K-1"),
        (["--model", "resnet50", "--set", "data.split=head:0.0"], "needs a fraction between 0 and 1"),
        (["--model", "resnet50", "--set", "data.split=full"], "leaves nothing to validate on"),
        (
            ["--model", "resnet50", "--set", "search.space.data.split={choice: [head:0.7, full]}"],
            "data.split 'full'",
        ),
        (["--model", "resnet50", "--set", "twin.size=100"], "100 x 100 pixels; .* multiple of 32"),
        (["--model", "resnet50", "--data", "/nonexistent"], "/nonexistent: not a packed data set"),
    ],
)
def test_what_cannot_be_run_is_refused(arguments: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=message):
        main([*arguments, "--runs", str(tmp_path), "--profile", "smoke", "--dry-run"])


@pytest.mark.usefixtures("no_slurm")
@pytest.mark.skipif(any(Path("/dev").glob("nvidia[0-9]*")), reason="a machine without a GPU is meant")
def test_a_gpu_that_is_asked_for_and_absent_is_an_error(tmp_path: Path) -> None:
    command = ["--model", "resnet50", "--runs", str(tmp_path), "--profile", "smoke", "--set", "device=cuda"]
    with pytest.raises(ConfigError, match="no GPU; set device=auto or device=cpu"):
        main([*command, "--dry-run"])


def test_one_worker_a_gpu_or_a_core() -> None:
    cores = len(os.sched_getaffinity(0))
    assert choose_workers(None, gpus=0)[0].count == min(cores, 8)
    assert choose_workers(None, gpus=4)[0].gpus == 1
    assert choose_workers(None, gpus=4)[0].count == 4
    assert choose_workers(3, gpus=0)[0].threads == max(1, cores // 3)
    with pytest.raises(StudyError, match="--workers 5, but there are 4 GPUs"):
        choose_workers(5, gpus=4)


def unusual_pack(root: Path, height: int, labelled: bool) -> Path:
    with PackWriter(root, {"train": 4}, height, 64, ("train",) if labelled else (), "made up") as writer:
        for index in range(4):
            rgb, depth = np.zeros((9, height, 64), np.uint8), np.full((3, height, 64), 500, np.uint16)
            writer.write("train", index, Sample(rgb, depth, index, np.zeros(12) if labelled else None))
    return root


@pytest.mark.usefixtures("no_slurm")
@pytest.mark.parametrize(
    ("height", "labelled", "message"),
    [(96, True, "images of 96 x 64 pixels; .* square"), (64, False, "the train split has no labels")],
)
def test_data_that_cannot_be_searched_on_are_refused(
    tmp_path: Path, height: int, labelled: bool, message: str
) -> None:
    data = unusual_pack(tmp_path / "pack", height, labelled)
    with pytest.raises(DataError, match=message):
        main(["--model", "resnet50", "--profile", "smoke", "--data", str(data), "--dry-run"])


@pytest.mark.parametrize("count", ["abc", "0", "1.5"])
def test_workers_are_a_whole_number(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--model", "resnet50", "--workers", count])
    assert f"{count!r}: a whole number of at least 1 is needed" in capsys.readouterr().err


def test_options_that_do_not_exist_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--model", "resnet50", "--folow"])
    assert "unrecognized arguments: --folow" in capsys.readouterr().err
