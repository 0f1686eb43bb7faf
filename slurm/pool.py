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
from slurm.fates import Asked, end_of
from slurm.queue import COMPLETING, Job
from slurm.watch import UNTOLD, why
from tune.place import Demand

MAX_STILLBORN = 3  # workers in a row that end before they join: the next would too
REST_S = 600.0  # after those, where others work: one bad node must not end a search
ABSENT_S = 120.0  # beyond rejoin_s, how long a running worker may be no node of this Ray
MAX_REFUSED = 5  # submissions in a row, while no worker lives


class Slurm(Asked, Protocol):
    """What the pool asks of slurm.queue.Queue, and has it do."""

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
    absent_since: float | None = None  # running, but no node of this Ray


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
    _rests_until: float = 0.0
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
        self._cancel_absent()
        wanted = min(self.config.workers, demand.trials)
        staying = [worker for worker in self.workers.values() if not (worker.leaving or worker.completing)]
        if len(staying) < wanted and self.clock() >= self._rests_until:
            self._grow(wanted - len(staying))
        elif len(staying) > wanted:
            self._shrink(staying, len(staying) - wanted)

    @property
    def running(self) -> frozenset[str]:
        """The jobs that have nodes, as far as is known; other threads may ask."""
        return frozenset(worker.id for worker in list(self.workers.values()) if worker.running)

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
        reasons = [job.reason for job in jobs if job.pending and job.reason not in UNTOLD]
        waits = reasons[0] if reasons and not any(job.running for job in jobs) else ""
        if waits and waits != self._waits:
            self.tell(f"waiting for Slurm to start {len(reasons)} of its jobs ({why(waits)})")
        self._waits = waits

    def _ended(self, worker: Worker) -> None:
        """A worker is in the queue no more: what became of it, and whether the next would fare the same."""
        job = self.slurm.fate(worker.id)
        if job is not None and not job.finished:
            return  # an answer that left it out
        del self.workers[worker.id]
        if job is None:
            self.tell(f"worker {worker.id} is gone; Slurm does not tell how it ended")
            return
        self.tell(f"worker {worker.id} {end_of(job) or 'failed'}")
        if not (worker.joined or worker.leaving or end_of(job)):
            self._stillborn += 1
            self._judge_stillborn(f"{worker.id} ({job.state})")

    def _judge_stillborn(self, last: str) -> None:
        """Ends the search where no worker can join; rests where others can."""
        if self._stillborn < MAX_STILLBORN:
            return
        what = f"{self._stillborn} worker jobs in a row failed before they could join, the last one {last}"
        if any(worker.joined for worker in self.workers.values()):
            self.tell(f"{what}; the next is submitted in {REST_S:g} s, as others work")
            self._rests_until, self._stillborn = self.clock() + REST_S, 0
            return
        raise SlurmError(
            f"{what}; what they printed is in the pool's logs ({self.name}-JOB.out). No trial was lost: mend "
            "that (python -m slurm.doctor --probe tries a job) and give the same command again"
        )

    def _note(self, demand: Demand, joined: set[str]) -> None:
        """Which workers have joined, and since when each has had nothing to do."""
        now = self.clock()
        for worker in self.workers.values():
            if worker.id in joined and not worker.joined:
                worker.joined, self._stillborn = True, 0
                self.tell(f"worker {worker.id} joined")
            is_idle = worker.joined and worker.id not in demand.busy_jobs
            worker.idle_since = _since(worker.idle_since, is_idle, now)
            worker.absent_since = _since(worker.absent_since, worker.running and worker.id not in joined, now)

    def _cancel_absent(self) -> None:
        """A worker that runs but is no node of this Ray, as on a node that hangs, only takes a place."""
        limit = self.config.rejoin_s + ABSENT_S
        why = f"runs, but has not been part of this search for {limit:g} s"
        for worker in self.workers.values():
            since = worker.absent_since
            hangs = since is not None and self.clock() - since >= limit and not worker.leaving
            if hangs and self._cancel(worker, why):
                self._stillborn += not worker.joined
                self._judge_stillborn(f"{worker.id}, which could not reach the driver")

    def _grow(self, missing: int) -> None:
        for _ in range(missing):
            try:
                job = self.submit()
            except (SlurmError, OSError) as error:  # its script is written to disk first
                self._refuse(error)
                return
            self._refused = 0
            self.workers[job] = Worker(job)
            self.tell(f"worker {job} submitted")

    def _refuse(self, error: SlurmError | OSError) -> None:
        self._refused += 1
        self._tell_once(f"no worker could be submitted; it is tried again: {error}")
        if self._refused >= MAX_REFUSED and not self.workers:
            raise SlurmError(f"{self._refused} times in a row no worker could be submitted: {error}")

    def _shrink(self, staying: list[Worker], surplus: int) -> None:
        """Cancels workers that have not joined yet, newest first, then those that have been idle for long."""
        now, idle_s = self.clock(), self.config.idle_s
        unused = [worker for worker in reversed(staying) if not worker.joined]
        idle = [w for w in staying if w.idle_since is not None and now - w.idle_since >= idle_s]
        for worker in [*unused, *idle][:surplus]:
            why = f"was idle for {idle_s:g} s and leaves" if worker.joined else "is not needed"
            if not self._cancel(worker, why):
                return

    def _cancel(self, worker: Worker, why: str) -> bool:
        """Whether Slurm took the request."""
        try:
            self.slurm.cancel([worker.id])
        except SlurmError as error:
            self._tell_once(f"worker {worker.id} could not be cancelled; it is tried again: {error}")
            return False
        worker.leaving = True
        self.tell(f"worker {worker.id} {why}")
        return True

    def end(self) -> None:
        """Cancels every worker; the search needs none any more."""
        mine = [job.id for job in self.slurm.jobs().values() if job.name == self.name and not job.finished]
        if mine:
            self.slurm.cancel(mine)

    def _tell_once(self, text: str) -> None:
        if text != self._told:
            self._told = text
            self.tell(text)


def _since(before: float | None, holds: bool, now: float) -> float | None:
    """Since when something has held without a break; None if it does not."""
    if not holds:
        return None
    return now if before is None else before
