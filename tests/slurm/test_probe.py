"""What is made of a node's report; the probe runs here as a process, against the doctor's own listener."""

import fcntl
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slurm.cluster import Cluster, load_cluster
from slurm.findings import Finding
from slurm.glance import line, of_study, row
from slurm.probing import Listener, Probed, describe
from slurm.queue import Job
from slurm.verdicts import gpus, knows, verdicts

ROOT = Path(__file__).parents[2]
TURING = {"name": "Quadro RTX 8000", "capability": [7, 5], "memory_gb": 51}
FITS: dict[str, Any] = {
    "torch": "2.11.0+cu130",
    "cuda_build": "13.0",
    "driver": "580.159.04",
    "driver_cuda": "13.0",
    "count": 1,
    "archs": ["sm_75", "sm_80", "sm_90", "compute_120"],
    "devices": [TURING],
    "computed": "",
}


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    path = tmp_path / "site.yaml"
    path.write_text(
        "gpu: {cpus: 1, time: 30}\njobs: {signal_s: 30}\npool: {drain_s: 60}\n"
        "environment: {scratch: [/tmp]}\n"
    )
    return load_cluster(str(path))


def told(findings: Any) -> list[str]:
    return [f"{finding.level} {finding.about}: {finding.found}" for finding in findings]


def bad(findings: Any) -> list[Finding]:
    return [finding for finding in findings if finding.level in ("warning", "problem")]


def test_a_node_reports_and_all_is_well(tmp_path: Path, cluster: Cluster) -> None:
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("sbatch", "squeue", "scancel", "scontrol"):
        (commands / name).write_text("#!/bin/sh\n")
        (commands / name).chmod(0o755)
    with Listener("127.0.0.1") as listener, (tmp_path / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        arguments = ["--report", str(tmp_path / "report.json"), "--head", listener.address, "--device", "cpu"]
        subprocess.run(
            [sys.executable, "-m", "slurm.probe", *arguments, "--cluster", cluster.name],
            cwd=ROOT,
            check=True,
            capture_output=True,
            env=os.environ | {"PATH": f"{commands}:{os.environ['PATH']}"},
        )
        word, arrived = listener.word, listener.arrived
    report = json.loads((tmp_path / "report.json").read_text())
    probed = Probed("7", tmp_path, "COMPLETED", report, "", word, arrived)
    found = verdicts(probed, cluster.model_copy(update={"device": "cpu"}))
    assert bad(found) == [], told(found)
    assert [finding.about for finding in found] == [
        *("job", "python", "libraries", "in the job", "RUNS", "locks", "network", "clock", "controller"),
        *("scratch", "torch"),
    ]


def test_the_listener_tells_a_word_and_takes_nothing() -> None:
    with Listener("127.0.0.1") as listener:
        host, _, port = listener.address.rpartition(":")
        for _ in range(2):
            with socket.create_connection((host, int(port)), timeout=5) as connection:
                assert connection.makefile().read() == f"{listener.word}\n"
        address = host, int(port)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=5)


