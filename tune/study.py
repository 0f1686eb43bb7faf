"""A study: what was asked for, what happened so far, and what comes next.

Everything that happens passes through here and is in the journal before anybody acts on it. Ray, or a test,
executes: it takes trials from `next_trial` and reports back. A restarted study is built from the journal and
goes on; nothing about it lives anywhere else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pipeline.config import Experiment, RunConfig
from pipeline.configfile import apply_values
from pipeline.errors import DiskError, StudyError
from pipeline.paths import StudyPaths
from pipeline.records import (
    Begun,
    Decision,
    Drawn,
    Ended,
    EndStatus,
    Epoch,
    Lost,
    Record,
    Started,
    TrialState,
    advance,
)
from tune.asha import Rungs
from tune.journal import Journal
from tune.space import Space, canonical

MAX_LOSSES = 3  # a trial whose workers died this often, and once more, has failed
MAX_FRUITLESS = 10
MAX_FALSE_STARTS = 5
MAX_SAME_FAILURES = 3  # of the first trials, before the request is held to be at fault

Listener = Callable[["Study", Record], None]


@dataclass(frozen=True)
class Assignment:
    """One attempt at one trial: what a worker needs to train it."""

    trial: int
    attempt: int
    config: RunConfig


class Study:
    """A study on an open journal. `listen` is called after every record, which is then on disk.

    Raises StudyError if the journal is damaged, ConfigError if the search space does not fit.
    """

    def __init__(self, name: str, experiment: Experiment, journal: Journal, listen: Listener) -> None:
        self.name = name
        self.experiment = experiment
        self.trials: dict[int, TrialState] = {}
        self.exhausted = False  # the space has no configuration left
        self._journal = journal
        self._listen = listen
        self._base = experiment.trial(experiment.seed)
        self._space = Space(experiment.search.space, self._base)
        self._taken: set[str] = set()
        self._assigned: set[int] = set()
        self._false_starts = 0
        records = journal.read()
        self._rungs = Rungs.from_journal(experiment.search, records)
        for record in records:
            self._absorb(record)
        self._waiting = [trial.number for trial in self.trials.values() if trial.unfinished]
        if not records:
            self._write(Begun(study=name))
        if not self._waiting:
            self._draw()  # shows whether there is anything left to draw

    @property
    def paths(self) -> StudyPaths:
        """The study's files."""
        return self._journal.paths

    @property
    def rung_epochs(self) -> list[int]:
        """The epochs at which trials are judged."""
        return self._rungs.milestones

    @property
    def active(self) -> int:
        """How many trials are given out and have not come back."""
        return len(self._assigned)

    @property
    def left(self) -> int:
        """How many trials have still to run, those that run now among them."""
        undrawn = 0 if self.exhausted else self.experiment.search.trials - len(self.trials)
        return max(undrawn, 0) + sum(trial.unfinished for trial in self.trials.values())

    @property
    def busy_jobs(self) -> frozenset[str]:
        """The Slurm jobs in which a trial runs now."""
        running = (self.trials[number] for number in self._assigned)
        jobs = (trial.attempts[-1].slurm_job for trial in running if trial.status == "running")
        return frozenset(job for job in jobs if job is not None)

    def job_of(self, trial: int, attempt: int) -> str | None:
        """The Slurm job of an attempt; None if it had not begun, or runs outside Slurm."""
        attempts = self.trials[trial].attempts
        return attempts[attempt - 1].slurm_job if attempt <= len(attempts) else None

    @property
    def complete(self) -> bool:
        """Whether every trial that there will be has ended."""
        none_left = self.exhausted or len(self.trials) >= self.experiment.search.trials
        return none_left and not self._assigned and not self._waiting

    def next_trial(self) -> Assignment | None:
        """An unfinished trial that nobody works on, else a new one; None if there is neither."""
        if not self._waiting:
            self._draw()
        if not self._waiting:
            return None
        trial = self.trials[self._waiting.pop(0)]
        self._assigned.add(trial.number)
        config = apply_values(self._base, trial.values).model_copy(update={"seed": trial.seed})
        return Assignment(trial.number, len(trial.attempts) + 1, config)

    def _draw(self) -> None:
        number = len(self.trials)
        if self.exhausted or number >= self.experiment.search.trials:
            return
        draw = self._space.draw(self.name, number, self._taken)
        if draw is None:
            self.exhausted = True
            return
        self._write(Drawn(trial=number, values=draw.values, seed=draw.seed, source=draw.source))
        self._waiting.append(number)

    def started(self, trial: int, attempt: int, node: str, slurm_job: str | None, pid: int) -> Decision:
        """A worker has begun an attempt; it is to stop if that is not the next one."""
        if attempt != len(self.trials[trial].attempts) + 1:
            return "stop"
        self._false_starts = 0
        self._write(Started(trial=trial, attempt=attempt, node=node, slurm_job=slurm_job, pid=pid))
        return "continue"

    def epoch(self, trial: int, attempt: int, epoch: int, rmse: float, seconds: float) -> Decision:
        """Records an epoch (RMSE in metres) and what follows from it; a known epoch is not recorded again."""
        state = self.trials[trial]
        if not state.unfinished or attempt != len(state.attempts):
            return "stop"
        if epoch in state.epochs:
            return "continue"
        verdict = self._rungs.decide(trial, epoch, rmse)
        self._write(
            Epoch(
                trial=trial,
                attempt=attempt,
                epoch=epoch,
                rmse=rmse,
                seconds=round(seconds, 3),
                decision=verdict.decision,
                rung=verdict.rung,
            )
        )
        if verdict.decision == "stop":
            self._assigned.discard(trial)
        return verdict.decision

    def ended(self, trial: int, attempt: int, status: EndStatus, reason: str = "", message: str = "") -> None:
        """An attempt has come to its end by itself, and the trial with it.

        Raises StudyError if the first trials have all failed of the same error.
        """
        state = self.trials[trial]
        if attempt != len(state.attempts):
            return
        if state.unfinished:
            self._write(Ended(trial=trial, status=status, reason=reason, message=message))
        self._assigned.discard(trial)
        self._refuse_hopeless()

    def _refuse_hopeless(self) -> None:
        """Spares the trials that are left an error that is not theirs."""
        ended = [trial for trial in self.trials.values() if not trial.unfinished]
        if len(ended) < MAX_SAME_FAILURES or any(trial.epochs for trial in self.trials.values()):
            return
        if all(trial.reason == "USER_ERROR" for trial in ended) and len(set(map(_cause, ended))) == 1:
            raise StudyError(
                f"study {self.name}: the first {len(ended)} trials failed of the same error, and the others "
                f"would too:\n{ended[0].message.strip()}\n"
                "Mend that. If the request changes, it needs a new study (--study NAME or --fresh); "
                "if it stays, the same command goes on with the trials that are left"
            )

    def stuck(self, trial: int, message: str) -> DiskError:
        """The end of a search whose workers the disk fails: no trial's fault, and each would meet it."""
        self._assigned.discard(trial)
        return DiskError(
            f"study {self.name}: the disk failed trial {trial}: {message}. No trial is lost: make room "
            f"(see df {self.paths.root} and your quota) and give the same command again"
        )

    def lost(self, trial: int, attempt: int, message: str, counted: bool = True) -> None:
        """The worker of a trial is gone: the trial goes on elsewhere, unless that has happened too often.

        A loss that is no fault of the trial's, such as a preempted job, is not `counted`, unless it is one of
        many in a row that brought no epoch.
        Raises StudyError if workers keep dying before they begin.
        """
        state = self.trials[trial]
        if _is_given_up(state, attempt):
            return
        self._assigned.discard(trial)
        if not state.unfinished:
            return
        if attempt > len(state.attempts):
            if counted:
                self._false_start(message)
            self._waiting.append(trial)
            return
        counted = counted or state.fruitless >= MAX_FRUITLESS
        self._write(Lost(trial=trial, attempt=attempt, message=message, counted=counted))
        if state.losses > MAX_LOSSES:
            why = f"its worker died {state.losses} times; the last time: {message}"
            self._write(Ended(trial=trial, status="failed", reason="NODE_FAIL", message=why))
        else:
            self._waiting.append(trial)

    def _false_start(self, message: str) -> None:
        """A worker died before it could begin: no trial's fault, and if it goes on, everybody's problem."""
        self._false_starts += 1
        if self._false_starts > MAX_FALSE_STARTS:
            raise StudyError(
                f"{self._false_starts} workers in a row died before they could begin a trial; "
                f"the last one: {message}. No trial was lost: mend that and give the same command again "
                f"(all they said is in {self.paths.log})"
            )

    def _write(self, record: Record) -> None:
        self._journal.append(record)
        self._absorb(record)
        self._listen(self, record)

    def _absorb(self, record: Record) -> None:
        advance(self.trials, record)
        if isinstance(record, Drawn):
            self._taken.add(canonical(record.values))


def best_first(trials: Iterable[TrialState]) -> list[TrialState]:
    """The trials that have a result and have not failed, lowest RMSE first."""
    scored = [(t.best_rmse, t.number, t) for t in trials if t.best_rmse is not None and t.status != "failed"]
    return [trial for _, _, trial in sorted(scored, key=lambda entry: entry[:2])]


def _is_given_up(state: TrialState, attempt: int) -> bool:
    """Whether the loss of an attempt is known already, and the trial waits for another or has one."""
    begun = len(state.attempts)
    return attempt < begun or (attempt == begun and state.status == "waiting")


def _cause(trial: TrialState) -> str:
    """What a trial failed of, without the numbers that tell it from others."""
    return re.sub(r"\d+", "#", trial.message.strip().rpartition("\n")[2])
