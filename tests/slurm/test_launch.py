import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import ConfigError, DataError, PipelineError, StudyError
from pipeline.paths import repository
from slurm.errors import SlurmError
from slurm.launch import main

QUEUE = """\
99|COMPLETED|None|gr1|1780000000|1780000100|fingertip-final-resnet50
101_0|RUNNING|None|gr1|1780000000|1780086400|fingertip-train-convnext
101_1|PENDING|Priority||N/A|N/A|fingertip-train-convnext
102|RUNNING|None|gr2|1780000000|1780172800|fingertip-search-resnet50
103|PENDING|Resources||N/A|N/A|fingertip-worker-resnet50
104|RUNNING|None|gr2|1780000000|1780086400|somebodys-notebook
"""
TRAIN = ["train", "--cluster", "test", "--profile", "smoke"]


def last(folder: Path) -> Path:
    """The folder of the only launch into a workspace."""
    (found,) = (folder / "jobs").iterdir()
    return found


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


def test_status_tells_what_each_job_does_and_why_it_waits(slurm_commands, tmp_path: Path, capsys) -> None:
    slurm_commands.answer("squeue", QUEUE)
    main(["status", "--runs", str(tmp_path)])
    elapsed = re.compile(r"(-?\d+ days?, )?[0-9:]+ of ")
    lines = [" ".join(elapsed.sub("", line).split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "102 running drives the search resnet50 2 days, 0:00:00 on gr2",
        "103 pending runs trials of resnet50 waits (Resources: it is next; what it needs is in use)",
        "101_0 running trains convnext 1 day, 0:00:00 on gr1",
        "101_1 pending trains convnext waits (Priority: others are before it)",
    ]


def test_status_for_programs_names_the_folder_of_a_launch(slurm_commands, tmp_path: Path, capsys) -> None:
    main([*TRAIN, "--model", "convnext", "--runs", str(tmp_path)])
    slurm_commands.answer("squeue", QUEUE.replace("101_0", "100_0"))
    capsys.readouterr()
    main(["status", "--json", "--runs", str(tmp_path)])
    rows = {row["id"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["100_0"]["folder"] == str(last(tmp_path))
    assert rows["100_0"]["does"] == "trains convnext, seed 0"
    assert rows["102"]["folder"] is None
    assert rows["103"]["waits"].startswith("Resources: ")


def test_a_queue_that_does_not_answer_is_not_an_empty_one(slurm_commands, tmp_path: Path) -> None:
    slurm_commands.refuse("squeue", "slurm_load_jobs error: Unable to contact slurm controller")
    with pytest.raises(
        SlurmError, match="Unable to contact slurm controller; nothing is known of the jobs now"
    ):
        main(["status", "--runs", str(tmp_path)])


def test_stop_cancels_a_study_with_its_driver_first(slurm_commands, tmp_path: Path, capsys) -> None:
    slurm_commands.answer("squeue", QUEUE)
    main(["stop", "resnet50", "--runs", str(tmp_path)])
    assert slurm_commands.asked("scancel") == [["102", "103"]]
    assert "cancelled 102: drives the search resnet50" in capsys.readouterr().out


def test_stop_takes_the_workers_that_a_driver_submits_while_it_ends(
    slurm_commands, tmp_path: Path, capsys
) -> None:
    slurm_commands.answer("squeue", QUEUE)
    worker = next(line for line in QUEUE.splitlines(keepends=True) if line.startswith("103|"))
    slurm_commands.answer("late", worker.replace("103|", "110|", 1))
    main(["stop", "resnet50", "--runs", str(tmp_path)])
    assert slurm_commands.asked("scancel") == [["102", "103"], ["110"]]
    assert "cancelled 110: runs trials of resnet50" in capsys.readouterr().out


def test_stopping_a_driver_without_a_study_takes_nothing_else(slurm_commands, tmp_path: Path, capsys) -> None:
    """As `sbatch slurm/search.sbatch` submits it; the others' names tell no model or study either."""
    row = "RUNNING|None|gr1|1780000000|1780086400|fingertip"
    workers = f"104|{row}-worker-resnet50-0a1b2c\n105|{row}-worker-all-0a1b2c\n"
    slurm_commands.answer("squeue", f"101|{row}-final\n102|{row}-search\n103_0|{row}-train\n{workers}")
    main(["stop", "102", "--runs", str(tmp_path)])
    assert [words for words in slurm_commands.asked("scancel") if words] == [["102"]]
    assert capsys.readouterr().out.splitlines() == [
        "cancelled 102: drives a search",
        "which study 102 drives is not known: its workers, if it has any, leave by themselves after the "
        "profile's pool.rejoin_s; to stop them now: python -m slurm.launch stop STUDY",
        "a running job saves before it ends; launching it again resumes",
    ]


def test_stopping_a_driver_by_its_number_takes_its_workers_and_no_run_of_that_name(
    slurm_commands, tmp_path: Path
) -> None:
    row = "RUNNING|None|gr1|1780000000|1780086400|fingertip"
    named = [
        f"101|{row}-final-resnet50",
        f"102|{row}-search-resnet50",
        f"103|{row}-worker-resnet50-0a1b2c",
        f"104|{row}-worker-resnet50-2-0a1b2c",
    ]
    slurm_commands.answer("squeue", "".join(f"{line}\n" for line in named))
    main(["stop", "102", "--runs", str(tmp_path)])
    assert slurm_commands.asked("scancel") == [["102"], ["103"]]


def test_what_a_job_without_a_name_of_its_own_does(slurm_commands, tmp_path: Path, capsys) -> None:
    kinds = ("final", "search", "train", "worker-resnet50-0a1b2c", "probe")
    row = "RUNNING|None|gr1|1780000000|1780086400|fingertip"
    slurm_commands.answer("squeue", "".join(f"{n}|{row}-{kind}\n" for n, kind in enumerate(kinds)))
    main(["status", "--json", "--runs", str(tmp_path)])
    assert [found["does"] for found in json.loads(capsys.readouterr().out)] == [
        *("drives a search", "runs trials of resnet50", "trains several models", "final run"),
        "looks at a node for slurm.doctor",
    ]


def test_stop_touches_no_job_of_another_project(slurm_commands, tmp_path: Path) -> None:
    slurm_commands.answer("squeue", QUEUE)
    with pytest.raises(SlurmError) as caught:
        main(["stop", "104", "--runs", str(tmp_path)])
    assert str(caught.value) == (
        "'104' names no queued or running job of this project (there: 102, 103, 101_0, 101_1); "
        "see python -m slurm.launch status"
    )
    main(["stop", "all", "--runs", str(tmp_path)])
    assert slurm_commands.asked("scancel") == [["102", "103", "101_0", "101_1"]]


def test_logs_are_found_by_job_task_model_and_run(slurm_commands, tmp_path: Path, capsys) -> None:
    main([*TRAIN, "--model", "convnext", "--seeds", "2", "--runs", str(tmp_path)])
    folder = last(tmp_path)
    for task, age in ((0, 10), (1, 20)):
        path = folder / f"fingertip-train-convnext-100_{task}.out"
        path.write_text(f"task {task}\n")
        os.utime(path, (1000 - age, 1000 - age))
    run = tmp_path / "train" / "convnext-0123"
    run.mkdir(parents=True)
    (run / "run.yaml").write_text("slurm_job: '100_1'\n")
    for what, expected in (("100", 0), ("100_1", 1), ("convnext", 0), ("convnext-0123", 1), (str(run), 1)):
        capsys.readouterr()
        main(["logs", what, "--runs", str(tmp_path)])
        assert capsys.readouterr().out.endswith(f"<==\ntask {expected}\n"), what


def test_following_waits_for_a_job_to_start_and_says_why(slurm_commands, tmp_path: Path) -> None:
    main([*TRAIN, "--model", "convnext", "--runs", str(tmp_path)])
    pending = "100|PENDING|Priority||N/A|N/A|fingertip-train-convnext\n"
    slurm_commands.answer("squeue", pending)
    command = [sys.executable, "-m", "slurm.launch", "logs", "100", "-f", "--runs", str(tmp_path)]
    following = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert following.stdout is not None
    assert following.stdout.readline() == "waiting: job 100 Priority: others are before it\n"
    (last(tmp_path) / "fingertip-train-convnext-100.out").write_text("started\n")
    assert following.stdout.readline().startswith("==> ")
    assert following.stdout.readline() == "started\n"
    following.send_signal(signal.SIGINT)
    assert following.communicate(timeout=10)[0].strip() == "left; the job goes on"
    assert following.returncode == 0


def test_logs_shows_the_last_lines(slurm_commands, tmp_path: Path, capsys) -> None:
    main([*TRAIN, "--model", "convnext", "--runs", str(tmp_path)])
    (last(tmp_path) / "fingertip-train-convnext-100_0.out").write_text("".join(f"{n}\n" for n in range(5000)))
    capsys.readouterr()
    main(["logs", "-n", "2", "--runs", str(tmp_path)])
    assert capsys.readouterr().out.splitlines()[1:] == ["4998", "4999"]


def test_logs_that_are_not_there_say_what_is(slurm_commands, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"no output of 77: it has not started, or was launched elsewhere"):
        main(["logs", "77", "--runs", str(tmp_path)])


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