def test_the_network_and_the_clock(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    base: dict[str, Any] = {"host": {"node": "gr1", "cpus": 4, "open_files": -1, "interfaces": ["lo"]}}

    def judged(head: dict[str, Any]) -> list[str]:
        return told(verdicts(Probed("7", tmp_path, "", {**base, "head": head}, "", "w", 100.0), cluster))[1:]

    assert judged({"word": "w", "time": 100.2})[1].startswith("ok clock")
    assert judged({"word": "w", "time": 400.0})[1].startswith("warning clock: the node's differs by +300 s")
    assert judged({"word": "x", "time": 100.0})[0].startswith("warning network: the node does not reach")
    unreachable = {"error": "TimeoutError: timed out"}
    assert "login node behind a firewall" in judged(unreachable)[0]
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    assert judged(unreachable)[0].startswith("problem network")


def test_a_turing_gpu_that_torch_and_driver_know(cluster: Cluster) -> None:
    assert bad(gpus(FITS, cluster)) == []


@pytest.mark.parametrize(
    ("change", "message", "remedy"),
    [
        (
            {"driver": "535.104.05", "driver_cuda": "12.2", "computed": "no GPU is visible"},
            "built for CUDA 13.0; the driver, 535.104.05, knows CUDA up to 12.2",
            "torch's build for CUDA 12",
        ),
        (
            {
                "driver": None,
                "driver_cuda": None,
                "driver_error": "Driver Not Loaded",
                "count": 0,
                "devices": [],
            },
            "no driver answers (Driver Not Loaded)",
            "a container needs --nv",
        ),
        (
            {"archs": ["sm_80", "sm_90"]},
            "sm_75: torch 2.11.0+cu130 is not built for it",
            "ask for another GPU",
        ),
        (
            {"count": 0, "devices": []},
            "0 visible, gpu.gpus is 1",
            "gpu.gres (or gpu.constraint) and gpu.gpus",
        ),
        ({"count": 2}, "2 visible, gpu.gpus is 1", "gpu.gpus"),
        ({"cuda_build": None}, "is built without CUDA", "install a CUDA build"),
        (
            {"computed": "CUDA error: no kernel image"},
            "no kernel image",
            "install a torch build for this GPU",
        ),
    ],
)
def test_gpus_that_cannot_be_used(
    cluster: Cluster, change: dict[str, Any], message: str, remedy: str
) -> None:
    first = bad(gpus(FITS | change, cluster))[0]
    assert message in first.found
    assert remedy in first.remedy


def test_an_old_driver_is_told_which_one_is_needed(cluster: Cluster) -> None:
    first = bad(gpus(FITS | {"driver": "535.104.05", "driver_cuda": "12.2"}, cluster))[0]
    assert first.needed == "driver 580.65 or newer for CUDA 13"


@pytest.mark.parametrize(
    ("archs", "capability", "expected"),
    [
        (["sm_75"], (7, 5), True),
        (["sm_70"], (7, 5), True),
        (["sm_80"], (7, 5), False),
        (["sm_80"], (8, 6), True),
        (["sm_86"], (8, 0), False),
        (["sm_80"], (9, 0), False),
        (["sm_90a"], (9, 0), True),
        (["sm_80", "compute_80"], (12, 0), True),
        (["sm_100", "compute_120"], (10, 3), True),
        ([], (7, 5), False),
    ],
)
def test_which_gpus_a_build_knows(archs: list[str], capability: tuple[int, int], expected: bool) -> None:
    assert knows(archs, *capability) is expected


@pytest.mark.parametrize(
    ("printed", "state", "told_of", "remedy"),
    [
        (
            "slurm_script: line 9: /x/python: No such file or directory",
            "FAILED",
            "/x/python",
            "every node can read",
        ),
        (
            "CondaError: Run 'conda init' before 'conda activate'",
            "FAILED",
            "conda init",
            "etc/profile.d/conda.sh",
        ),
        ("unknown option -P\nusage: python", "FAILED", "usage: python", "older than 3.11"),
        ("/x/python: No module named slurm", "FAILED", "No module named slurm", "RUNS/code"),
        ("", "COMPLETED", "nothing that it wrote is seen here", "every node share"),
    ],
)
def test_a_job_that_did_not_report(
    cluster: Cluster, tmp_path: Path, printed: str, state: str, told_of: str, remedy: str
) -> None:
    (found,) = verdicts(Probed("7", tmp_path, state, None, printed), cluster)
    assert found.level == "problem"
    assert told_of in found.found
    assert remedy in found.remedy


def test_a_step_that_ended_the_process_is_named(cluster: Cluster, tmp_path: Path) -> None:
    report = {"python": {"error": "x"}, "scratch": {"folder": "/tmp", "free_gb": 9.0}, "complete": False}
    first = verdicts(Probed("7", tmp_path, "FAILED", report, "Illegal instruction"), cluster)[0]
    assert first.level == "problem"
    assert "step after 'scratch': Illegal instruction" in first.found


def test_a_node_where_torch_does_not_import(cluster: Cluster, tmp_path: Path) -> None:
    report = {
        "gpu": {"error": "ImportError: libcudnn.so.9: cannot open shared object file"},
        "complete": True,
    }
    found = verdicts(Probed("7", tmp_path, "COMPLETED", report), cluster)
    assert told(found)[1].startswith("problem torch: gpu on the node: ImportError: libcudnn")


def job(number: str, kind: str, study: str, state: str, reason: str = "None", node: str = "") -> Job:
    return Job(number, f"fingertip-{kind}-{study}", state, reason, node, None, None)


def test_a_searchs_jobs_in_one_line() -> None:
    queued = [
        job("124", "worker", "s-0a1b2c", "RUNNING", node="gr2"),
        job("125", "worker", "s-0a1b2c", "RUNNING", node="gr3"),
        job("126", "worker", "s-0a1b2c", "PENDING", "Priority"),
        job("123", "search", "s", "RUNNING", node="gr1"),
        job("9", "worker", "other-0a1b2c", "RUNNING", node="gr1"),
    ]
    expected = "driver 123 running on gr1; workers 2 running, 1 pending (Priority: others are before it)"
    assert line(of_study(queued, "s")) == expected
    assert line(of_study(queued, "nobody")) == ""
    assert [row(found)["kind"] for found in of_study(queued, "s")] == ["search", "worker", "worker", "worker"]


def test_a_driver_that_waits_and_the_search_of_all_models() -> None:
    waiting = job("5", "search", "all", "PENDING", "QOSGrpGRES")
    assert line(of_study([waiting], "resnet50")) == "driver 5 pending (QOSGrpGRES)"
    assert of_study([waiting], "resnet50-2") == []  # a search of all models has studies named after them
    assert describe(waiting) == "job 5 waits (QOSGrpGRES)"
    new = job("6", "worker", "s", "PENDING", "None")
    assert describe(new) == "job 6 waits (Slurm has not looked at it yet)"
    assert describe(job("6", "worker", "s", "RUNNING", node="gr1")) == "job 6 running on gr1"
