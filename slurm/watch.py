"""This project's jobs in Slurm's queue: what each does, why it waits, and how to stop it.

Ours are those whose name begins with the project's prefix; others are neither shown nor touched.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from slurm.errors import SlurmError
from slurm.launching import launches
from slurm.queue import ask
from slurm.submit import JOB_PREFIX

FORMAT = "%i|%T|%M|%l|%N|%r|%j"  # number, state, elapsed, limit, nodes, reason, name
PENDING = "PENDING"
KINDS = {
    "train": "trains",
    "search": "drives the search",
    "worker": "runs trials of",
    "final": "final run of",
}
ORDER = ("search", "worker", "train", "final")  # a driver that is still there would replace its workers
REASONS = {  # Slurm's word -> what it means to whoever waits
    "Priority": "others are before it",
    "Resources": "it is next; what it needs is in use",
    "BeginTime": "just put back into the queue; it starts in a minute or two",
    "Dependency": "waits for another job",
    "JobHeldUser": "held: scontrol release JOB",
    "JobHeldAdmin": "held by an administrator",
    "ReqNodeNotAvail": "its nodes are down or reserved",
    "PartitionTimeLimit": "asks for more time than the partition gives: lower `time` in the profile",
    "QOSMaxJobsPerUserLimit": "you run as many jobs as your qos allows",
    "AssocGrpGRES": "your account uses all the GPUs it may",
    "AssocGrpGRESMinutes": "your account has used up its GPU hours",
    "JobArrayTaskLimit": "as many tasks run as jobs.array_parallel allows",
    "launch failed requeued held": "its node failed to start it: scontrol release JOB",
}


@dataclass(frozen=True)
class Job:
    """A job, or one task of an array, as squeue tells it."""

    number: str
    state: str
    elapsed: str
    limit: str
    node: str
    reason: str
    name: str

    @property
    def kind(self) -> str:
        """train, search, worker or final."""
        return self._parts()[0]

    @property
    def what(self) -> str:
        """Which model or study; empty if several."""
        return self._parts()[1]

    def _parts(self) -> tuple[str, str]:
        kind, _, what = self.name.removeprefix(f"{JOB_PREFIX}-").partition("-")
        return kind, what

    def does(self) -> str:
        """What it is for."""
        return f"{KINDS.get(self.kind, self.kind)} {self.what or 'several models'}".strip()

    def waits(self) -> str:
        """Why it does not run yet; empty if it does."""
        if self.state != PENDING:
            return ""
        meaning = REASONS.get(self.reason.strip("()"))
        return f"{self.reason}: {meaning}" if meaning else self.reason


def own_jobs() -> list[Job]:
    """The user's jobs of this project, drivers first. Raises SlurmError if Slurm does not tell."""
    told = ask(["squeue", "--me", "-h", "-r", "-o", FORMAT]).splitlines()
    jobs = [job for job in map(_parse, told) if job is not None]
    return sorted(
        jobs, key=lambda job: (ORDER.index(job.kind) if job.kind in ORDER else len(ORDER), job.number)
    )


def _parse(line: str) -> Job | None:
    fields = line.split("|", FORMAT.count("|"))
    ours = len(fields) == FORMAT.count("|") + 1 and fields[-1].startswith(f"{JOB_PREFIX}-")
    return Job(*fields) if ours else None


def status(runs: Path, as_json: bool) -> str:
    """The table that `slurm.launch status` prints, or JSON."""
    jobs = own_jobs()
    folders = {job: str(folder) for launched, folder in launches(runs) for job in launched.jobs}
    if as_json:
        rows = [
            {
                **asdict(job),
                "does": job.does(),
                "waits": job.waits(),
                "folder": folders.get(_main(job.number)),
            }
            for job in jobs
        ]
        return json.dumps(rows, indent=1)
    if not jobs:
        return "no job of this project is queued or runs; launch one: python -m slurm.launch --help"
    return "\n".join(_line(job) for job in jobs)


def _main(number: str) -> str:
    """An array's number, of one of its tasks."""
    return number.partition("_")[0]


def _line(job: Job) -> str:
    where = f"{job.elapsed} of {job.limit} on {job.node}" if job.node else f"waits ({job.waits()})"
    return f"{job.number:>12}  {job.state.lower():<10}  {job.does():<28}  {where}".rstrip()


def chosen(jobs: list[Job], what: str) -> list[Job]:
    """The jobs that a number, a study, a model or `all` names."""
    if what == "all":
        return jobs
    return [job for job in jobs if what in (job.number, _main(job.number), job.what, job.name)]


def stop(runs: Path, what: str) -> str:
    """Cancels jobs of this project; what it did. Raises SlurmError for anything else."""
    jobs = own_jobs()
    picked = chosen(jobs, what)
    if not picked:
        there = ", ".join(sorted({job.number for job in jobs})) or "none"
        raise SlurmError(
            f"{what!r} names no queued or running job of this project (there: {there}); "
            "see python -m slurm.launch status"
        )
    ask(["scancel", *(job.number for job in picked)])
    lines = [f"cancelled {job.number}: {job.does()}" for job in picked]
    return "\n".join([*lines, "a running job saves before it ends; launching it again resumes"])
