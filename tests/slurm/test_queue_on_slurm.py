"""What the queue says of jobs on a real Slurm that end in every way."""

import sys
import time
from pathlib import Path

import pytest

from pipeline.paths import repository
from slurm.errors import SlurmError
from slurm.queue import Job, Queue, reason_of
from tests.cluster import SlurmCluster

pytestmark = pytest.mark.cluster
STAYS = "sleep 300"
TASK = """
import os, signal, sys, time
from pathlib import Path

task = os.environ["SLURM_ARRAY_TASK_ID"]
with open(f"starts-{task}", "a") as starts:
    starts.write("x")
again = Path("starts-2")
if task == "1":
    while not again.exists() or again.read_text() == "x":
        time.sleep(0.2)
if task == "2" and again.read_text() == "x":
    while not (Path("ended-0").exists() and Path("starts-1").exists()):
        time.sleep(0.2)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(130))
    os.kill(os.getppid(), signal.SIGUSR1)  # to slurm.job: the time limit is near
    time.sleep(60)
Path(f"ended-{task}").touch()
"""


def wait_for(cluster: SlurmCluster, job: str, *states: str, seconds: float = 60) -> Job:
    queue = Queue()
    cluster.wait_until(lambda: queue.jobs()[job].state in states, seconds, f"job {job} is {states}")
    return queue.jobs()[job]


def test_jobs_end_in_every_way_and_the_queue_tells_how(on_slurm: SlurmCluster) -> None:
    queue = Queue()
    once = "--no-requeue"
    timed = on_slurm.submit(STAYS, "--time=1", "--nodelist=gr1", "--gres=none")
    lost = on_slurm.submit(STAYS, once, "--nodelist=gr3")
    preempted = on_slurm.submit(STAYS, once, "--nodelist=gr2", "--job-name=a|b c")
    cancelled = on_slurm.submit(STAYS, once, "--nodelist=gr1")
    for job in (timed, lost, preempted, cancelled):
        wait_for(on_slurm, job, "RUNNING")
    running = queue.jobs()[preempted]
    assert (running.name, running.node, running.running) == ("a|b c", "gr2", True)
    assert running.started is not None
    assert abs(running.started - time.time()) < 60
    assert running.ends == running.started + 24 * 3600

    on_slurm.lose_node("gr3")
    on_slurm.preempt("gr2", seconds=1)
    queue.cancel([cancelled])
    failed = on_slurm.submit("exit 3", "--nodelist=gr1")
    completed = on_slurm.submit("true", "--nodelist=gr1")
    expected = {
        cancelled: ("CANCELLED", "STOPPED_BY_USER"),
        failed: ("FAILED", "USER_ERROR"),
        completed: ("COMPLETED", ""),
        preempted: ("PREEMPTED", "PREEMPTED"),
        lost: ("NODE_FAIL", "NODE_FAIL"),
        timed: ("TIMEOUT", "TIMEOUT"),
    }
    for job, (state, reason) in expected.items():
        ended = wait_for(on_slurm, job, state, seconds=120)
        assert ended.finished
        assert reason_of(ended) == reason
        assert told_fate(queue, job) == (state, ended.node, ended.name)
    queue.cancel(expected)  # they are over: no error
    assert queue.fate("999999") is None

    on_slurm.break_command("scontrol", "slurm_load_jobs error: Invalid job id specified")  # it has forgotten
    for job, (state, _) in expected.items():
        on_slurm.wait_until(lambda job=job: queue.fate(job), 30, f"accounting knows job {job}")
        assert told_fate(queue, job) == (state, queue.jobs()[job].node, queue.jobs()[job].name)


def told_fate(queue: Queue, job: str) -> tuple[str, str, str]:
    told = queue.fate(job)
    assert told is not None
    return told.state, told.node, told.name


def test_a_task_of_an_array_requeues_itself_and_disturbs_no_other(
    on_slurm: SlurmCluster, tmp_path: Path
) -> None:
    """One has ended and one runs; the last one has the array's own number."""
    (tmp_path / "work.py").write_text(TASK)
    path = f"PYTHONPATH={tmp_path}:{repository()}"
    run = f"cd {tmp_path} && {path} exec {sys.executable} -P -m slurm.job --signal-s 20 -- work"
    job = on_slurm.submit(run, "--array=0-2")
    ends = [tmp_path / f"ended-{task}" for task in range(3)]
    on_slurm.wait_until(lambda: all(path.exists() for path in ends), 60, "every task has ended")
    starts = [(tmp_path / f"starts-{task}").read_text() for task in range(3)]
    assert starts == ["x", "x", "xx"], job


def test_requeued_by_preemption_and_by_hand(on_slurm_without_accounting: SlurmCluster) -> None:
    cluster, queue = on_slurm_without_accounting, Queue()
    job = cluster.submit(STAYS, "--nodelist=gr2")
    wait_for(cluster, job, "RUNNING")
    queue.requeue(job)
    wait_for(cluster, job, "PENDING")
    wait_for(cluster, job, "RUNNING")
    cluster.preempt("gr2", seconds=1)
    waiting = wait_for(cluster, job, "PENDING")
    assert waiting.pending
    assert waiting.node == ""
    wait_for(cluster, job, "RUNNING")


def test_without_accounting_the_controller_is_all_there_is(
    on_slurm_without_accounting: SlurmCluster,
) -> None:
    cluster, queue = on_slurm_without_accounting, Queue()
    job = cluster.submit("exit 3")
    wait_for(cluster, job, "FAILED")
    told = queue.fate(job)
    assert told is not None
    assert told.state == "FAILED"
    assert queue.fate("999999") is None


def test_arrays_are_told_task_by_task(on_slurm_without_accounting: SlurmCluster) -> None:
    cluster, queue = on_slurm_without_accounting, Queue()
    array = cluster.submit(STAYS, "--array=1-4%1")
    wait_for(cluster, f"{array}_1", "RUNNING")
    assert {f"{array}_{task}" for task in range(1, 5)} <= set(queue.jobs())
    told = queue.fate(f"{array}_1")
    assert told is not None
    assert told.running
    queue.cancel([f"{array}_1"])
    assert wait_for(cluster, f"{array}_1", "CANCELLED").finished
    assert wait_for(cluster, f"{array}_2", "RUNNING").running


def test_a_signal_reaches_the_script_and_what_it_started(on_slurm_without_accounting: SlurmCluster) -> None:
    cluster, queue = on_slurm_without_accounting, Queue()
    job = cluster.submit(
        "trap 'echo script' USR1; python3 -c 'import time; time.sleep(300)' & wait; wait; echo on"
    )
    wait_for(cluster, job, "RUNNING")
    time.sleep(1)  # until the trap is set
    queue.cancel([job], signal="USR1")
    wait_for(cluster, job, "COMPLETED")
    assert (cluster.root / "log" / f"job-{job}").read_text().splitlines()[0] == "script"


def test_nothing_is_known_while_squeue_fails_or_the_controller_is_away(
    on_slurm_without_accounting: SlurmCluster,
) -> None:
    cluster, queue = on_slurm_without_accounting, Queue()
    job = cluster.submit(STAYS)
    wait_for(cluster, job, "RUNNING")
    cluster.break_squeue()
    with pytest.raises(SlurmError, match="Unable to contact slurm controller"):
        queue.jobs()
    cluster.mend_squeue()
    assert queue.jobs()[job].running
    cluster.stop_controller()
    with pytest.raises(SlurmError, match="squeue"):
        Queue(timeout_s=2).jobs()
    assert Queue(timeout_s=2).fate(job) is None
    cluster.start_controller()
    assert queue.jobs()[job].running
