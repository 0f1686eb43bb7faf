"""Which output is shown, and how it is followed, in front of a stand-in for Slurm."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.errors import StudyError
from slurm.launch import main
from slurm.logs import find, still_written
from tests.slurm.launched import TRAIN, last


@contextmanager
def following(what: str, runs: Path) -> Iterator[Iterator[str]]:
    """The lines that `slurm.launch logs WHAT -f` prints."""
    command = [sys.executable, "-m", "slurm.launch", "logs", what, "-f", "--runs", str(runs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield iter(process.stdout)
        finally:
            process.send_signal(signal.SIGINT)


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


def test_following_asks_slurm_seldom_and_forgives_it(slurm_commands, tmp_path: Path) -> None:
    main([*TRAIN, "--model", "convnext", "--runs", str(tmp_path)])
    slurm_commands.refuse("squeue", "Unable to contact slurm controller")
    with following("100", tmp_path) as follower:
        assert next(follower).startswith("waiting: squeue: Unable to contact slurm controller")
        time.sleep(2.5)
        (last(tmp_path) / "fingertip-train-convnext-100_0.out").write_text("started\n")
        assert next(follower).startswith("==> ")
        assert next(follower) == "started\n"
    assert len(slurm_commands.asked("squeue")) == 2  # whether a driver is meant, and why it waits


def test_following_a_study_waits_for_its_new_driver_whatever_lies_there(
    slurm_commands, tmp_path: Path
) -> None:
    """The driver.log and the output of an earlier driver of the same study are not followed."""
    main(["search", "--cluster", "test", "--model", "hrnet", "--runs", str(tmp_path)])
    (last(tmp_path) / "fingertip-search-hrnet-99.out").write_text("earlier\n")
    log = tmp_path / "studies" / "hrnet" / "driver.log"
    log.parent.mkdir(parents=True)
    log.write_text("ray\n")
    slurm_commands.answer("squeue", "100|PENDING|Priority||N/A|N/A|fingertip-search-hrnet\n")
    with following("hrnet", tmp_path) as follower:
        assert next(follower) == "waiting: job 100 Priority: others are before it\n"
        (last(tmp_path) / "fingertip-search-hrnet-100.out").write_text("started\n")
        assert next(follower).startswith("==> ")
        assert next(follower) == "started\n"


def test_rays_output_counts_only_if_there_is_no_other(slurm_commands, tmp_path: Path) -> None:
    log = tmp_path / "studies" / "hrnet" / "driver.log"
    log.parent.mkdir(parents=True)
    log.write_text("ray\n")
    assert find(tmp_path, "hrnet") == log
    main(["search", "--cluster", "test", "--model", "hrnet", "--runs", str(tmp_path)])
    output = last(tmp_path) / "fingertip-search-hrnet-100.out"
    output.write_text("older\n")
    os.utime(output, (1000, 1000))
    assert find(tmp_path, "hrnet") == output


def test_a_file_without_a_number_is_followed_as_long_as_the_study_is_queued(
    slurm_commands, tmp_path: Path
) -> None:
    log = tmp_path / "driver.log"
    slurm_commands.answer(
        "squeue", "7|RUNNING|None|gr1|1780000000|1780086400|fingertip-worker-hrnet-0a1b2c\n"
    )
    assert still_written(tmp_path, log, "hrnet")
    assert not still_written(tmp_path, log, "resnet50")
    assert not still_written(tmp_path, tmp_path / "fingertip-search-hrnet-6.out", "hrnet")
    slurm_commands.refuse("squeue", "Unable to contact slurm controller")
    assert still_written(tmp_path, log, "resnet50")
