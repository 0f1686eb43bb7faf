"""What a person sees while a study runs: a line for everything that matters, and how far it is.

RMSE is shown in millimetres. On a terminal a live line stays at the bottom; elsewhere a status line comes
now and then.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from textwrap import fill
from types import TracebackType
from typing import Any, TextIO

from pydantic import TypeAdapter
from rich.console import Console
from rich.live import Live
from rich.text import Text

from pipeline.config import Scheduler
from pipeline.records import Ended, Epoch, Lost, Record, Revived, Started
from pipeline.schedule import label
from pipeline.spread import trusted
from pipeline.trials import TrialState
from pipeline.units import to_mm
from tune.budget_plan import epochs_left
from tune.ranking import most_trusted
from tune.study import Study

WIDTH = 80  # of a line where there is no terminal
STATUS_EVERY_S = 30.0
LIVE_EVERY_S = 0.5
SCHEDULER: TypeAdapter[Scheduler] = TypeAdapter(Scheduler)
SETTINGS = {"configured": "the configured setting: ", "warm": "an earlier study's setting: "}
INDENT = " " * len("trial 0000 ")


def mm(rmse: float | None) -> str:
    """An RMSE in metres as millimetres, `-` if there is none."""
    return "-" if rmse is None else f"{to_mm(rmse):.3f} mm"


def short(values: Mapping[str, Any]) -> str:
    """Drawn values without the sections of their keys, schedulers by name, numbers to four digits."""
    return ", ".join(f"{key.rpartition('.')[2]} {short_value(value)}" for key, value in values.items())


def short_value(value: Any) -> str:
    """A drawn value: a scheduler by its label, a number to four digits."""
    if isinstance(value, Mapping):
        return label(SCHEDULER.validate_python(value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def line_for(study: Study, record: Record) -> str | None:
    """The line that tells a person about a record; None for what is not worth one."""
    match record:
        case Started():
            return _trial_line(record.trial, _begins(study.trials[record.trial], record))
        case Epoch(rung=int()):
            return _trial_line(record.trial, _judged(study, record, record.rung))
        case Revived():
            where = "runs to its end" if record.to_end else "is judged again at the next rung"
            return _trial_line(record.trial, f"gets a second chance: {where}")
        case Lost():
            return _trial_line(record.trial, f"lost its worker, {_cause(record)}")
        case Ended():
            return _trial_line(record.trial, _ends(study.trials[record.trial], record))
    return None


def _judged(study: Study, record: Epoch, rung: int | None) -> str:
    """What was decided at a rung, or later about a trial that others overtook there."""
    where = f"rung {rung}, epoch {record.epoch}: {mm(record.rmse)}"
    if record.epoch not in study.rungs.milestones:
        return f"{where}, stopped: others have overtaken it"
    return f"{where}, {'goes on' if record.decision == 'continue' else 'stopped'}"


def _trial_line(number: int, text: str) -> str:
    return f"trial {number:<4} {text}"


def _begins(trial: TrialState, record: Started) -> str:
    if record.attempt > 1:
        return f"goes on after epoch {max(trial.epochs, default=0)} (attempt {record.attempt})"
    if trial.confirms is not None:
        return f"starts with the setting of trial {trial.confirms} and another seed, to confirm it"
    setting = SETTINGS.get(trial.source, "")
    return f"starts with {setting}{short(trial.values) or 'nothing to vary'}"


def _ends(trial: TrialState, record: Ended) -> str:
    if record.status == "failed":
        return f"failed, {_cause(record)}"
    if record.reason == "BUDGET" and trial.best_rmse is None:
        return record.message
    by = " by the budget" if record.reason == "BUDGET" else ""
    return f"{record.status}{by}, best {mm(trial.best_rmse)} at epoch {trial.best_epoch}"


def _cause(record: Lost | Ended) -> str:
    """The reason, and the last line of the message: what a traceback comes to."""
    last = record.message.strip().rpartition("\n")[2]
    return f"{record.reason}: {last}"


def status_line(studies: Sequence[Study], workers: int) -> str:
    """How far the studies on these workers are, in one line."""
    trials = [trial for study in studies for trial in study.trials.values()]
    counts = Counter(trial.status for trial in trials)
    done = Counter(trial.source == "confirm" for trial in trials if not trial.unfinished)
    parts = [f"{done[False]}/{sum(study.experiment.search.trials for study in studies)} trials"]
    if any(trial.source == "confirm" for trial in trials):
        parts.append(f"{done[True]} confirming runs")
    parts += [f"{counts[status]} {status}" for status in ("running", "stopped", "failed") if counts[status]]
    if studies[0].budget.limited:
        parts.append(studies[0].budget.text())
    parts += _best_of(studies)
    left = seconds_left(studies, workers)
    if left is not None:
        parts.append(f"about {timedelta(seconds=round(left))} left")
    return ", ".join(parts)


def _best_of(studies: Sequence[Study]) -> list[str]:
    """The best trial of all studies, if there is one."""
    found = [
        (trusted(study.trials, best), study.name, best.number)
        for study in studies
        if (best := most_trusted(study.trials)) is not None
    ]
    if not found:
        return []
    error, name, number = min(found)
    where = f"{name}, " if len(studies) > 1 else ""
    mean = "" if error.one_run else ", confirmed"
    return [f"best {mm(error.rmse)} ({where}trial {number}{mean})"]


def seconds_left(studies: Sequence[Study], workers: int) -> float | None:
    """A guess: the trials to come take as long as those that ended; None before each study has one.

    A study that is over needs nothing, however many trials it was asked for.
    """
    work = [_work_left(study) for study in studies]
    known = [entry for entry in work if entry is not None]
    if len(known) < len(work):
        return None
    left = max([sum(total for total, _ in known) / workers, *(longest for _, longest in known)])
    return min(left, *(max(study.budget.seconds_left(confirming=True), 0.0) for study in studies))


def _work_left(study: Study) -> tuple[float, float] | None:
    """Seconds of training to come, and of those the longest trial's that runs; None if nobody knows."""
    if study.complete:
        return 0.0, 0.0  # as far as its space and its budget go
    trials = study.trials.values()
    ended = [trial.seconds for trial in trials if not trial.unfinished and trial.epochs]
    if not ended:
        return None
    mean = sum(ended) / len(ended)
    going = [_seconds_left_of(study, trial, mean) for trial in trials if trial.status == "running"]
    total = epochs_left(study.experiment.search, study.trials) * study.budget.epoch_s
    return max(total, sum(going)), max(going, default=0.0)


