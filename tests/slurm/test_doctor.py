"""What the doctor finds at sites of every kind; Slurm's commands are stand-ins (see sites.py)."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm.checks_disk import filesystem, locks, quota
from slurm.doctor import main
from slurm.facts import clock, gres_of, limit_minutes, memory_mb
from slurm.findings import Level, problem
from tests.slurm.sites import StandInSite, site

__all__ = ["site"]  # the fixture
Found = dict[str, list[tuple[str, str, str]]]
Look = Callable[..., tuple[int, Found]]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def look(site: StandInSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Look:
    """Runs the doctor: its exit code, and by subject the level, what was found and what to do."""

    def run(*arguments: str) -> tuple[int, Found]:
        with pytest.raises(SystemExit) as ended:
            main(["--cluster", str(site.profile), "--runs", str(tmp_path / "runs"), "--json", *arguments])
        found: Found = {}
        for row in json.loads(capsys.readouterr().out)["findings"]:
            told = f"{row['found']} | {row['needed']}"
            found.setdefault(row["about"], []).append((row["level"], told, row["remedy"]))
        return int(str(ended.value.code)), found

    return run


def levels(found: Found, *subjects: str) -> list[str]:
    return [level for subject in subjects for level, _, _ in found[subject]]


def test_a_site_that_fits_its_profile_has_no_problem(look: Look) -> None:
    code, found = look()
    assert code == 0
    assert [told for findings in found.values() for told in findings if told[0] == Level.PROBLEM] == []
    assert found["nodes"][0][1].startswith("2 of partition gpu fit gpu:rtx8000:1, 2 CPUs, 4000M; 1 up now")
    assert found["nodes"][1][1].startswith("3 of partition gpu fit 1 CPU, 1000M; 2 up now")
    assert "torch" in found["libraries"][0][1]


def test_people_read_it_in_eighty_columns(
    site: StandInSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["--cluster", str(site.profile), "--runs", str(tmp_path / "runs")])
    lines = capsys.readouterr().out.splitlines()
    paths = str(tmp_path)
    assert [line for line in lines if len(line) > 80 and paths not in line] == []
    assert lines[0] == "Slurm"
    assert lines[-1].endswith(": a search could start")


def test_a_finding_says_what_is_needed_and_what_to_do() -> None:
    assert problem("time", "gpu.time is 3-00:00:00", "lower it", "at most 1-00:00:00").text() == (
        "  problem  time         gpu.time is 3-00:00:00\n"
        "                        needed: at most 1-00:00:00\n"
        "                        do: lower it"
    )


@pytest.mark.parametrize(
    ("old", "new", "about", "told", "remedy"),
    [
        (
            "partition: gpu",
            "partition: gpuu",
            "partition",
            "'gpuu': .* one of gpu, urgent",
            "set gpu.partition",
        ),
        ("rtx8000:1", "rtx8000:2", "nodes", "gpu.gres gpu:rtx8000:2 .*gpu:v100:4", "change gpu.gres in"),
        (
            "rtx8000:1",
            "a100:1",
            "nodes",
            "no node of partition gpu has gpu.gres gpu:a100:1",
            "change gpu.gres",
        ),
        (
            "cpus: 2",
            "constraint: ampere",
            "nodes",
            "constraint of ib, turing, volta",
            "change gpu.constraint",
        ),
        ("cpus: 2", "cpus: 3", "nodes", "gpu.cpus 3 .* at most 4 CPUs", "change gpu.cpus"),
        ("4000M", "7G", "nodes", "gpu.memory 7G .* at most 12000M", "change gpu.memory"),
        ("time: 30", "time: 1500", "time", "1-01:00:00 .* at most 1-00:00:00, the limit", "lower gpu.time"),
        ("cpus: 2", "qos: fast", "qos", "'fast' .* one of long, normal", "set gpu.qos"),
        ("device:", "account: nobody\ndevice:", "account", "'nobody' .* one of research", "set `account`"),
    ],
)
def test_what_the_site_does_not_have_is_a_problem_with_the_remedy(
    site: StandInSite, look: Look, old: str, new: str, about: str, told: str, remedy: str
) -> None:
    import re

    site.wants(old, new)
    code, found = look()
    assert code == 1
    wrong = [finding for finding in found[about] if finding[0] == Level.PROBLEM]
    assert len(wrong) == 1
    assert re.search(told, wrong[0][1]), wrong
    assert remedy in wrong[0][2]


def test_a_partition_may_be_closed_to_an_account(site: StandInSite, look: Look) -> None:
    site.wants("device:", "account: research\ndevice:")
    site.wants("partition: gpu,", "partition: urgent,")
    code, found = look()
    assert code == 1
    assert any(
        "partition urgent does not take 'research' | one of vip" in told for _, told, _ in found["account"]
    )


def test_what_is_not_enforced_is_only_a_warning(site: StandInSite, look: Look) -> None:
    site.wants("device:", "account: nobody\ndevice:")
    site.replaces("config", "associations,limits,qos", "none")
    code, found = look()
    assert (code, levels(found, "account")) == (0, ["warning"])


def test_sbatch_has_the_last_word(site: StandInSite, look: Look) -> None:
    site.refuses("sbatch", "sbatch: error: Batch job submission failed: Invalid account specified")
    code, found = look()
    assert code == 1
    level, told, remedy = found["sbatch"][0]
    assert level == Level.PROBLEM
    assert "Invalid account" in told
    assert "sacctmgr show assoc" in remedy


def test_only_nodes_that_are_down_would_fit(site: StandInSite, look: Look) -> None:
    site.replaces("sinfo", "gr1|gpu*|idle", "gr1|gpu*|drained")
    code, found = look()
    assert code == 0
    assert found["nodes"][0][:2] == (
        "warning",
        "2 of partition gpu fit gpu:rtx8000:1, 2 CPUs, 4000M, none is up (1 down*, 1 drained) | ",
    )


def test_accounting_off_is_said_and_no_problem(site: StandInSite, look: Look) -> None:
    site.replaces("config", "accounting_storage/slurmdbd", "accounting_storage/none")
    site.refuses("sacctmgr", "Slurm accounting storage is disabled")
    code, found = look()
    assert (code, levels(found, "accounting")) == (0, ["note"])
    assert "off: there is no sacct" in found["accounting"][0][1]
    site.replaces("config", "300 sec", "30 sec")
    assert levels(look()[1], "accounting") == ["note", "warning"]


@pytest.mark.parametrize(
    ("old", "new", "about", "level", "told"),
    [
        ("= REQUEUE", "= CANCEL", "preemption", "ok", "requeue"),  # the partition's own counts
        ("preempt/partition_prio", "preempt/none", "preemption", "ok", "off"),
        (
            "KillWait                = 30",
            "KillWait                = 5",
            "preemption",
            "note",
            "too short to save",
        ),
        ("JobRequeue              = 1", "JobRequeue              = 0", "requeue", "note", "JobRequeue=0"),
        ("= 1001", "= 50", "arrays", "warning", "MaxArraySize here 50"),
        ("= (null)", "= preempt_send_user_signal", "preemption", "ok", "SIGUSR1 before"),
    ],
)
def test_how_jobs_end_and_come_back(
    site: StandInSite, look: Look, old: str, new: str, about: str, level: str, told: str
) -> None:
    site.replaces("config", old, new)
    code, found = look()
    assert code == 0
    assert [f for f in found[about] if f[0] == level and told in f[1]]


def test_preemption_by_cancelling_and_by_suspending(site: StandInSite, look: Look) -> None:
    site.replaces("partition", "PreemptMode=REQUEUE", "PreemptMode=CANCEL")
    assert "is not put back" in look()[1]["preemption"][0][1]
    site.replaces("partition", "PreemptMode=CANCEL", "PreemptMode=SUSPEND")
    assert levels(look()[1], "preemption")[0] == "warning"


def test_a_silent_controller_is_a_problem_and_the_rest_is_still_told(site: StandInSite, look: Look) -> None:
    site.refuses("scontrol", "slurm_load_ctl_conf error: Unable to contact slurm controller")
    code, found = look()
    assert (code, levels(found, "controller", "locks")) == (1, ["problem", "ok"])
    assert "Unable to contact slurm controller" in found["controller"][0][1]


def test_without_slurm_or_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("PIPELINE_CLUSTER", raising=False)
    with pytest.raises(SystemExit, match="1"):
        main(["--runs", str(tmp_path)])
    told = " ".join(capsys.readouterr().out.split())
    assert "not on PATH: sbatch, squeue, scancel, scontrol, sinfo" in told
    assert "problem profile which cluster is this?" in told


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30:00", 30),
        ("24:00:00", 1440),
        ("1-00:00:00", 1440),
        ("1-12", 2160),
        ("UNLIMITED", None),
        ("", None),
    ],
)
def test_limits_as_slurm_writes_them(text: str, expected: int | None) -> None:
    assert limit_minutes(text) == expected


def test_sizes_and_gres_as_slurm_writes_them() -> None:
    assert gres_of("gpu:rtx8000:4(S:0-1),gpu:2,shard:8(IDX:0)") == [
        ("gpu", "rtx8000", 4),
        ("gpu", "", 2),
        ("shard", "", 8),
    ]
    assert gres_of("gpu:a100") == [("gpu", "a100", 1)]
    assert gres_of("(null)") == []
    assert [memory_mb(text) for text in ("64G", "6000M", "6000", "1T")] == [65536, 6000, 6000, 1024**2]
    assert [clock(minutes) for minutes in (30, 1440, 1501)] == ["0:30:00", "1-00:00:00", "1-01:01:00"]
