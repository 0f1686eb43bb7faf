"""What Slurm says of the user's jobs, and what it is asked to do with them.

A question that Slurm does not answer is a SlurmError or None: not known. It never means that a job is dead.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from slurm import commands
from slurm.errors import SlurmError

ASK_AGAIN = "nothing is known of the jobs now, try again later"
SUBMIT_AGAIN = "submit the same command again, it goes on where it was"
JOBS_A_COMMAND = 500  # a command line has a limit
PENDING = {"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
REASONS = {  # a terminal state -> the leaderboard's reason
    "COMPLETED": "",
    "REVOKED": "",
    "PREEMPTED": "PREEMPTED",
    "NODE_FAIL": "NODE_FAIL",
    "BOOT_FAIL": "NODE_FAIL",
    "TIMEOUT": "TIMEOUT",
    "DEADLINE": "TIMEOUT",
    "OUT_OF_MEMORY": "HOST_OOM",
    "CANCELLED": "STOPPED_BY_USER",
    "FAILED": "USER_ERROR",
}
COMPLETING = "COMPLETING"  # has ended, and Slurm tidies up after it
NO_NODE = {"", "(null)", "None assigned"}
# The name, which may hold anything, comes last. Arrays are shown task by task, as `number_task`.
SQUEUE = ["squeue", "--me", "--noheader", "--array", "--states=all", "--format=%i|%T|%r|%N|%S|%e|%j"]
SACCT = ["sacct", "--noheader", "--allocations", "--parsable2"]
SACCT_FORMAT = "--format=JobID,State,Reason,NodeList,Start,End,JobName"
ROW = re.compile(r"(\d+(?:_\d+)?)\|([A-Z_]+)[^|]*\|([^|]*)\|([^|]*)\|([^|]*)\|([^|]*)\|(.*)")
RECORD = re.compile(
    r"JobId=(?P<number>\d+) (ArrayJobId=(?P<array>\d+) ArrayTaskId=(?P<task>\d+) )?.*?"
    r"JobName=(?P<name>.*?) UserId=.*? JobState=(?P<state>\S+) Reason=(?P<reason>\S*) .*?"
    r" StartTime=(?P<start>\S+) EndTime=(?P<end>\S+) .*? NodeList=(?P<node>\S*) "
)
GONE = "Invalid job id"
OVER = "already completing or completed"


@dataclass(frozen=True)
class Job:
    """A job, or one task of an array. Times are in seconds since 1970 (UTC); None if not known."""

    id: str
    name: str
    state: str
    reason: str  # why it waits or how it ended, in Slurm's word
    node: str  # empty while it has none
    started: float | None  # of a waiting job: when Slurm expects it to
    ends: float | None  # of a running job: its time limit

    @property
    def pending(self) -> bool:
        """Waits for its start, the first or another."""
        return self.state in PENDING

    @property
    def finished(self) -> bool:
        """Will not run again."""
        return self.state in REASONS

    @property
    def running(self) -> bool:
        """Has a node, perhaps not yet or no longer doing its work. A state that we do not know counts too."""
        return not self.pending and not self.finished


def reason_of(job: Job) -> str:
    """The leaderboard's reason for how a job ended; empty if it has not, or has completed."""
    return REASONS.get(job.state, "")


