"""The journal of a study: its records, line by line.

One JSON object a line, each with `event` and `time` (seconds since 1970, UTC). The search writes them
(tune.journal); pipeline.trials folds them into the state of every trial.
An RMSE that is not finite is written as null and read as nan.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from pipeline.errors import StudyError
from pipeline.jsonl import read_jsonl

FORMAT = 1

Decision = Literal["continue", "stop"]
Source = Literal["configured", "warm", "random", "tpe", "confirm"]
EndStatus = Literal["completed", "stopped", "failed"]


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
class Warm(Record):
    """What a study takes over from an earlier one, written before its first draw.

    best: the settings that it tries after the configured one, best first. told: what the sampler is told of
    beside them, each its `values` and its `promise`, the error (metres) that they may end with, or null for
    one that failed. differs: the keys that were configured otherwise, for which nothing is told.
    """

    event: ClassVar[str] = "warm"

    study: str
    best: list[dict[str, Any]]
    told: list[dict[str, Any]]
    differs: list[str]


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

    `reason` as in the leaderboard. `counted`: against the number of workers that a trial may cost.
    """

    event: ClassVar[str] = "lost"

    trial: int
    attempt: int
    message: str
    counted: bool = True
    reason: str = "NODE_FAIL"


@dataclass(frozen=True, kw_only=True)
class Revived(Record):
    """A trial that a rung has stopped gets a second chance; `to_end`: no rung stops it again."""

    event: ClassVar[str] = "revived"

    trial: int
    to_end: bool


@dataclass(frozen=True, kw_only=True)
class Resumed(Record):
    """A trial goes on after its end: the budget had stopped it, or not it, but the request, was at fault."""

    event: ClassVar[str] = "resumed"

    trial: int


@dataclass(frozen=True, kw_only=True)
class Held(Record):
    """The workers that the study holds, busy or not, by names that no other worker ever has.

    `share`: the part of their time that is this study's from now on; others have the rest.
    """

    event: ClassVar[str] = "held"

    workers: list[str]
    share: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Ended(Record):
    """A trial is over; `reason` as in the leaderboard, `message` for a person."""

    event: ClassVar[str] = "ended"

    trial: int
    status: EndStatus
    reason: str = ""
    message: str = ""


KINDS: dict[str, type[Record]] = {
    kind.event: kind for kind in (Begun, Warm, Drawn, Started, Epoch, Lost, Revived, Resumed, Held, Ended)
}


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
