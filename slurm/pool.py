"""How many worker jobs a search needs, and which of them it does not: a pool that follows the work.

The pool asks Slurm once a poll. What Slurm does not tell changes nothing: a job is gone only when an answer
no longer has it. Pending jobs count as capacity. Workers are never requeued, but replaced.

    trials left -> wanted workers -> submit what is missing, cancel what is too much: pending first, then idle
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from slurm.cluster import PoolConfig
from slurm.errors import SlurmError
from slurm.queue import Job
from slurm.watch import REASONS
from tune.place import Demand

MAX_STILLBORN = 3  # workers in a row that end before they join: the next would too
MAX_REFUSED = 5  # submissions in a row, while no worker lives
COMPLETING = "COMPLETING"
NO_REASON = ("", "None")  # Slurm has not looked at the job yet
BLAMELESS = {  # what ends a worker through no fault of its trial's
    "CANCELLED": "was cancelled",
    "PREEMPTED": "was preempted",
    "TIMEOUT": "reached its time limit",
    "NODE_FAIL": "lost its node",
    "BOOT_FAIL": "lost its node",
    "COMPLETED": "ended",
    "REQUEUED": "was preempted",
}


class Slurm(Protocol):
    """What the pool asks of slurm.queue.Queue."""

    def jobs(self) -> dict[str, Job]:
        """The user's jobs, by number. Raises SlurmError if Slurm does not answer."""
        ...

    def fate(self, job_id: str) -> Job | None:
        """What became of a job that is in the queue no more; None if that is unknown."""
        ...

    def cancel(self, ids: Iterable[str]) -> None:
        """Ends jobs."""
        ...


@dataclass
class Worker:
    """A worker's job, as far as the pool knows it."""

    id: str
    running: bool = False
    joined: bool = False
    leaving: bool = False  # cancelled by this pool
    completing: bool = False  # ended, as far as work goes; Slurm tidies up
    idle_since: float | None = None


