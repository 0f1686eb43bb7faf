import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import ConfigError, DataError, PipelineError, StudyError
from pipeline.paths import repository
from slurm.errors import SlurmError
from slurm.launch import main
from slurm.task import read_task
from slurm.watch import own_jobs
from tests.slurm.launched import TRAIN, last


def test_every_model_with_every_seed_is_a_task_of_one_array(slurm_commands, tmp_path: Path, capsys) -> None:
    main([*TRAIN, "--model", "convnext,resnet50", "--seeds", "2", "--runs", str(tmp_path), "--set", "seed=4"])
    tasks = json.loads((last(tmp_path) / "tasks.json").read_text())
    assert [(task[2], task[-1]) for task in tasks] == [
        ("convnext", "seed=4"),
        ("convnext", "seed=5"),
        ("resnet50", "seed=4"),
        ("resnet50", "seed=5"),
    ]
    common = [
        "--profile",
        "smoke",
        "--runs",
        str(tmp_path),
        "--set",
        "device=cpu",
        "--set",
        "seed=4",
        "--set",
    ]
    assert tasks[0] == ["pipeline.train", "--model", "convnext", *common, "seed=4"]
    text = slurm_commands.script(100)
    assert "#SBATCH --array=0-3%4\n" in text
    assert "#SBATCH --requeue\n" in text
    output = capsys.readouterr().out
    assert "submitted job 100: 4 runs; it is requeued until it is complete" in output
    assert f"python -m slurm.launch logs 100 -f --runs {tmp_path}" in output
    record = json.loads((last(tmp_path) / "job.json").read_text())
    assert record["jobs"] == ["100"]
    assert Path(record["code"]).parent == tmp_path / "code"


def test_a_site_that_limits_arrays_gets_several(slurm_commands, tmp_path: Path) -> None:
    profile = tmp_path / "site.yaml"
    profile.write_text("jobs: {array_size: 2}\ndevice: cpu\n")
    words = ["train", "--cluster", str(profile), "--profile", "smoke", "--model", "convnext", "--seeds", "5"]
    main([*words, "--runs", str(tmp_path / "runs")])
    scripts = [slurm_commands.script(number) for number in (100, 101, 102)]
    assert ["--array=0-1%2" in scripts[0], "--array=0-1%2" in scripts[1], "--array=0-0%1" in scripts[2]] == [
        True
    ] * 3
    assert [text.split("--offset ")[1].strip() for text in scripts] == ["0", "2", "4"]


def test_a_site_without_arrays_gets_a_job_for_each_run(slurm_commands, tmp_path: Path) -> None:
    profile = tmp_path / "site.yaml"
    profile.write_text("jobs: {arrays: false}\ndevice: cpu\n")
    words = ["train", "--cluster", str(profile), "--profile", "smoke", "--model", "convnext", "--seeds", "2"]
    main([*words, "--runs", str(tmp_path / "runs")])
    scripts = [slurm_commands.script(number) for number in (100, 101)]
    assert ["--array" in text for text in scripts] == [False, False]
    assert ["-%j.out\n" in text for text in scripts] == [True, True]
    assert [text.split("--offset ")[1].strip() for text in scripts] == ["0", "1"]
    folder = last(tmp_path / "runs")
    assert [read_task(folder / "tasks.json", None, offset)[-1] for offset in (0, 1)] == ["seed=0", "seed=1"]
    with pytest.raises(ConfigError, match="this runs inside a job array, or with --offset"):
        read_task(folder / "tasks.json", None)
    row = "PENDING|Priority||N/A|N/A|fingertip-train-convnext"
    slurm_commands.answer("squeue", f"100|{row}\n101|{row}\n")
    assert [ours.what for ours in own_jobs(tmp_path / "runs")] == ["convnext, seed 0", "convnext, seed 1"]


def test_a_refusal_half_way_tells_what_is_submitted_and_loses_nothing(slurm_commands, tmp_path: Path) -> None:
    profile = tmp_path / "site.yaml"
    profile.write_text("jobs: {array_size: 2}\ndevice: cpu\n")
    words = ["train", "--cluster", str(profile), "--profile", "smoke", "--model", "convnext", "--seeds", "5"]
    slurm_commands.refuse_after(2, "sbatch: error: QOSMaxSubmitJobPerUserLimit")
    runs = tmp_path / "my runs"
    with pytest.raises(SlurmError) as caught:
        main([*words, "--runs", str(runs)])
    assert str(caught.value).startswith("sbatch refused the job: QOSMaxSubmitJobPerUserLimit; ")
    assert str(caught.value).endswith(
        ". Before that 4 of 5 runs were submitted, job 100, 101: give the same command again when they have "
        "ended, what is complete is not trained again; or take them back: python -m slurm.launch stop 100 "
        f"101 --runs '{runs}'"
    )
    assert json.loads((last(runs) / "job.json").read_text())["jobs"] == ["100", "101"]


