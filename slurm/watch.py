"""This project's jobs in Slurm's queue: what each does, why it waits, and how to stop it.

Ours are those whose name begins with the project's prefix; others are neither shown nor touched.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from textwrap import fill

from pipeline.paths import Workspace
from slurm.errors import SlurmError
from slurm.launching import Launched, launches, task_of
from slurm.queue import Job, Queue
from slurm.submit import kind_and_what, workers_name

DRIVER, WORKER = "search", "worker"  # the kind of job that submits others, and those
DRIVER_ENDS_S, POLL_S = 60.0, 0.5
KINDS = {
    "train": "trains",
    "search": "drives the search",
    "worker": "runs trials of",
    "final": "final run of",
}
UNNAMED = {  # what a job is for whose name does not tell which model or study
    "train": "trains several models",
    "search": "drives a search",
    "worker": "runs trials",
    "final": "final run",
    "probe": "looks at a node for slurm.doctor",
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


UNTOLD = ("", "None")  # the reason of a job that was just submitted


def why(reason: str) -> str:
    """Slurm's word for why a job waits, and what it means."""
    if reason in UNTOLD:
        return "Slurm has not looked at it yet"
    meaning = REASONS.get(reason.strip("()"))
    return f"{reason}: {meaning}" if meaning else reason


@dataclass(frozen=True)
class Ours:
    """One of this project's jobs, or one task of an array.

    folder: that of its launch, if known. here: whether it belongs to the runs that were asked about.
    """

    job: Job
    kind: str
    what: str
    folder: Path | None
    here: bool

    def does(self) -> str:
        """What it is for."""
        if not self.what:
            return UNNAMED.get(self.kind, self.kind)
        return f"{KINDS.get(self.kind, self.kind)} {self.what}"

    def waits(self) -> str:
        """Why it does not run yet; empty if it does."""
        return why(self.job.reason) if self.job.pending else ""

    def row(self) -> dict[str, object]:
        """For programs."""
        told = {"kind": self.kind, "what": self.what, "does": self.does(), "waits": self.waits()}
        return {**asdict(self.job), **told, "folder": str(self.folder) if self.folder else None}

    def line(self, width: int) -> str:
        """For a person."""
        where = _where(self.job) if self.job.running else f"waits ({self.waits()})"
        text = f"{self.job.id:>12}  {self.job.state.lower():<10}  {self.does():<28}  {where}".rstrip()
        return fill(text, width, subsequent_indent=" " * 16, break_on_hyphens=False)


def _where(job: Job) -> str:
    if job.started is None or job.ends is None:
        return f"on {job.node}"
    limit = timedelta(seconds=round(job.ends - job.started))
    return f"{timedelta(seconds=round(time.time() - job.started))} of {limit} on {job.node}"


def own_jobs(runs: Path) -> list[Ours]:
    """The user's queued and running jobs of this project, drivers first.

    Raises SlurmError if Slurm does not tell.
    """
    known = {number: (launched, folder) for launched, folder in launches(runs) for number in launched.jobs}
    found = (_ours(job, known, Workspace(runs)) for job in Queue().jobs().values() if not job.finished)
    return sorted((job for job in found if job is not None), key=_order)


def _order(ours: Ours) -> tuple[int, list[int]]:
    place = ORDER.index(ours.kind) if ours.kind in ORDER else len(ORDER)
    return place, [int(part) for part in ours.job.id.split("_")]


def _ours(job: Job, known: dict[str, tuple[Launched, Path]], workspace: Workspace) -> Ours | None:
    kind, what = kind_and_what(job.name)
    if not kind:
        return None
    launched, folder = known.get(main_number(job.id), (None, None))
    task = task_of(job.id, launched, folder) if launched and folder else None
    works_here = kind == WORKER and job.name == workers_name(what, workspace.pool(what))
    only = launched.what[0] if launched and len(launched.what) == 1 else ""
    return Ours(job, kind, task or what or only, folder, works_here or launched is not None)


def main_number(number: str) -> str:
    """An array's number, of one of its tasks."""
    return number.partition("_")[0]


