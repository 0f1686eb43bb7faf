"""The test cluster itself: jobs run, faults happen, and nothing is left of it."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster import SlurmCluster, processes

pytestmark = pytest.mark.cluster
STAYS = "sleep 300 & (setsid nohup sleep 300 &) ; srun sleep 300"


def environment(pid: int) -> dict[str, str]:
    found = processes.read_stat(pid)
    return processes.environment(found.process) if found else {}


def test_a_job_gets_its_gpu_and_is_accounted(on_slurm: SlurmCluster) -> None:
    job = on_slurm.submit("echo gpu=$CUDA_VISIBLE_DEVICES; srun printenv SLURMD_NODENAME")
    on_slurm.wait_for_state(job, "COMPLETED")
    assert (on_slurm.root / "log" / f"job-{job}").read_text() == "gpu=0\ngr1\n"

    def accounted() -> bool:
        return on_slurm.run("sacct", "-nXPj", job, "-o", "state,account") == "COMPLETED|research"

    on_slurm.wait_until(accounted, 30, "accounting knows the job")


def test_a_preempted_job_is_requeued_and_runs_again(on_slurm: SlurmCluster) -> None:
    job = on_slurm.submit(STAYS, "--nodelist=gr2")
    on_slurm.wait_for_state(job, "RUNNING")
    preemptor = on_slurm.preempt("gr2", seconds=1)
    on_slurm.wait_for_state(preemptor, "COMPLETED")
    on_slurm.wait_for_state(job, "RUNNING")
    assert "Restarts=1" in on_slurm.run("scontrol", "show", "job", job)


def test_a_lost_node_takes_its_processes_along_and_returns(on_slurm_without_accounting: SlurmCluster) -> None:
    cluster = on_slurm_without_accounting
    lost, stays = [cluster.submit(STAYS, f"--nodelist={node}", "--no-requeue") for node in ("gr3", "gr1")]
    cluster.wait_for_state(lost, "RUNNING")
    cluster.wait_for_state(stays, "RUNNING")
    cluster.lose_node("gr3")
    assert not [
        pid for pid in processes.traces(cluster.root) if environment(pid).get("SLURMD_NODENAME") == "gr3"
    ]
    assert [pid for pid in processes.traces(cluster.root) if environment(pid).get("SLURMD_NODENAME") == "gr1"]
    assert cluster.state(lost) == "RUNNING"  # the controller has not noticed yet
    cluster.declare_lost("gr3")
    cluster.return_node("gr3")
    cluster.wait_for_state(lost, "NODE_FAIL")
    cluster.wait_for_node("gr3", "idle")
    assert cluster.state(stays) == "RUNNING"


def test_squeue_breaks_and_the_controller_restarts(on_slurm_without_accounting: SlurmCluster) -> None:
    cluster = on_slurm_without_accounting
    job = cluster.submit("sleep 300")
    cluster.wait_for_state(job, "RUNNING")
    cluster.break_squeue()
    with pytest.raises(RuntimeError, match="Unable to contact slurm controller"):
        cluster.run("squeue")
    cluster.mend_squeue()
    cluster.restart_controller()
    assert cluster.state(job) == "RUNNING"


def test_nothing_is_left_of_a_cluster_that_ends_with_jobs_running() -> None:
    with SlurmCluster(accounting=False) as cluster:
        jobs = [cluster.submit(STAYS) for _ in cluster.nodes]
        for job in jobs:
            cluster.wait_for_state(job, "RUNNING")
        assert len(processes.traces(cluster.root)) > 3 * len(jobs)
    assert processes.traces(cluster.root) == []
    assert not cluster.root.exists()


@pytest.fixture
def by_hand() -> Iterator[Callable[..., str]]:
    """Calls `python -m tests.cluster` where no other cluster is seen."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)  # or munged would not put its socket below it

        def call(*arguments: str) -> str:
            command = [sys.executable, *arguments]
            env = os.environ | {"TMPDIR": directory}
            return subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout

        yield call


def test_up_and_down_by_hand(by_hand: Callable[..., str]) -> None:
    exports = by_hand("-m", "tests.cluster", "up", "--no-accounting")
    try:
        again = by_hand("-m", "tests.cluster", "up")
        assert again == f"# was up already, without accounting\n{exports}"
        command = ["sh", "-c", f"{exports}\nsinfo -h -o %D"]
        nodes = subprocess.run(command, capture_output=True, text=True, check=True)
    finally:
        by_hand("-m", "tests.cluster", "down")
    assert nodes.stdout.strip() == "3"
    root = Path(exports.partition("SLURM_CONF='")[2].partition("'")[0]).parent
    assert processes.traces(root) == []
    assert not root.exists()


def test_down_ends_what_killed_tests_left(by_hand: Callable[..., str]) -> None:
    killed = "from tests.cluster import SlurmCluster; c = SlurmCluster(False); c.start(); print(c.root)"
    root = Path(by_hand("-c", killed).strip())
    assert processes.traces(root)
    assert by_hand("-m", "tests.cluster", "down") == f"ended the cluster in {root}\n"
    assert processes.traces(root) == []
    assert not root.exists()
