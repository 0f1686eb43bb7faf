"""What ended the workers whose trials are lost, as the leaderboard names it.

The search's own loop waits for the answer: Slurm is given a moment, is asked once for what was lost together,
and is left alone where it is slow. As long as it does not tell, no trial is blamed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from slurm.errors import SlurmError
from slurm.queue import COMPLETING, Job, reason_of
from tune.place import Fate

ASK_S = 5.0  # for one question
KEEP_S = 1.0  # how long an answer tells of jobs that have not ended
SHARE = 0.1  # of the search's time, at most, goes into questions
BLAMELESS = {  # what ends a worker through no fault of its trial's
    "CANCELLED": "was cancelled",
    "PREEMPTED": "was preempted",
    "TIMEOUT": "reached its time limit",
    "DEADLINE": "reached its deadline",
    "NODE_FAIL": "lost its node",
    "BOOT_FAIL": "lost its node",
    "COMPLETED": "ended",
}
OUT_OF_MEMORY = "used up its memory; raise gpu.memory in the profile"
ENDING = {  # Slurm's reason, of a job that it tidies up after -> the state to come
    "OutOfMemory": "OUT_OF_MEMORY",
    "TimeLimit": "TIMEOUT",
    "NodeDown": "NODE_FAIL",
    "NonZeroExitCode": "FAILED",
}


class Asked(Protocol):
    """What is asked of slurm.queue.Queue."""

    def jobs(self) -> Mapping[str, Job]:
        """The user's jobs, by number. Raises SlurmError if Slurm does not answer."""
        ...

    def fate(self, job_id: str) -> Job | None:
        """What became of a job that is in the queue no more; None if that is unknown."""
        ...


class Fates:
    """Asks Slurm what ended jobs, and remembers it."""

    def __init__(self, slurm: Asked, clock: Callable[[], float] = time.monotonic) -> None:
        self._slurm = slurm
        self._clock = clock
        self._known: dict[str, Fate] = {}
        self._jobs: Mapping[str, Job] = {}  # the last answer
        self._fresh_until = self._rests_until = -math.inf

    def of(self, job_id: str) -> Fate:
        """What ended the worker in a job."""
        if job_id not in self._known:
            self._look()
            job = self._jobs.get(job_id)
            if job is not None and job.finished:
                self._known[job_id] = _of_ended(job)
            elif self._clock() > self._fresh_until:
                return _unknown(job_id, "is out of reach, and Slurm does not answer in time")
            elif job is not None:
                return self._of_unfinished(job)
            else:
                self._known[job_id] = self._of_forgotten(job_id)
        return self._known[job_id]

    def _look(self) -> None:
        """Asks for all jobs, unless that was done just now or Slurm is too slow to be asked again."""
        before = self._clock()
        if before < max(self._fresh_until, self._rests_until):
            return
        with suppress(SlurmError):
            self._jobs = self._slurm.jobs()
            self._fresh_until = self._clock() + KEEP_S
        self._rest_after(before)

    def _of_unfinished(self, job: Job) -> Fate:
        """Of a job that runs on, nothing; of one that Slurm tidies up after, why it ends."""
        if job.pending:
            return replace(_unknown(job.id, "was put back into the queue"), reason="PREEMPTED")
        if job.state != COMPLETING:
            return Fate()
        if job.reason in ENDING:
            return _of_ended(replace(job, state=ENDING[job.reason]))
        ended = self._ask(job.id)
        return _of_ended(ended) if ended else _unknown(job.id, "is ending")

    def _of_forgotten(self, job_id: str) -> Fate:
        """The end of a job that the queue has no more."""
        ended = self._ask(job_id)
        gone = "is gone, and Slurm does not tell how it ended"
        return _of_ended(ended) if ended else _unknown(job_id, gone)

    def _ask(self, job_id: str) -> Job | None:
        """A job that has ended, as Slurm or accounting has it; None if they do not tell."""
        before = self._clock()
        job = self._slurm.fate(job_id)
        self._rest_after(before)
        return job if job is not None and job.finished else None

    def _rest_after(self, start: float) -> None:
        """Leaves a slow Slurm alone for a while, so that the search waits for it a small part of its time."""
        self._rests_until = self._clock() + (self._clock() - start) / SHARE


def end_of(job: Job) -> str:
    """How a job ended, if that says nothing against its trial; empty otherwise."""
    return BLAMELESS.get(job.state, "")


def _unknown(job_id: str, what: str) -> Fate:
    return Fate(f"its Slurm job {job_id} {what}", counted=False)


def _of_ended(job: Job) -> Fate:
    """Of what is not known better, the worker is gone: a job that failed says nothing about its trial."""
    known = reason_of(job)
    reason = "NODE_FAIL" if known in ("", "USER_ERROR") else known
    if job.state == "OUT_OF_MEMORY":
        return Fate(f"its Slurm job {job.id} {OUT_OF_MEMORY}", reason)
    if end_of(job):
        return Fate(f"its Slurm job {job.id} {end_of(job)}", reason, counted=False)
    return Fate(reason=reason)
