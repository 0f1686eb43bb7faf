"""What the doctor finds in the environment, on the disk, and of a probe that does not start; see sites.py."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slurm.checks_disk import filesystem, locks, quota
from slurm.findings import Level
from tests.slurm.sites import Look, StandInSite, levels, look, site

__all__ = ["look", "site"]  # fixtures
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("environment", "told", "remedy"),
    [
        ("python: /nowhere/bin/python", "/nowhere/bin/python: No such file", "set environment.python"),
        ("python: python3 -S, setup: [exit 3]", "exit status 3", "mend `environment`"),
        ("python: echo Unknown option -P", "no Python here: Unknown option", "older than 3.11"),
    ],
)
def test_the_job_found_no_python_is_known_before_it_waits(
    site: StandInSite, look: Look, environment: str, told: str, remedy: str
) -> None:
    site.wants(f"python: {sys.executable}", environment)
    code, found = look("--probe")
    assert code == 1
    assert told in found["python"][0][1]
    assert remedy in found["python"][0][2]
    assert levels(found, "probe") == ["note"]  # nothing was sent
    assert [call for call in site.asked("sbatch") if "--test-only" not in call] == []


def test_conda_activate_that_fails_is_named_even_if_some_python_answers(
    site: StandInSite, look: Look
) -> None:
    site.wants("environment: {", "environment: {setup: [conda activate hand], ")
    _, found = look()
    level, told, remedy = found["setup"][0]
    assert level == "warning"
    assert "conda: command not found" in told
    assert "etc/profile.d/conda.sh" in remedy


def test_a_python_without_the_libraries_is_a_problem(site: StandInSite, look: Look) -> None:
    site.wants(f"python: {sys.executable}", f"python: {sys.executable} -S")
    code, found = look()
    assert code == 1
    assert "that Python lacks torch" in found["libraries"][0][1]


def test_an_unknown_interface_and_a_long_scratch_folder(
    site: StandInSite, look: Look, tmp_path: Path
) -> None:
    site.wants("interface: 127.0.0.1", f"interface: ib7, scratch: [{tmp_path}]")
    code, found = look()
    assert (code, levels(found, "interface", "scratch")) == (1, ["problem", "warning"])
    assert "no 'ib7' on this host; it has " in found["interface"][0][1]


def test_results_that_cannot_be_written(site: StandInSite, look: Look, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, found = look("--runs", str(tmp_path / "file" / "runs"))
    assert (code, levels(found, "RUNS")) == (1, ["problem"])


def test_locks_and_file_systems(tmp_path: Path) -> None:
    assert [finding.level for finding in locks(tmp_path)] == [Level.OK]
    assert list(tmp_path.iterdir()) == []
    assert filesystem(Path("/proc/self"))[1] == "proc"


QUOTA = """\
Disk quotas for user me (uid 1000):
Filesystem  blocks   quota   limit   grace   files   quota   limit   grace
/dev/sda1    {used}  50000   51000   6days     10    1000    1100
"""


@pytest.mark.parametrize(
    ("used", "status", "level", "told"),
    [("4096", 0, "ok", "not used up"), ("52000*", 1, "warning", "used up on /dev/sda1")],
)
def test_quota(site: StandInSite, tmp_path: Path, used: str, status: int, level: str, told: str) -> None:
    command = tmp_path / "bin" / "quota"
    command.write_text(f"#!/bin/sh\ncat <<'END'\n{QUOTA.format(used=used)}END\nexit {status}\n")
    command.chmod(0o755)
    (found,) = quota()
    assert (found.level, told in found.found) == (level, True)


def test_a_probe_that_waits_too_long_is_cancelled(site: StandInSite, look: Look, tmp_path: Path) -> None:
    site.says("squeue", "42|PENDING|Priority||N/A|N/A|fingertip-probe\n")
    code, found = look("--probe", "--timeout", "0.1")
    assert code == 1
    level, told, remedy = found["job"][0]
    assert level == "problem"
    assert "job 42 waits (Priority: others are before it); cancelled" in told
    assert "--timeout" in remedy
    assert site.asked("scancel") == ["42"]


def test_ctrl_c_cancels_the_probe(site: StandInSite, tmp_path: Path) -> None:
    site.says("squeue", "42|PENDING|Priority||N/A|N/A|fingertip-probe\n")
    command = [sys.executable, "-m", "slurm.doctor", "--cluster", str(site.profile), "--probe"]
    doctor = subprocess.Popen(
        [*command, "--runs", str(tmp_path / "runs")],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    assert doctor.stderr is not None
    until = time.monotonic() + 120
    while "waits" not in doctor.stderr.readline():
        assert time.monotonic() < until
    doctor.send_signal(signal.SIGINT)
    assert doctor.wait(30) == 130
    doctor.stderr.close()
    assert site.asked("scancel") == ["42"]
