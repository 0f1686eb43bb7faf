"""Every command explains itself at once, with examples, and refuses nonsense in one line."""

import os
import resource
import subprocess
import sys

import pytest

COMMANDS = [
    "tune.replay",
    "tune.search",
    "tune.status",
    "pipeline.train",
    "pipeline.predict",
    "pipeline.leaderboard",
    "pipeline.final",
    "pipeline.data.pack",
    "pipeline.data.preview",
    "pipeline.data.twin",
    "pipeline.models",
    "slurm.doctor",
    "slurm.probe",
    "slurm.launch",
    "slurm.job",
    "slurm.task",
    "slurm.snapshot",
]
HEAVY = {"mujoco", "optuna", "pandas", "ray", "submitit", "timm", "torch", "torchvision"}  # seconds to import


def run(*arguments, **environment):
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


def cpu_s():
    """What the processes that this one started and waited for have computed; waiting costs nothing."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def imported(report):
    """The packages in what Python tells of the imports of a process."""
    names = (line.rpartition("|")[2].strip() for line in report.splitlines())
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_takes_less_than_a_second_and_holds_an_example(command):
    seconds = []
    for _ in range(3):  # the quickest of three: a busy machine is not the command's fault
        before = cpu_s()
        result = run(command, "--help", PYTHONPROFILEIMPORTTIME="1")
        seconds.append(cpu_s() - before)
        if seconds[-1] < 1:
            break
    assert result.returncode == 0, result.stderr
    assert "examples:" in result.stdout
    assert f"python -m {command}" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= (120 if command.startswith("tune.") else 80)
    assert min(seconds) < 1
    assert "pipeline" in imported(result.stderr), "imports are not told"
    assert not imported(result.stderr) & HEAVY


def test_a_user_error_is_one_line_and_exit_code_2(tmp_path):
    result = run("pipeline.train", "--model", "vgg", "--runs", str(tmp_path))
    assert result.returncode == 2
    assert result.stderr.startswith("error: unknown model 'vgg'; known: convnext, ")
    assert "Traceback" not in result.stderr


def test_the_final_run_asks_for_a_search_first(tmp_path):
    result = run("pipeline.final", PIPELINE_RUNS=str(tmp_path))
    assert result.returncode == 2
    expected = f"error: {tmp_path}/best.yaml: not there yet; run a search first: python -m tune.search"
    assert result.stderr.startswith(expected)
