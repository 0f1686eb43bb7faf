"""The journal of a study: its records, and the fold that turns them into the state of every trial.

One JSON object a line, each with `event` and `time` (seconds since 1970, UTC). The search writes them
(tune.journal); the search, its status and the leaderboard read them through `fold`, so that they agree.
An RMSE that is not finite is written as null and read as nan.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from pipeline.errors import StudyError
from pipeline.jsonl import read_jsonl

FORMAT = 1

Decision = Literal["continue", "stop"]
Source = Literal["configured", "random", "tpe", "confirm"]
EndStatus = Literal["completed", "stopped", "failed"]
Status = Literal["waiting", "running", "completed", "stopped", "failed"]
UNFINISHED: tuple[Status, ...] = ("waiting", "running")


def seconds_now() -> float:
    """Seconds since 1970, to the millisecond."""
    return round(time.time(), 3)


@dataclass(frozen=True, kw_only=True)
class Record:
    """What all records share."""

    event: ClassVar[str] = ""

    time: float = field(default_factory=seconds_now)

    def line(self) -> str:
        """The record as one line of the journal."""
        fields = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }
        return json.dumps({"event": self.event, **fields}, allow_nan=False) + "\n"


@dataclass(frozen=True, kw_only=True)
class Begun(Record):
    """The first line: which study this is, and the format of the lines that follow."""

    event: ClassVar[str] = "study"

    study: str
    format: int = FORMAT


@dataclass(frozen=True, kw_only=True)
class Drawn(Record):
    """A trial exists: its dotted configuration keys, its training seed, and where the values came from.

    `confirms`: the trial whose setting it repeats, to its end, with another seed.
    """

    event: ClassVar[str] = "drawn"

    trial: int
    values: dict[str, Any]
    seed: int
    source: Source
    confirms: int | None = None


@dataclass(frozen=True, kw_only=True)
class Started(Record):
    """A worker has begun an attempt at a trial; attempts count from 1."""

    event: ClassVar[str] = "started"

    trial: int
    attempt: int
    node: str
    slurm_job: str | None
    pid: int


@dataclass(frozen=True, kw_only=True)
class Epoch(Record):
    """An epoch's validation RMSE in metres and what was decided on it; `stop` ends the trial in itself."""

    event: ClassVar[str] = "epoch"

    trial: int
    attempt: int
    epoch: int
    rmse: float
    seconds: float
    decision: Decision
    rung: int | None

    def __post_init__(self) -> None:
        if self.rmse is None:
            object.__setattr__(self, "rmse", math.nan)


@dataclass(frozen=True, kw_only=True)
class Lost(Record):
    """The worker of an attempt is gone; the trial goes on with another.

    `counted`: against the number of workers that a trial may cost.
    """

    event: ClassVar[str] = "lost"

    trial: int
    attempt: int
    message: str
    counted: bool = True


@dataclass(frozen=True, kw_only=True)
class Revived(Record):
    """A trial that a rung has stopped gets a second chance; `to_end`: no rung stops it again."""

    event: ClassVar[str] = "revived"

    trial: int
    to_end: bool


@dataclass(frozen=True, kw_only=True)
class Resumed(Record):
    """A trial that the budget had stopped goes on: there is more of it now."""

    event: ClassVar[str] = "resumed"

    trial: int


@dataclass(frozen=True, kw_only=True)
class Held(Record):
    """The workers that the study holds, busy or not, by names that no other worker ever has."""

    event: ClassVar[str] = "held"

    workers: list[str]


@dataclass(frozen=True, kw_only=True)
class Ended(Record):
    """A trial is over; `reason` as in the leaderboard, `message` for a person."""

    event: ClassVar[str] = "ended"

    trial: int
    status: EndStatus
    reason: str = ""
    message: str = ""


KINDS: dict[str, type[Record]] = {
    kind.event: kind for kind in (Begun, Drawn, Started, Epoch, Lost, Revived, Resumed, Held, Ended)
}


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
    losses: int = 0
    fruitless: int = 0  # losses in a row without a new epoch
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
    def last(self) -> float | None:
        """The newest epoch's RMSE in metres."""
        return self.epochs[max(self.epochs)] if self.epochs else None

    @property
    def unfinished(self) -> bool:
        """Whether it still has to run."""
        return self.status in UNFINISHED

    def start(self, record: Started) -> None:
        """Takes a new attempt."""
        self.attempts.append(record)
        self.status = "running"

    def lose(self, record: Lost) -> None:
        """Takes the loss of the attempt's worker."""
        self.losses += record.counted
        self.fruitless += 1
        self.status = "waiting"

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


def advance(trials: dict[int, TrialState], record: Record) -> None:
    """One step of the fold, in place."""
    match record:
        case Drawn():
            trials[record.trial] = TrialState(
                record.trial, record.values, record.seed, record.source, record.time, record.confirms
            )
        case Started():
            _known(trials, record.trial).start(record)
        case Epoch():
            _known(trials, record.trial).add(record)
        case Lost():
            _known(trials, record.trial).lose(record)
        case Revived() | Resumed():
            _known(trials, record.trial).revive()
        case Ended():
            _known(trials, record.trial).end(record)


def _known(trials: dict[int, TrialState], number: int) -> TrialState:
    if number not in trials:
        raise StudyError(f"the journal speaks of trial {number}, which was never drawn: it is damaged")
    return trials[number]


def read_journal(path: Path) -> list[Record]:
    """The records of a journal, without a torn last line; none if there is no file.

    Raises StudyError naming the line that is damaged, or written by another version.
    """
    return [
        record_of(tree, f"{path}, line {number}") for number, tree in enumerate(read_jsonl(path), start=1)
    ]


def record_of(tree: dict[str, Any], where: str) -> Record:
    """A line's object as a typed record; `where` names the line in errors."""
    fields = dict(tree)
    kind = KINDS.get(fields.pop("event", None))
    if kind is None:
        raise StudyError(f"{where}: event {tree.get('event')!r} is not one of {', '.join(KINDS)}")
    try:
        record = kind(**fields)
    except TypeError as error:
        raise StudyError(f"{where}: not a {kind.event!r} record: {error}") from None
    if isinstance(record, Begun) and record.format != FORMAT:
        raise StudyError(f"{where}: format {record.format}; this version reads format {FORMAT}")
    return record
