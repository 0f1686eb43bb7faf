"""What is made of what Slurm's commands say; here they are scripts that say what a real Slurm was seen to."""

import os
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm.errors import SlurmError
from slurm.queue import Job, Queue, reason_of

SQUEUE = """\
1_2|RUNNING|None|gr2|1795671412|1795757812|fingertip-train
1_185|PENDING|JobArrayTaskLimit||N/A|N/A|fingertip-train
4|PENDING|BeginTime||1795675012|1795761412|a|b c
and a second line
2|CANCELLED|None|gr3|1795671412|1795671417|wrap
5|CANCELLED|DependencyNeverSatisfied||N/A|1795671417|wrap
"""
SCONTROL = (
    "JobId=7 ArrayJobId=1 ArrayTaskId=2 ArrayTaskThrottle=2 JobName=a JobState=b UserId=root(0) "
    "GroupId=root(0) Priority=4294901758 JobState=NODE_FAIL Reason=NodeDown Dependency=(null) Requeue=0 "
    "Restarts=0 StartTime=1795671412 EndTime=1795671417 Deadline=N/A ReqNodeList=(null) ExcNodeList=(null) "
    "NodeList=gr3 BatchHost=gr3 Command=(null)\n"
)
SACCT = """\
2|CANCELLED by 0|None|gr3|1795671412|1795671417|wrap
3|RUNNING|None|gr1|1795671412|Unknown|wrap
"""
GONE = "slurm_load_jobs error: Invalid job id specified"
DOWN = "Unable to contact slurm controller (connect failure)"

Command = Callable[..., Path]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Makes a command of Slurm; what it is called with is added to the file that is returned."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin:/bin")

    def make(name: str, says: str = "", error: str = "", status: int = 0, seconds: float = 0) -> Path:
        calls = tmp_path / f"{name}.calls"
        calls.touch()
        lines = [
            "#!/bin/sh",
            f'echo "$@" >> {shlex.quote(str(calls))}',
            f'echo "$SLURM_TIME_FORMAT $SQUEUE_PARTITION" > {shlex.quote(str(tmp_path / name))}.env',
            f"exec sleep {seconds}" if seconds else "",
            f"printf %s {shlex.quote(says)}",
            f"echo {shlex.quote(error)} >&2" if error else "",
            f"exit {status}",
        ]
        script = tmp_path / name
        script.write_text("\n".join(lines) + "\n")
        script.chmod(0o755)
        return calls

    return make


def test_every_job_is_told_with_its_times(command: Command) -> None:
    command("squeue", SQUEUE)
    jobs = Queue().jobs()
    assert list(jobs) == ["1_2", "1_185", "4", "2", "5"]
    assert jobs["1_2"] == Job("1_2", "fingertip-train", "RUNNING", "None", "gr2", 1795671412, 1795757812)
    assert jobs["1_185"] == Job("1_185", "fingertip-train", "PENDING", "JobArrayTaskLimit", "", None, None)
    assert jobs["4"].name == "a|b c"
    assert [(job.pending, job.running, job.finished) for job in jobs.values()] == [
        (False, True, False),
        (True, False, False),
        (True, False, False),
        (False, False, True),
        (False, False, True),
    ]


