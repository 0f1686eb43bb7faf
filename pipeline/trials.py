"""What a journal says about each trial: the fold of its records.

The search, its status and the leaderboard all read a study through it, so that they agree.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.errors import StudyError
from pipeline.records import Drawn, Ended, Epoch, Lost, Record, Resumed, Revived, Source, Started

Status = Literal["waiting", "running", "completed", "stopped", "failed"]
UNFINISHED: tuple[Status, ...] = ("waiting", "running")


@dataclass
class TrialState:
    """What the records say about one trial."""

    number: int
    values: dict[str, Any]
    seed: int
    source: Source
    drawn: float
    confirms: int | None = None
    status: Status = "waiting"
    attempts: list[Started] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    fruitless: int = 0  # losses in a row without a new epoch
    pardoned: int = 0  # losses that do not count any more: it failed, and is tried again
    epochs: dict[int, float] = field(default_factory=dict)  # validation RMSE in metres, by epoch from 1
    seconds: float = 0.0  # spent in the epochs that count
    rung: int | None = None  # the highest rung it was judged at, from 1
    best_rmse: float | None = None
    best_epoch: int | None = None
    finished: float | None = None
    reason: str = ""
    message: str = ""

    @property
    def started(self) -> float | None:
        """When the first attempt began."""
        return self.attempts[0].time if self.attempts else None

    @property
    def losses(self) -> int:
        """How many workers it has cost, without those that it is not to blame for."""
        return sum(loss.counted for loss in self.lost)

    @property
    def last(self) -> float | None:
        """The newest epoch's RMSE in metres."""
        return self.epochs[max(self.epochs)] if self.epochs else None

    @property
    def epoch_s(self) -> float | None:
        """Seconds of an epoch, the mean; None before the first."""
        return self.seconds / len(self.epochs) if self.epochs else None

    @property
    def unfinished(self) -> bool:
        """Whether it still has to run."""
        return self.status in UNFINISHED

    def take(self, record: Started | Epoch | Lost | Revived | Resumed | Ended) -> None:
        """One step of the fold."""
        match record:
            case Started():
                self.start(record)
            case Epoch():
                self.add(record)
            case Lost():
                self.lose(record)
            case Revived():
                self.revive()
            case Resumed():
                self.resume()
            case Ended():
                self.end(record)

    def start(self, record: Started) -> None:
        """Takes a new attempt."""
        self.attempts.append(record)
        self.status = "running"

    def lose(self, record: Lost) -> None:
        """Takes the loss of the attempt's worker."""
        self.lost.append(record)
        self.fruitless += 1
        self.status = "waiting"

    def resume(self) -> None:
        """Is tried again, as if it had not failed."""
        if self.status == "failed":
            self.pardoned, self.fruitless = len(self.lost), 0
        self.revive()

    def revive(self) -> None:
        """Goes on after its end."""
        self.status, self.finished = "waiting", None
        self.reason = self.message = ""

    def add(self, record: Epoch) -> None:
        """Takes an epoch; one that is known already changes nothing."""
        if record.epoch in self.epochs:
            return
        self.epochs[record.epoch] = record.rmse
        self.fruitless = 0
        self.seconds += record.seconds
        self.rung = record.rung if record.rung is not None else self.rung
        if math.isfinite(record.rmse) and (self.best_rmse is None or record.rmse < self.best_rmse):
            self.best_rmse, self.best_epoch = record.rmse, record.epoch
        if record.decision == "stop":
            self.end(Ended(time=record.time, trial=self.number, status="stopped"))

    def end(self, record: Ended) -> None:
        """Takes the end; the first one counts."""
        if self.unfinished:
            self.status, self.finished = record.status, record.time
            self.reason, self.message = record.reason, record.message


def fold(records: Iterable[Record]) -> dict[int, TrialState]:
    """The state of every trial, by number. Raises StudyError for a record of a trial that was never drawn."""
    trials: dict[int, TrialState] = {}
    for record in records:
        advance(trials, record)
    return trials


def advance(trials: dict[int, TrialState], record: Record) -> TrialState | None:
    """One step of the fold, in place; the trial that it was about, if any."""
    match record:
        case Drawn():
            trials[record.trial] = TrialState(
                record.trial, record.values, record.seed, record.source, record.time, record.confirms
            )
            return trials[record.trial]
        case Started() | Epoch() | Lost() | Revived() | Resumed() | Ended():
            trial = _known(trials, record.trial)
            trial.take(record)
            return trial
    return None


def in_line(records: Iterable[Record]) -> list[int]:
    """Every trial, in the order in which they last began to wait for a worker."""
    line: dict[int, None] = {}
    for record in records:
        if isinstance(record, Drawn | Lost | Revived | Resumed):
            line.pop(record.trial, None)
            line[record.trial] = None
    return list(line)


def _known(trials: dict[int, TrialState], number: int) -> TrialState:
    if number not in trials:
        raise StudyError(f"the journal speaks of trial {number}, which was never drawn: it is damaged")
    return trials[number]