class Queue:
    """Slurm's queue, asked through its commands."""

    def __init__(self, timeout_s: float = commands.ASK_S) -> None:
        self._timeout_s = timeout_s

    def jobs(self) -> dict[str, Job]:
        """All jobs of this user that the controller knows: those that ended minutes ago, too.

        One squeue for everything. Raises SlurmError if it fails: then nothing is known, so change nothing.
        """
        output = ask(SQUEUE, self._timeout_s)
        jobs = {job.id: job for job in _rows(output)}
        if output.strip() and not jobs:
            raise SlurmError(
                f"squeue says what is not understood: {output.strip()[:200]!r}; see `squeue --me`"
            )
        return jobs

    def fate(self, job_id: str) -> Job | None:
        """What became of a job that `jobs` no longer has, or that completes; None if nobody can tell (yet).

        While Slurm tidies up after a job, only accounting knows how it ended.
        """
        known = self._remembered(job_id)
        if known is not None and known.state != COMPLETING:
            return known
        try:
            return self._accounted(job_id) or known
        except SlurmError:
            return known

    def cancel(self, ids: Iterable[str], signal: str | None = None) -> None:
        """Ends jobs, or sends them a signal: to the script, its steps and their children.

        Those that are over are no error. Raises SlurmError if Slurm cannot be asked.
        """
        options = [f"--signal={signal}", "--full"] if signal else []
        wanted = list(ids)
        for first in range(0, len(wanted), JOBS_A_COMMAND):
            _unless_over(["scancel", *options, *wanted[first : first + JOBS_A_COMMAND]], self._timeout_s)

    def requeue(self, job_id: str) -> None:
        """Puts a job back into the queue. Raises SlurmError if Slurm does not.

        A task of an array is 123_4: its own number may be the array's, which means all tasks.
        """
        ask(["scontrol", "requeue", job_id], self._timeout_s, SUBMIT_AGAIN)

    def _remembered(self, job_id: str) -> Job | None:
        """As the controller has it; None if it has forgotten it, or cannot be asked."""
        try:
            output = ask(["scontrol", "--oneliner", "show", "job", job_id], self._timeout_s)
        except SlurmError:
            return None
        return next((job for job in _records(output) if job.id == job_id), None)

    def _accounted(self, job_id: str) -> Job | None:
        """How it ended for accounting, whose word that a job still runs may be an old one."""
        rows = _rows(ask([*SACCT, SACCT_FORMAT, f"--jobs={job_id}"], self._timeout_s))
        ended = [job for job in rows if job.id == job_id and job.finished]
        return ended[-1] if ended else None


def ask(command: list[str], timeout_s: float = commands.ASK_S, remedy: str = ASK_AGAIN) -> str:
    """What one of Slurm's commands prints, times in seconds since 1970. Raises SlurmError if it fails."""
    answer = commands.ask(*command, timeout_s=timeout_s, env=_env())
    if not answer.failed:
        return answer.output
    if answer.ended:
        raise SlurmError(f"{command[0]}: {answer.failed}; {remedy}")
    if shutil.which(command[0]) is None:
        remedy = "run this on a node of the cluster (in a container: bind Slurm's commands into it)"
    raise SlurmError(f"{answer.failed}; {remedy}")


def _env() -> dict[str, str]:
    """Without the user's own filters and formats (SQUEUE_PARTITION, SACCT_FORMAT, ...)."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SQUEUE_", "SACCT_"))}
    return kept | {"SLURM_TIME_FORMAT": "%s"}


def _unless_over(command: list[str], timeout_s: float) -> None:
    try:
        ask(command, timeout_s)
    except SlurmError as error:
        if GONE not in str(error) and OVER not in str(error):
            raise


def _rows(output: str) -> Iterator[Job]:
    """Jobs as squeue and sacct list them; the rest of a name with line breaks is passed over."""
    for row in filter(None, map(ROW.fullmatch, output.splitlines())):
        number, state, reason, node, start, end, name = row.groups()
        yield Job(number, name, state, reason, _node(node), _time(start), _time(end))


def _records(output: str) -> Iterator[Job]:
    """Jobs as scontrol shows them, one a line."""
    for record in filter(None, map(RECORD.match, output.splitlines())):
        number = f"{record['array']}_{record['task']}" if record["task"] else record["number"]
        times = _time(record["start"]), _time(record["end"])
        yield Job(number, record["name"], record["state"], record["reason"], _node(record["node"]), *times)


def _node(text: str) -> str:
    return "" if text in NO_NODE else text


def _time(text: str) -> float | None:
    return float(text) if text.isdecimal() else None