def test_what_is_told_fits_a_shell_and_the_site(slurm_commands, tmp_path: Path, capsys) -> None:
    profile, runs = tmp_path / "site.yaml", tmp_path / "my runs"
    profile.write_text("jobs: {requeue: false}\ndevice: cpu\n")
    words = ["train", "--cluster", str(profile), "--profile", "smoke", "--model", "convnext"]
    main([*words, "--runs", str(runs)])
    told = capsys.readouterr().out
    assert "1 run; when it ends incomplete, the same command goes on (jobs.requeue is false)" in told
    assert f"logs 100 -f --runs '{runs}'\n" in told
    assert f"stop 100 --runs '{runs}'   (" in told


def test_what_could_not_be_trained_is_refused_before_it_waits_in_a_queue(
    slurm_commands, tmp_path: Path
) -> None:
    runs = ["--runs", str(tmp_path)]
    with pytest.raises(ConfigError, match="unknown model 'vgg'; known: convnext, "):
        main([*TRAIN, "--model", "vgg", *runs])
    with pytest.raises(ConfigError, match="unknown key 'lrr'"):
        main([*TRAIN, "--model", "convnext", "--set", "train.lrr=1", *runs])
    with pytest.raises(DataError):
        main([*TRAIN, "--model", "convnext", "--data", str(tmp_path / "none"), *runs])
    assert slurm_commands.asked("sbatch") == []


def test_a_dry_run_prints_what_is_submitted_and_writes_nothing(
    slurm_commands, tmp_path: Path, capsys
) -> None:
    words = ["search", "--cluster", "greene", "--model", "hrnet", "--runs", str(tmp_path)]
    main([*words, "--dry-run"])
    printed = capsys.readouterr().out
    assert not list(tmp_path.glob("[jc]o*"))
    main(words)
    submitted = slurm_commands.script(100)
    as_one_line = " ".join(submitted.split())
    assert (
        submitted.replace("fingertip-search-hrnet", "fingertip-search").split("exec ")[0]
        == printed.split("exec ")[0]
    )
    assert "--model hrnet --study hrnet --runs" in as_one_line


def test_a_search_runs_the_snapshot_taken_now_and_its_own_python(
    slurm_commands, tmp_path: Path, capsys
) -> None:
    main(["search", "--cluster", "test", "--model", "hrnet", "--study", "second", "--runs", str(tmp_path)])
    environment = slurm_commands.environment(100)
    assert Path(environment["PIPELINE_CODE"]).parent == tmp_path / "code"
    assert environment["PIPELINE_PYTHON"] == sys.executable
    assert environment["RUNS"] == str(tmp_path)
    (options,) = slurm_commands.asked("sbatch")
    assert options[0] == f"--output={last(tmp_path)}/fingertip-search-second-%j.out"
    assert "submitted the search as Slurm job 100" in capsys.readouterr().out


def test_the_final_run_needs_a_winner_first(slurm_commands, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"best.yaml: not there yet; run a search first"):
        main(["final", "--cluster", "test", "--runs", str(tmp_path)])
    assert slurm_commands.asked("sbatch") == []


def test_a_task_runs_its_line_of_the_table(tmp_path: Path) -> None:
    table = tmp_path / "tasks.json"
    table.write_text(json.dumps([["json.tool", "--help"], ["pipeline.leaderboard", "--runs", "/nowhere"]]))
    result = subprocess.run(
        [sys.executable, "-m", "slurm.task", str(table), "--offset", "1"],
        env={**os.environ, "SLURM_ARRAY_TASK_ID": "0"},
        cwd=repository(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stdout == "task: python -m pipeline.leaderboard --runs /nowhere\n"
    assert result.stderr.startswith("error: /nowhere: no such folder")


@pytest.mark.parametrize("verb", ["", "train", "search", "final", "status", "logs", "stop"])
def test_help_fits_a_terminal_and_holds_an_example(
    verb: str, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        main([*filter(None, [verb]), "--help"])
    assert ended.value.code == 0
    output = capsys.readouterr().out
    assert f"python -m slurm.launch {verb}".strip() in output.partition("examples:")[2]
    assert max(map(len, output.splitlines())) <= 80


def test_errors_are_the_projects_own() -> None:
    assert issubclass(SlurmError, PipelineError)
