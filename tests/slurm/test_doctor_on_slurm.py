"""The doctor on a real Slurm, whose nodes have no GPUs but everything else."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slurm.queue import Queue
from tests.cluster import SlurmCluster

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[2]
PROFILE = """\
device: cpu
gpu: {partition: gpu, gres: "gpu:rtx8000:1", cpus: 1, memory: 1000M, time: 30}
driver: {partition: gpu, cpus: 1, memory: 1000M, time: 60}
"""
Doctor = Callable[..., tuple[int, list[dict[str, Any]], str]]


@pytest.fixture
def doctor(tmp_path: Path) -> Doctor:
    """Runs it with a changed profile: exit code, findings, what it told meanwhile."""

    def run(*arguments: str, old: str = "", new: str = "", more: str = "") -> tuple[int, Any, str]:
        profile = tmp_path / "site.yaml"
        profile.write_text(PROFILE.replace(old, new) + more)
        command = [sys.executable, "-m", "slurm.doctor", "--cluster", str(profile), "--json"]
        result = subprocess.run(
            [*command, "--runs", str(tmp_path / "runs"), *arguments], cwd=ROOT, capture_output=True, text=True
        )
        assert result.stdout, result.stderr
        return result.returncode, json.loads(result.stdout)["findings"], result.stderr

    return run


def of(findings: list[dict[str, Any]], level: str) -> dict[str, str]:
    return {
        f["about"]: f"{f['found']} | {f['needed']} | {f['remedy']}" for f in findings if f["level"] == level
    }


def test_it_passes_and_a_job_looks_around(on_slurm: SlurmCluster, doctor: Doctor, tmp_path: Path) -> None:
    code, findings, said = doctor("--probe")
    assert (code, of(findings, "problem")) == (0, {})
    assert "reported from gr" in of(findings, "ok")["job"]
    assert "submitted; Ctrl-C cancels it" in said
    node = [finding["about"] for finding in findings if finding["part"] == "Probe"]
    assert {"python", "RUNS", "locks", "network", "clock", "controller", "scratch", "torch"} <= set(node)
    assert not (tmp_path / "runs" / "doctor").exists()
    assert [
        job for job in Queue().jobs().values() if job.name == "fingertip-probe" and not job.finished
    ] == []


def test_what_a_profile_has_wrong_is_found_before_anything_is_submitted(
    on_slurm: SlurmCluster, doctor: Doctor
) -> None:
    before = set(Queue().jobs())
    code, findings, _ = doctor("--probe", old="{partition: gpu, gres", new="{partition: gpuu, gres")
    assert code == 1
    assert "one of gpu, urgent | set gpu.partition" in of(findings, "problem")["partition"]
    code, findings, _ = doctor("--probe", old="rtx8000", new="a100")
    assert code == 1
    assert "gpu:a100:1 | gres gpu:rtx8000:1 | change gpu.gres" in of(findings, "problem")["nodes"]
    assert "node configuration is not available" in of(findings, "problem")["sbatch"]
    code, findings, _ = doctor("--probe", more="environment: {python: /nowhere/python}\n")
    assert code == 1
    assert "/nowhere/python: No such file" in of(findings, "problem")["python"]
    assert set(Queue().jobs()) == before
    code, findings, _ = doctor(more="account: nobody\n")
    assert code == 0  # this Slurm takes any account
    assert "'nobody' is not one of your accounts" in of(findings, "warning")["account"]
    assert "one of research" in of(findings, "warning")["account"]


def test_the_job_found_no_python_though_this_host_has_one(on_slurm: SlurmCluster, doctor: Doctor) -> None:
    only_here = (
        f'environment: {{python: "$([ -z $SLURM_JOB_ID ] && echo {sys.executable} || echo /gone/python)"}}\n'
    )
    code, findings, _ = doctor("--probe", more=only_here)
    assert code == 1
    assert "/gone/python: No such file or directory" in of(findings, "problem")["job"]
    assert (
        "set environment.python in the profile to a Python that every node can read"
        in (of(findings, "problem")["job"])
    )


def test_accounting_off_is_said_and_the_probe_still_ends(
    on_slurm_without_accounting: SlurmCluster, doctor: Doctor
) -> None:
    code, findings, _ = doctor("--probe")
    assert (code, of(findings, "problem")) == (0, {})
    assert "off: there is no sacct" in of(findings, "note")["accounting"]


def test_a_probe_that_does_not_start_says_why_and_is_cancelled(
    on_slurm: SlurmCluster, doctor: Doctor
) -> None:
    for node in on_slurm.nodes:
        on_slurm.submit("sleep 300", f"--nodelist={node}")
    code, findings, said = doctor("--probe", "--timeout", "4")
    assert code == 1
    assert "(Resources: it is next; what it needs is in use); cancelled" in of(findings, "problem")["job"]
    assert "waits (Resources" in said
    probes = [job for job in Queue().jobs().values() if job.name == "fingertip-probe"]
    assert all(job.finished for job in probes)
