"""What the doctor finds at sites of every kind; Slurm's commands are stand-ins (see sites.py)."""

from pathlib import Path

import pytest

from slurm.doctor import main
from slurm.facts import clock, gres_of, limit_minutes, memory_mb
from slurm.findings import Level, problem
from tests.slurm.sites import ANSWERS, Look, StandInSite, levels, look, site

__all__ = ["look", "site"]  # fixtures


def test_a_site_that_fits_its_profile_has_no_problem(look: Look) -> None:
    code, found = look()
    assert code == 0
    assert [told for findings in found.values() for told in findings if told[0] == Level.PROBLEM] == []
    assert found["nodes"][0][1].startswith(
        "2 nodes of partition gpu fit gpu:rtx8000:1, 2 CPUs, 4000M; 1 up now"
    )
    assert found["nodes"][1][1].startswith("3 nodes fit 1 CPU, 1000M; 2 up now")
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


def test_without_a_partition_the_default_one_counts_unless_the_site_picks(
    site: StandInSite, look: Look
) -> None:
    site.wants("partition: gpu, ", "")
    assert look()[0] == 0
    site.says("partition", f"{ANSWERS['partition']}PartitionName=cpu Default=YES MaxTime=10:00 State=UP\n")
    site.replaces("partition", "AllowQos=ALL AllocNodes=ALL Default=YES", "Default=NO")
    code, found = look()
    assert code == 1
    assert "none of them is in the default partition cpu, but in gpu" in found["nodes"][1][1]
    assert found["nodes"][1][2] == "set gpu.partition in the profile"
    site.replaces("config", "JobRequeue", "JobSubmitPlugins        = lua\nJobRequeue")
    code, found = look()
    assert (code, levels(found, "nodes")[:2], levels(found, "time")) == (0, ["ok", "note"], ["warning"] * 2)


def test_only_nodes_that_are_down_would_fit(site: StandInSite, look: Look) -> None:
    site.replaces("sinfo", "gr1|gpu*|idle", "gr1|gpu*|drained")
    code, found = look()
    assert code == 0
    assert found["nodes"][0][:2] == (
        "warning",
        "2 nodes of partition gpu fit gpu:rtx8000:1, 2 CPUs, 4000M, none is up (1 down*, 1 drained) | ",
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
