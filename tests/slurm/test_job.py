"""The supervisor, with real processes below it and a stand-in for scontrol that keeps what it was asked."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.paths import repository

SAVES = """
import signal, sys, time
from pathlib import Path

def save(number, frame):
    Path("saved").write_text(signal.Signals(number).name)
    sys.exit(130)

signal.signal(signal.SIGTERM, save)
signal.signal(signal.SIGINT, save)
Path("ready").touch()
time.sleep(60)
"""
TWICE = """
import os, signal, sys, time
from pathlib import Path

starts = len(list(Path(".").glob("start*")))
Path(f"start{starts}").touch()
if starts < int(sys.argv[1]):
    END
print("done", flush=True)
"""
DEAF = """
import signal, time
from pathlib import Path

signal.signal(signal.SIGTERM, signal.SIG_IGN)
Path("ready").touch()
time.sleep(60)
"""
FAMILY = """
import subprocess, sys, time
from pathlib import Path

child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
Path("orphan").write_text(str(child.pid))
"""
ASKED = '[ "$1" = --oneliner ] || echo "$@" >> "$(dirname "$0")/asked"'
TELLS = """[ "$1" = requeue ] || exec echo "JobId=17 JobName=fingertip-train UserId=me(1) \\
JobState=RUNNING Reason=None x StartTime=1 EndTime=$(cat "$(dirname "$0")/end") x NodeList=gr1 "
"""

Job = Callable[..., "subprocess.Popen[str]"]


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    """Starts a supervised module whose source is given, in a folder of its own."""
    started: list[subprocess.Popen[str]] = []
    folder = tmp_path / "bin"
    folder.mkdir()

    def start(
        source: str,
        *arguments: str,
        scontrol: str = ASKED,
        variables: dict[str, str] | None = None,
        **options: str,
    ) -> "subprocess.Popen[str]":
        (tmp_path / "work.py").write_text(source)
        (folder / "scontrol").write_text(f"#!/bin/sh\n{scontrol}\n")
        (folder / "scontrol").chmod(0o755)
        environment = {
            **os.environ,
            "PATH": f"{folder}:{os.environ['PATH']}",
            "PYTHONPATH": f"{tmp_path}:{repository()}",
            "SLURM_JOB_ID": "17",
            **(variables or {}),
        }
        pairs = [(f"--{key.replace('_', '-')}", value) for key, value in options.items()]
        flags = [part for pair in pairs for part in pair if part]
        command = [sys.executable, "-P", "-m", "slurm.job", *flags, "--", "work", *arguments]
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with finished(process):
            process.kill()


@contextmanager
def finished(process: "subprocess.Popen[str]") -> Iterator[None]:
    yield
    process.communicate(timeout=10)


def test_the_exit_code_of_the_module_is_that_of_the_job(job: Job) -> None:
    process = job("import sys; print('hello', sys.argv[1]); sys.exit(3)", "--flag")
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 3
    assert "start 1 of this job" in output
    assert "hello --flag" in output


def test_before_the_time_limit_it_saves_and_goes_back_into_the_queue(job: Job, tmp_path: Path) -> None:
    process = job(SAVES)
    wait_for((tmp_path / "ready").exists)
    process.send_signal(signal.SIGUSR1)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert (tmp_path / "saved").read_text() == "SIGTERM"
    assert (tmp_path / "bin" / "asked").read_text() == "requeue 17\n"
    assert "the time limit is near: saved, and back into the queue; it goes on where it was" in output


def test_of_an_array_only_the_task_itself_goes_back_into_the_queue(job: Job, tmp_path: Path) -> None:
    """Slurm gives one task the array's own number; requeueing that would kill the other tasks."""
    process = job(SAVES, variables={"SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "2"})
    wait_for((tmp_path / "ready").exists)
    process.send_signal(signal.SIGUSR1)
    process.communicate(timeout=20)
    assert process.returncode == 0
    assert (tmp_path / "bin" / "asked").read_text() == "requeue 17_2\n"


def test_a_job_that_may_not_be_requeued_says_what_to_do(job: Job, tmp_path: Path) -> None:
    process = job(SAVES, no_requeue="")
    wait_for((tmp_path / "ready").exists)
    process.send_signal(signal.SIGUSR1)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert not (tmp_path / "bin" / "asked").exists()
    assert (
        "the time limit is near: saved, and leaving, as jobs.requeue is false; submit the same command "
        "again, it goes on where it was"
    ) in output


def test_a_lost_signal_does_not_matter_as_slurm_is_asked_when_the_time_is_up(
    job: Job, tmp_path: Path
) -> None:
    (tmp_path / "bin" / "end").write_text(str(round(time.time()) + 5))
    process = job(SAVES, scontrol=TELLS + ASKED, signal_s="2")
    wait_for((tmp_path / "ready").exists)
    (tmp_path / "bin" / "end").write_text(str(round(time.time()) + 4))  # the limit is raised meanwhile
    started = time.monotonic()
    process.communicate(timeout=30)
    assert time.monotonic() - started > 1
    assert process.returncode == 0
    assert (tmp_path / "saved").read_text() == "SIGTERM"
    assert (tmp_path / "bin" / "asked").read_text() == "requeue 17\n"


def test_a_cancelled_job_saves_and_does_not_come_back(job: Job, tmp_path: Path) -> None:
    process = job(SAVES)
    wait_for((tmp_path / "ready").exists)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert (tmp_path / "saved").read_text() == "SIGINT"
    assert not (tmp_path / "bin" / "asked").exists()
    assert "leaving with exit code 130, on SIGTERM" in output


def test_a_module_that_does_not_end_is_killed_in_time_and_the_job_comes_back(
    job: Job, tmp_path: Path
) -> None:
    process = job(DEAF, signal_s="1")
    wait_for((tmp_path / "ready").exists)
    process.send_signal(signal.SIGUSR1)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "not ended within 1 s; killing it" in output
    assert (tmp_path / "bin" / "asked").read_text() == "requeue 17\n"


def test_what_is_complete_when_the_time_is_up_does_not_come_back(job: Job, tmp_path: Path) -> None:
    process = job(SAVES.replace("sys.exit(130)", "sys.exit(0)"))
    wait_for((tmp_path / "ready").exists)
    process.send_signal(signal.SIGUSR1)
    process.communicate(timeout=20)
    assert process.returncode == 0
    assert not (tmp_path / "bin" / "asked").exists()


def test_a_queue_that_refuses_is_asked_again_and_the_remedy_told(job: Job, tmp_path: Path) -> None:
    refusing = ASKED + '; echo "slurm_requeue error: Requested operation is presently disabled" >&2; exit 1'
    process = job(SAVES, scontrol=refusing, signal_s="6")
    wait_for((tmp_path / "ready").exists)
    process.send_signal(signal.SIGUSR1)
    output, _ = process.communicate(timeout=40)
    assert process.returncode == 130
    assert len((tmp_path / "bin" / "asked").read_text().splitlines()) == 4
    expected = "presently disabled; submit the same command again, it goes on where it was"
    assert expected in output


def test_a_killed_module_is_started_again(job: Job) -> None:
    source = TWICE.replace("END", "os.kill(os.getpid(), signal.SIGKILL)")
    process = job(source, "1")
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "killed by SIGKILL after " in output
    assert " s; starting it again, from its last checkpoint" in output
    assert output.endswith("done\n")


def test_a_module_that_is_killed_at_once_each_time_is_given_up(job: Job) -> None:
    source = TWICE.replace("END", "os.kill(os.getpid(), signal.SIGKILL)")
    process = job(source, "9")
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGKILL
    assert " s, the 3. time: giving up. SIGKILL often means out of memory" in output
    assert "raise gpu.memory in the cluster profile or lower train.batch_size" in output


def test_a_full_disk_is_waited_for(job: Job) -> None:
    process = job(TWICE.replace("END", "sys.exit(74)"), "2", disk_wait_s="0.1")
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert output.count("the disk is full or failing; trying again in") == 2
    assert output.endswith("done\n")


def test_the_wait_for_the_disk_ends_with_the_job(job: Job, tmp_path: Path) -> None:
    process = job(TWICE.replace("END", "sys.exit(74)"), "9", disk_wait_s="600")
    assert process.stdout is not None
    wait_for((tmp_path / "start0").exists)
    lines = iter(process.stdout)
    assert any("trying again in 600 s" in line for line in lines)
    process.send_signal(signal.SIGUSR1)
    process.wait(timeout=10)
    assert process.returncode == 0
    assert (tmp_path / "bin" / "asked").read_text() == "requeue 17\n"


def test_nothing_is_left_of_the_modules_own_processes(job: Job, tmp_path: Path) -> None:
    process = job(FAMILY)
    process.communicate(timeout=20)
    orphan = Path("/proc") / (tmp_path / "orphan").read_text()
    wait_for(lambda: not orphan.exists() or "Z" in (orphan / "stat").read_text().split(")")[1][:3])