@dataclass
class Pool:
    """The worker jobs named `name`; `submit` makes one more and returns its number.

    `tell` is given a line for a person whenever a worker comes or goes.
    """

    name: str
    config: PoolConfig
    slurm: Slurm
    submit: Callable[[], str]
    tell: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    workers: dict[str, Worker] = field(default_factory=dict)
    _stillborn: int = 0
    _refused: int = 0
    _told: str = ""
    _waits: str = ""  # Slurm's word for why no worker runs yet

    def step(self, demand: Demand, joined: Iterable[str]) -> None:
        """One poll: learns what Slurm says, then submits or cancels. `joined`: jobs that are Ray nodes now.

        Raises SlurmError if there will be no workers: they end before they join, or none can be submitted.
        """
        if not self._learn():
            return
        self._note(demand, set(joined))
        wanted = min(self.config.workers, demand.trials)
        staying = [worker for worker in self.workers.values() if not (worker.leaving or worker.completing)]
        if len(staying) < wanted:
            self._grow(wanted - len(staying))
        elif len(staying) > wanted:
            self._shrink(staying, len(staying) - wanted)

    def _learn(self) -> bool:
        """Whether Slurm answered. New workers are those of an earlier driver; missing ones have ended."""
        try:
            jobs = self.slurm.jobs()
        except SlurmError as error:
            self._tell_once(f"Slurm does not answer; the workers stay as they are: {error}")
            return False
        self._told = ""
        mine = {job.id: job for job in jobs.values() if job.name == self.name and not job.finished}
        for worker in [worker for worker in self.workers.values() if worker.id not in mine]:
            self._ended(worker)
        for job in mine.values():
            worker = self.workers.setdefault(job.id, Worker(job.id))
            worker.running, worker.completing = job.running, job.state == COMPLETING
        self._tell_why_nothing_runs(mine.values())
        return True

    def _tell_why_nothing_runs(self, jobs: Collection[Job]) -> None:
        """What the search waits for, when that changes."""
        reasons = [job.reason for job in jobs if job.pending and job.reason not in NO_REASON]
        waits = reasons[0] if reasons and not any(job.running for job in jobs) else ""
        if waits and waits != self._waits:
            meaning = f": {REASONS[waits]}" if waits in REASONS else ""
            self.tell(f"waiting for Slurm to start {len(reasons)} of its jobs ({waits}{meaning})")
        self._waits = waits

    def _ended(self, worker: Worker) -> None:
        del self.workers[worker.id]
        job = self.slurm.fate(worker.id)
        self.tell(f"worker {worker.id} {_end_of(job) or 'failed'}")
        if worker.joined or worker.leaving or _end_of(job):
            return
        self._stillborn += 1
        if self._stillborn >= MAX_STILLBORN:
            raise SlurmError(
                f"{self._stillborn} worker jobs in a row failed before they could join, the last one "
                f"{worker.id} ({job.state if job else 'state unknown'}); what it printed is in the pool's "
                f"logs ({self.name}-{worker.id}.out). No trial was lost: mend that (python -m slurm.doctor "
                "--probe tries a job) and give the same command again"
            )

    def _note(self, demand: Demand, joined: set[str]) -> None:
        """Which workers have joined, and since when each has had nothing to do."""
        now = self.clock()
        for worker in self.workers.values():
            if worker.id in joined and not worker.joined:
                worker.joined, self._stillborn = True, 0
                self.tell(f"worker {worker.id} joined")
            busy = worker.id in demand.busy_jobs or not worker.joined
            if busy or worker.idle_since is None:
                worker.idle_since = None if busy else now

    def _grow(self, missing: int) -> None:
        for _ in range(missing):
            try:
                job = self.submit()
            except SlurmError as error:
                self._refuse(error)
                return
            self._refused = 0
            self.workers[job] = Worker(job)
            self.tell(f"worker {job} submitted")

    def _refuse(self, error: SlurmError) -> None:
        self._refused += 1
        self._tell_once(f"no worker could be submitted; it is tried again: {error}")
        if self._refused >= MAX_REFUSED and not self.workers:
            raise error

    def _shrink(self, staying: list[Worker], surplus: int) -> None:
        """Cancels pending workers, newest first, then those that have been idle for long."""
        pending = [worker for worker in reversed(staying) if not worker.running]
        now, idle_s = self.clock(), self.config.idle_s
        idle = [w for w in staying if w.idle_since is not None and now - w.idle_since >= idle_s]
        for worker in [*pending, *idle][:surplus]:
            why = "is not needed" if worker in pending else f"was idle for {idle_s:g} s and leaves"
            try:
                self.slurm.cancel([worker.id])
            except SlurmError as error:
                self._tell_once(f"worker {worker.id} could not be cancelled; it is tried again: {error}")
                return
            worker.leaving = True
            self.tell(f"worker {worker.id} {why}")

    def fate_of(self, job_id: str) -> str:
        """What ended a worker that was no fault of its trial's, for a person; else empty."""
        try:
            job = self.slurm.jobs().get(job_id)
        except SlurmError:
            return f"its Slurm job {job_id} is out of reach, and Slurm does not answer"
        if job is not None and not job.finished:
            return f"its Slurm job {job_id} is ending" if job.state == COMPLETING else ""
        end = _end_of(self.slurm.fate(job_id))
        return f"its Slurm job {job_id} {end}" if end else ""

    def end(self) -> None:
        """Cancels every worker; the search needs none any more."""
        mine = [job.id for job in self.slurm.jobs().values() if job.name == self.name and not job.finished]
        if mine:
            self.slurm.cancel(mine)

    def _tell_once(self, text: str) -> None:
        if text != self._told:
            self._told = text
            self.tell(text)


def _end_of(job: Job | None) -> str:
    """How a job ended, if that says nothing against its trial; empty otherwise."""
    return BLAMELESS.get(job.state, "") if job is not None else ""