def test_one_squeue_answers_for_everything_and_no_filter_of_the_user_counts(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = command("squeue", SQUEUE)
    monkeypatch.setenv("SQUEUE_PARTITION", "gpu")
    Queue().jobs()
    assert len(calls.read_text().splitlines()) == 1
    assert (tmp_path / "squeue.env").read_text() == "%s \n"


def test_an_empty_queue_is_an_answer(command: Command) -> None:
    command("squeue")
    assert Queue().jobs() == {}


def test_no_answer_is_an_error_and_not_an_empty_queue(command: Command) -> None:
    command("squeue", error=DOWN, status=1)
    with pytest.raises(
        SlurmError, match="squeue: Unable to contact .* nothing is known of the jobs now, try"
    ):
        Queue().jobs()
    command("squeue", says="Welcome to the cluster\n")
    with pytest.raises(SlurmError, match="squeue says what is not understood: 'Welcome"):
        Queue().jobs()
    command("squeue", seconds=30)
    with pytest.raises(SlurmError, match=r"squeue did not answer within 0.2 s"):
        Queue(timeout_s=0.2).jobs()


def test_no_squeue_at_all(command: Command) -> None:
    if Path("/usr/bin/squeue").exists():
        pytest.skip("Slurm is installed here")
    with pytest.raises(SlurmError, match="there is no squeue on PATH; run this on a node of the cluster"):
        Queue().jobs()


def test_the_controller_remembers_a_job(command: Command) -> None:
    command("scontrol", SCONTROL)
    fate = Queue().fate("1_2")
    assert fate == Job("1_2", "a JobState=b", "NODE_FAIL", "NodeDown", "gr3", 1795671412, 1795671417)


def test_accounting_is_asked_when_the_controller_forgot(command: Command) -> None:
    command("scontrol", error=GONE, status=1)
    command("sacct", SACCT)
    fate = Queue().fate("2")
    assert fate == Job("2", "wrap", "CANCELLED", "None", "gr3", 1795671412, 1795671417)


def test_how_a_completing_job_ended_is_known_to_accounting_only(command: Command) -> None:
    command("scontrol", SCONTROL.replace("JobState=NODE_FAIL", "JobState=COMPLETING"))
    command("sacct", "1_2|PREEMPTED|None|gr3|1795671412|1795671417|wrap\n")
    fate = Queue().fate("1_2")
    assert fate is not None
    assert fate.state == "PREEMPTED"
    command("sacct", error="Slurm accounting storage is disabled", status=1)
    fate = Queue().fate("1_2")
    assert fate is not None
    assert fate.state == "COMPLETING"


def test_what_nobody_knows_is_unknown(command: Command) -> None:
    command("scontrol", error=GONE, status=1)
    command("sacct", error="Slurm accounting storage is disabled", status=1)
    assert Queue().fate("2") is None
    command("sacct", SACCT)
    assert Queue().fate("999") is None
    assert Queue().fate("3") is None  # it ran when accounting last heard of it


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("PREEMPTED", "PREEMPTED"),
        ("NODE_FAIL", "NODE_FAIL"),
        ("BOOT_FAIL", "NODE_FAIL"),
        ("TIMEOUT", "TIMEOUT"),
        ("OUT_OF_MEMORY", "HOST_OOM"),
        ("CANCELLED", "STOPPED_BY_USER"),
        ("FAILED", "USER_ERROR"),
        ("COMPLETED", ""),
        ("RUNNING", ""),
        ("A_STATE_OF_TOMORROW", ""),
    ],
)
def test_states_become_reasons(state: str, reason: str) -> None:
    assert reason_of(Job("1", "", state, "", "", None, None)) == reason


def test_a_state_that_is_not_known_is_not_dead() -> None:
    job = Job("1", "", "A_STATE_OF_TOMORROW", "", "", None, None)
    assert job.running
    assert not job.finished


def test_cancelling_takes_as_many_commands_as_the_line_allows(command: Command) -> None:
    calls = command("scancel")
    Queue().cancel([])
    Queue().cancel(map(str, range(1, 1201)))
    assert [len(line.split()) for line in calls.read_text().splitlines()] == [500, 500, 200]


def test_signals_reach_the_whole_job_and_its_end_is_no_error(command: Command) -> None:
    calls = command("scancel", error="scancel: error: Job/step already completing or completed", status=1)
    Queue().cancel(["7"], signal="TERM")
    assert calls.read_text() == "--signal=TERM --full 7\n"
    command("scancel", error=DOWN, status=8)
    with pytest.raises(SlurmError, match="scancel: Unable to contact"):
        Queue().cancel(["7"])


def test_requeueing_may_be_refused(command: Command) -> None:
    calls = command("scontrol", error="Requested operation is presently disabled for job 7", status=1)
    with pytest.raises(SlurmError, match=r"presently disabled for job 7; submit the same command again"):
        Queue().requeue("7")
    assert calls.read_text() == "requeue 7\n"
