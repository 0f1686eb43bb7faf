"""A search's jobs in one line, for tune.status: what Slurm says now, or nothing if it does not answer."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from pipeline.configfile import shipped
from slurm.errors import SlurmError
from slurm.launching import launches
from slurm.queue import Job, Queue
from slurm.submit import kind_and_what
from slurm.watch import DRIVER, WORKER, why

ASK_S = 5.0  # whoever looks at the status waits for it
KEEP_S = 15.0
SEVERAL = "all"  # what a search of several models calls its jobs


def jobs() -> list[Job] | None:
    """This user's jobs that are not over; None where Slurm does not tell. Asked every KEEP_S at most."""
    return jobs_at(int(time.monotonic() // KEEP_S))


@lru_cache(maxsize=1)
def jobs_at(moment: int) -> list[Job] | None:
    """The same, remembered as long as `moment` does not change: a status that is watched asks less often."""
    if shutil.which("squeue") is None:
        return None
    try:
        return [job for job in Queue(ASK_S).jobs().values() if not job.finished]
    except SlurmError:
        return None


def of_study(queued: Iterable[Job], study: str) -> list[Job]:
    """The driver and the workers of a study; of a study named after a model also those of all models."""
    known = list(queued)
    for name in jobs_names(study):
        wanted = {(kind, name) for kind in (DRIVER, WORKER)}
        found = [job for job in known if kind_and_what(job.name) in wanted]
        if found:
            return sorted(found, key=lambda job: (_kind(job) != DRIVER, job.id))
    return []


def jobs_names(study: str) -> tuple[str, ...]:
    """What the driver of a study may be called: after it, or, if it is named after a model, SEVERAL."""
    return (study, SEVERAL) if study in shipped("model") else (study,)


def waiting(runs: Path) -> list[str]:
    """The studies of `runs` whose drivers wait in the queue; `all` for a driver of several."""
    pending = {job.id for job in jobs() or [] if job.pending}
    drivers = [launched for launched, _ in launches(runs) if launched.kind == DRIVER]
    return sorted(name for driver in drivers if pending.intersection(driver.jobs) for name in driver.what)


def _kind(job: Job) -> str:
    return kind_and_what(job.name)[0]


def line(found: Iterable[Job]) -> str:
    """`driver 123 running on gr1; workers 2 running, 1 pending (Priority: ...)`; empty without jobs."""
    known = list(found)
    drivers = [job for job in known if _kind(job) == DRIVER]
    workers = [job for job in known if job not in drivers]
    parts = [f"driver {job.id} {_state(job)}" for job in drivers]
    parts += [f"workers {_counted(workers)}"] if workers else []
    return "; ".join(parts)


def row(job: Job) -> dict[str, object]:
    """A job as plain values."""
    reason = job.reason if job.pending else ""
    return {"job": job.id, "kind": _kind(job), "state": job.state, "node": job.node, "reason": reason}


def _state(job: Job) -> str:
    return f"pending ({why(job.reason)})" if job.pending else f"{job.state.lower()} on {job.node}"


def _counted(workers: list[Job]) -> str:
    """How many workers are in each state; of those that wait, why."""
    counts = Counter("pending" if job.pending else job.state.lower() for job in workers)
    waiting = Counter(job.reason for job in workers if job.pending)
    parts = [f"{count} {state}" for state, count in sorted(counts.items(), reverse=True)]
    reason = f" ({why(waiting.most_common(1)[0][0])})" if waiting else ""
    return ", ".join(parts) + reason