def status(runs: Path, as_json: bool) -> str:
    """The table that `slurm.launch status` prints, or JSON."""
    jobs = own_jobs(runs)
    if as_json:
        return json.dumps([ours.row() for ours in jobs], indent=1)
    if not jobs:
        return "no job of this project is queued or runs; launch one: python -m slurm.launch --help"
    width = shutil.get_terminal_size().columns  # 80 where there is no terminal
    return "\n".join(ours.line(width) for ours in jobs)


def chosen(jobs: Iterable[Ours], names: Iterable[str]) -> list[Ours]:
    """The jobs that numbers, studies, models or `all` name."""
    wanted = set(names)
    return [ours for ours in jobs if "all" in wanted or wanted & _names(ours)]


def _names(ours: Ours) -> set[str]:
    """What a job is called: its number, an array's, its name, its study or model."""
    _, named = kind_and_what(ours.job.name)
    return {*_numbers(ours), ours.job.name, named, *ours.what.split(", ")[:1]}


def _numbers(ours: Ours) -> set[str]:
    """Its own, and that of its array."""
    return {ours.job.id, main_number(ours.job.id)}


def stop(runs: Path, names: Sequence[str]) -> str:
    """Cancels jobs of this project, those of other folders than `runs` by number only; what it did.

    Raises SlurmError for anything else.
    """
    jobs = own_jobs(runs)
    for name in names:
        _refuse_unknown(runs, jobs, name)
    picked = _to_stop(jobs, names)
    Queue().cancel(ours.job.id for ours in picked)
    picked += _cancel_what_drivers_submitted(runs, picked)
    lines = [f"cancelled {ours.job.id}: {ours.does()}" for ours in picked]
    lines += [_of_unknown_study(ours) for ours in picked if ours.kind == DRIVER and not ours.here]
    return "\n".join([*lines, "a running job saves before it ends; launching it again resumes"])


def _to_stop(jobs: Iterable[Ours], names: Iterable[str]) -> list[Ours]:
    """The jobs that names choose here, and numbers anywhere."""
    wanted = set(names)
    return [ours for ours in chosen(jobs, wanted) if ours.here or wanted & _numbers(ours)]


def _refuse_unknown(runs: Path, jobs: Sequence[Ours], name: str) -> None:
    """Raises SlurmError for a name that stops nothing."""
    if _to_stop(jobs, [name]):
        return
    elsewhere = ", ".join(ours.job.id for ours in chosen(jobs, [name]))
    if elsewhere:
        raise SlurmError(
            f"{name!r} names no job that was launched into {runs}, only others ({elsewhere}): give the "
            "--runs that they were launched into, or their numbers"
        )
    there = ", ".join(ours.job.id for ours in jobs) or "none"
    raise SlurmError(
        f"{name!r} names no queued or running job of this project (there: {there}); "
        "see python -m slurm.launch status"
    )


def _of_unknown_study(driver: Ours) -> str:
    """What becomes of the workers of a driver of another folder, or that has not told its study yet."""
    return (
        f"which study {driver.job.id} drives is not known here: its workers, if it has any, leave by "
        "themselves after the profile's pool.rejoin_s; to stop them now: "
        "python -m slurm.launch stop STUDY --runs ITS-RUNS"
    )


def _cancel_what_drivers_submitted(runs: Path, cancelled: Sequence[Ours]) -> list[Ours]:
    """Waits until cancelled drivers have ended; cancels the workers that their studies still have: those."""
    drivers = {ours.job.id for ours in cancelled if ours.kind == DRIVER}
    deadline = time.monotonic() + DRIVER_ENDS_S
    while drivers & {ours.job.id for ours in own_jobs(runs)} and time.monotonic() < deadline:
        time.sleep(POLL_S)
    known = {ours.job.id for ours in cancelled}
    studies = {ours.what for ours in cancelled if ours.kind == DRIVER and ours.here}
    late = [
        ours
        for ours in own_jobs(runs)
        if ours.kind == WORKER and ours.here and ours.what in studies and ours.job.id not in known
    ]
    Queue().cancel(ours.job.id for ours in late)
    return late