def _seconds_left_of(study: Study, trial: TrialState, mean_s: float) -> float:
    """Past the last rung a trial runs to its end; before it, it is taken for an average one."""
    if not trial.epochs:
        return mean_s
    epoch_s = trial.seconds / len(trial.epochs)
    if trial.rung == len(study.rungs.milestones) or trial.confirms is not None:
        return (study.experiment.search.epochs - max(trial.epochs)) * epoch_s
    return max(mean_s - trial.seconds, epoch_s)


def width_of(stream: TextIO) -> int:
    """The columns of a terminal; WIDTH elsewhere."""
    return os.get_terminal_size(stream.fileno()).columns if stream.isatty() else WIDTH


class Progress:
    """Prints the progress of studies to `stream` for as long as the block lasts.

    `names` are those of studies that share the workers; the lines of several say whose they are.
    """

    def __init__(self, stream: TextIO, workers: int, names: Sequence[str] = ()) -> None:
        self._console = Console(file=stream, width=width_of(stream), highlight=False, markup=False)
        self._live = Live(
            console=self._console,
            refresh_per_second=1 / LIVE_EVERY_S,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._workers = workers
        self._label = max(map(len, names)) + 1 if len(names) > 1 else 0
        self._studies: dict[str, Study] = {}
        self._status_every_s = LIVE_EVERY_S if self._console.is_terminal else STATUS_EVERY_S
        self._next_status = time.monotonic() + self._status_every_s

    def say(self, text: str) -> None:
        """Prints a line, continued under its text where it is too long."""
        lines = fill(
            text,
            self._console.width - 1,
            subsequent_indent=" " * self._label + INDENT,
            break_long_words=False,  # paths and commands are copied
            break_on_hyphens=False,
        )
        self._console.print(lines, soft_wrap=True)

    def follow(self, study: Study) -> None:
        """Counts a study among those whose progress is told."""
        self._studies[study.name] = study

    def show(self, study: Study, record: Record) -> None:
        """Tells about a record that has just been written."""
        self.follow(study)
        line = line_for(study, record)
        if line is not None:
            self.say(f"{study.name:<{self._label}}{line}" if self._label else line)
        if time.monotonic() < self._next_status:
            return
        status = status_line(list(self._studies.values()), self._workers)
        if self._console.is_terminal:
            self._live.update(Text(status, no_wrap=True, overflow="ellipsis"))
        else:
            self.say(status)
        self._next_status = time.monotonic() + self._status_every_s

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()
