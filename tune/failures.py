"""What follows from each failure of a trial, and when a failure is the request's and ends the search.

Whatever happens, a trial is one of the study's trials, and the time that its workers were held is paid for.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DiskError, StudyError
from pipeline.paths import StudyPaths
from pipeline.records import Ended
from pipeline.trials import TrialState

MAX_FRUITLESS = 10  # losses in a row without a new epoch; then a trial fails, whatever the losses were
MAX_FALSE_STARTS = 5
MAX_SAME_FAILURES = 3  # before any epoch; then the request is held to be at fault


class HopelessStudyError(StudyError):
    """Trials of a study have failed of the same error before any had trained: it is the request's."""


@dataclass(frozen=True)
class Consequence:
    """What a reason means for its trial. For the budget all reasons are the same: what was held is used.

    retries: how often it is tried again, from its last checkpoint; None: as often as it happens, up to
    MAX_FRUITLESS losses in a row. teaches: whether the sampler is told of the setting:
    that it failed, or what it had reached by then.
    """

    retries: int | None
    teaches: bool


CONSEQUENCES = {
    # training has split the batch as far as it goes; a larger GPU would do, so it says nothing of the setting
    "CUDA_OOM": Consequence(retries=0, teaches=False),
    # a worker keeps some memory of the trials before; a new one may have enough. Whether Python was refused
    # more or Slurm killed the job is the same
    "HOST_OOM": Consequence(retries=1, teaches=False),
    # Slurm's doing: the worker's job reached its limit, or had to make room
    "TIMEOUT": Consequence(retries=None, teaches=False),
    "PREEMPTED": Consequence(retries=None, teaches=False),
    # the worker is gone, nobody knows why; where Slurm says that it took the node away, that does not count
    "NODE_FAIL": Consequence(retries=3, teaches=False),
    # the same numbers would come again
    "DIVERGED": Consequence(retries=0, teaches=True),
    # an error in the code or the request
    "USER_ERROR": Consequence(retries=0, teaches=False),
    # goes on when there is more of it
    "BUDGET": Consequence(retries=None, teaches=True),
    # somebody cancelled the worker's job; the search still wants the trial
    "STOPPED_BY_USER": Consequence(retries=None, teaches=False),
}


def teaches(trial: TrialState) -> bool:
    """Whether the sampler is told of a trial."""
    known = CONSEQUENCES.get(trial.reason)
    return trial.status != "failed" or (known is not None and known.teaches)


def is_counted(reason: str, to_blame: bool) -> bool:
    """Whether a loss counts against its trial, which may not be `to_blame`."""
    return to_blame and CONSEQUENCES[reason].retries is not None


def end_by_losses(trial: TrialState) -> Ended | None:
    """The end of a trial that waits after one loss too many; None for any other."""
    lost = trial.lost[trial.pardoned :]
    if trial.status != "waiting" or not lost:
        return None
    last = lost[-1]
    counted = sum(loss.counted and loss.reason == last.reason for loss in lost)
    if counted <= (CONSEQUENCES[last.reason].retries or 0) and trial.fruitless < MAX_FRUITLESS:
        return None
    why = f"its worker died {len(lost)} times; the last time: {last.message}"
    return Ended(trial=trial.number, status="failed", reason=last.reason, message=why)


def is_known_loss(trial: TrialState, attempt: int) -> bool:
    """Whether the loss of an attempt is known already, and the trial waits for another or has one."""
    begun = len(trial.attempts)
    return attempt < begun or (attempt == begun and trial.status == "waiting")


def disk_failed(study: StudyPaths, trial: int, message: str) -> DiskError:
    """What a search ends with whose disk is full, or fails: each trial would meet it."""
    return DiskError(
        f"study {study.root.name}: the disk failed trial {trial}: {message}. No trial is lost: make room "
        f"(see df {study.root} and your quota) and give the same command again"
    )


def refuse_hopeless(study: str, trials: Iterable[TrialState]) -> None:
    """Spares the trials that are left an error that is not theirs.

    Raises HopelessStudyError if `hopeless` finds one.
    """
    if failed := hopeless(trials):
        raise HopelessStudyError(
            f"study {study}: {len(failed)} trials failed of the same error before any had trained, and the "
            f"others would too:\n{failed[0].message.strip()}\n"
            "Mend that. If the request changes, it needs a new study (--study NAME or --fresh); "
            "if it stays, the same command tries these again and goes on with the others"
        )


def hopeless(trials: Iterable[TrialState]) -> list[TrialState]:
    """Trials that failed of one error that says nothing of them; none if any has trained, or few failed."""
    alike: defaultdict[tuple[str, str], list[TrialState]] = defaultdict(list)
    for trial in trials:
        if trial.epochs:
            return []
        if trial.status == "failed" and not teaches(trial):
            alike[trial.reason, _cause(trial)].append(trial)
    most = max(alike.values(), key=len, default=[])
    return most if len(most) >= MAX_SAME_FAILURES else []


def _cause(trial: TrialState) -> str:
    """What a trial failed of, without the numbers that tell it from others."""
    return re.sub(r"\d+", "#", trial.message.strip().rpartition("\n")[2])


class FalseStarts:
    """Workers that died before they could begin: no trial's fault, and if it goes on, everybody's problem.

    `log` is where to read what they said.
    """

    def __init__(self, log: Path | None = None) -> None:
        self._in_a_row = 0
        self._log = log

    def none(self) -> None:
        """A worker has begun."""
        self._in_a_row = 0

    def one_more(self, message: str) -> None:
        """Raises StudyError if that goes on."""
        self._in_a_row += 1
        if self._in_a_row > MAX_FALSE_STARTS:
            where = f" (all they said is in {self._log})" if self._log else ""
            raise StudyError(
                f"{self._in_a_row} workers in a row died before they could begin a trial; "
                f"the last one: {message}. No trial was lost: mend that and give the same command "
                f"again{where}"
            )
