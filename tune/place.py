"""Where the trials of a search run: what it needs to know of this machine's Ray, or of a cluster's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Workers:
    """How many trials run at once, and what each gets."""

    count: int
    threads: int
    gpus: int = 0  # of each


@dataclass(frozen=True)
class Fate:
    """What ended a worker.

    message: for a person; empty if its place knows nothing. reason: the leaderboard's name for it. counted:
    whether the trial may be at fault.
    """

    message: str = ""
    reason: str = "NODE_FAIL"
    counted: bool = True


@dataclass(frozen=True)
class Demand:
    """What a search wants of its workers: how many trials are left to run, and which Slurm jobs train one."""

    trials: int
    busy_jobs: frozenset[str]


class Place(Protocol):
    """A Ray of this search's own, started on first use, and its workers."""

    workers: Workers

    @property
    def scratch(self) -> Path:
        """A folder for temporary files that goes with the driver."""
        ...

    def start(self) -> None:
        """Starts Ray unless it runs; before anything else imports it."""
        ...

    def attend(self, demand: Demand, say: Callable[[str], None]) -> None:
        """Sees to the workers; called again and again while the search runs, and returns at once.

        Raises PipelineError if there will be no workers.
        """
        ...

    def held(self) -> frozenset[str]:
        """The workers that are paid for now, by names that no other worker ever has."""
        ...

    def fate_of(self, slurm_job: str | None) -> Fate:
        """What ended a worker; the search waits for the answer."""
        ...
