"""When the time of the job that this runs in is up.

Slurm's signal before the limit comes once: too early for a job whose Python is still starting, and not at all
where a site's wrapper stands between. So Slurm is also asked.
"""

from __future__ import annotations

import time

from pipeline.provenance import slurm_job
from slurm.queue import Queue

ASK_S = 10


class TimeLimit:
    """Whether the end of the job is less than `warn_s` seconds away; unknown outside a job."""

    def __init__(self, warn_s: float) -> None:
        self._end = end_of_job()
        left_s = 2 * warn_s if self._end is None else self._end - time.time()
        self._warn_s = min(warn_s, left_s / 2)  # some time to train must be left

    def near(self) -> bool:
        """Asks Slurm again before it says yes, as limits may be raised."""
        if not self._passed():
            return False
        self._end = end_of_job() or self._end
        return self._passed()

    def _passed(self) -> bool:
        return self._end is not None and time.time() >= self._end - self._warn_s


def end_of_job() -> float | None:
    """When Slurm ends this job, seconds since 1970; None if it does not tell."""
    number = slurm_job()
    job = Queue(ASK_S).fate(number) if number else None
    return job.ends if job else None
