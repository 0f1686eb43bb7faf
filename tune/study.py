"""A study: what was asked for, what happened so far, and what comes next.

Everything that happens passes through here and is in the journal before anybody acts on it. Ray, or a test,
executes: it takes trials from `next_trial` and reports back. A restarted study is built from the journal and
goes on; nothing about it lives anywhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from pipeline.config import Experiment
from pipeline.errors import DiskError
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
    Resumed,
    Revived,
    Started,
    seconds_now,
)
from pipeline.trials import TrialState, advance, in_line
from tune import failures
from tune.asha import Rungs
from tune.budget import Budget
from tune.failures import FalseStarts
from tune.journal import Journal, MemoryJournal
from tune.space import Sampler
from tune.supply import Assignment, Supply

Listener = Callable[["Study", Record], None]


class Study:
    """A study on an open journal. `listen` is called after every record, which is then on disk.

    Trials are drawn from the experiment's space unless another `sampler` is given; `clock` tells seconds
    since 1970. `budget`, as the journal left it, is given where other studies spend from it too, and
    `false_starts` where they share the workers. Such a study has to `begin` once all of them are there.
    Raises StudyError if the journal is damaged, ConfigError if the search space does not fit.
    """

    def __init__(
        self,
        name: str,
        experiment: Experiment,
        journal: Journal | MemoryJournal,
        listen: Listener,
        sampler: Sampler | None = None,
        clock: Callable[[], float] = seconds_now,
        budget: Budget | None = None,
        false_starts: FalseStarts | None = None,
    ) -> None:
        self.name = name
        self.experiment = experiment
        self.trials: dict[int, TrialState] = {}
        self._journal = journal
        self._listen = listen
        self._clock = clock
        self._false_starts = false_starts or FalseStarts()
        self._assigned: set[int] = set()
        self._unfinished: set[int] = set()
        records = journal.read()
        self.budget = budget or Budget.from_journal(experiment.search, records, clock)
        self._supply = Supply(name, experiment, sampler, self.budget, self.trials)
        self.rungs = Rungs.from_journal(experiment.search, records)
        for record in records:
            self._absorb(record)
        self._waiting = [number for number in in_line(records) if self.trials[number].unfinished]
        if not records:
            self._write(Begun(study=name))
        if budget is None:
            self.begin()

    def begin(self) -> None:
        """Lets those wait that may go on, under a budget of which all studies' parts are known by now."""
        self._waiting = [number for number in self._waiting if not self._fails_of_losses(self.trials[number])]
        self._waiting += self._supply.resumable()
        for trial in failures.hopeless(self.trials.values()):
            self._write(Resumed(trial=trial.number))
            self._waiting.append(trial.number)
        self._drop_unaffordable()
        if not self._waiting:
            self._offer(self._supply.draw())  # shows whether there is anything left to draw

    @property
    def paths(self) -> StudyPaths:
        """The study's files."""
        return self._journal.paths

    @property
    def exhausted(self) -> bool:
        """Whether the space has no configuration left."""
        return self._supply.exhausted

    @property
    def active(self) -> int:
        """How many trials are given out and have not come back."""
        return len(self._assigned)

    @property
    def left(self) -> int:
        """How many trials have still to run, those that run now and second chances among them."""
        return len(self._unfinished.union(self._waiting)) + self.to_come

    @property
    def to_come(self) -> int:
        """How many of them could be begun now, beside those that run or wait to."""
        return self._supply.count()

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
        return not self._assigned and not self._waiting and self._supply.is_empty()

    def next_trial(self) -> Assignment | None:
        """An unfinished trial that nobody works on, else a new one, else one that gets a second chance.

        None if there is none of these.
        """
        self._drop_unaffordable()
        if not self._waiting:
            self._offer(self._supply.next())
        if not self._waiting:
            return None
        trial = self.trials[self._waiting.pop(0)]
        if not trial.unfinished:
            self._write(Resumed(trial=trial.number))
        self._assigned.add(trial.number)
        return Assignment(self.name, trial.number, len(trial.attempts) + 1, self._supply.config(trial))

    def _offer(self, record: Drawn | Revived | None) -> None:
        """Lets a trial wait for a worker."""
        if record is not None:
            self._write(record)
            self._waiting.append(record.trial)

    def _drop_unaffordable(self) -> None:
        """Ends the waiting trials that what is left of the budget is not enough for."""
        for number in [some for some in self._waiting if not self._supply.affords(self.trials[some])]:
            self._waiting.remove(number)
            self._end_by_budget(self.trials[number])

    def _end_by_budget(self, trial: TrialState) -> None:
        self._assigned.discard(trial.number)
        if trial.unfinished:
            why = f"the budget leaves no time for it: {self.budget.text()}"
            self._write(Ended(trial=trial.number, status="stopped", reason="BUDGET", message=why))

    @property
    def overdue(self) -> bool:
        """Whether the budget is spent and nobody trains: no worker need come any more."""
        running = any(self.trials[number].status == "running" for number in self._assigned)
        return not running and not self.budget.fits(0, confirming=True)

    def close(self) -> None:
        """Ends every trial that has not begun; the budget is spent."""
        for number in [*self._waiting, *self._assigned]:
            self._end_by_budget(self.trials[number])
        self._waiting.clear()

    def held(self, workers: Collection[str], share: float = 1.0) -> None:
        """Tells the study, again and again, which workers it holds, and its share of their time.

        Their names are theirs for ever.
        """
        if (record := self.budget.report(workers, share)) is not None:
            self._write(record)

    def in_line(self) -> list[int]:
        """The stopped trials most likely to go on, and therefore worth a checkpoint."""
        return self._supply.chances.in_line(self.experiment.search.keep)

    def started(self, trial: int, attempt: int, node: str, slurm_job: str | None, pid: int) -> Decision:
        """A worker has begun an attempt; it is to stop if that is not the next one."""
        if attempt != len(self.trials[trial].attempts) + 1:
            return "stop"
        self._false_starts.none()
        if not self._supply.affords(self.trials[trial]):
            self._end_by_budget(self.trials[trial])
            return "stop"
        self._write(Started(trial=trial, attempt=attempt, node=node, slurm_job=slurm_job, pid=pid))
        return "continue"

    def epoch(self, trial: int, attempt: int, epoch: int, rmse: float, seconds: float) -> Decision:
        """Records an epoch (RMSE in metres) and what follows from it; a known epoch is not recorded again."""
        state = self.trials[trial]
        if not state.unfinished or attempt != len(state.attempts):
            return "stop"
        if epoch in state.epochs:
            return self._go_on(state)
        verdict = self.rungs.decide(trial, epoch, rmse)
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
            return "stop"
        return self._go_on(state)

    def _go_on(self, trial: TrialState) -> Decision:
        """Whether a running trial may begin its next epoch, be it one that it trains once more."""
        if len(trial.epochs) == self.experiment.search.epochs or self._supply.affords_epoch(trial):
            return "continue"
        self._end_by_budget(trial)
        return "stop"

    def ended(self, trial: int, attempt: int, status: EndStatus, reason: str = "", message: str = "") -> None:
        """An attempt has come to its end by itself, and the trial with it.

        Raises HopelessStudyError if trials fail of the same error before any has trained.
        """
        state = self.trials[trial]
        if attempt != len(state.attempts):
            return
        if state.unfinished:
            self._write(Ended(trial=trial, status=status, reason=reason, message=message))
        self._assigned.discard(trial)
        failures.refuse_hopeless(self.name, self.trials.values())

    def stuck(self, trial: int, message: str) -> DiskError:
        """The end of a search whose workers the disk fails: no trial's fault, and each would meet it."""
        self._assigned.discard(trial)
        return failures.disk_failed(self.paths, trial, message)

    def lost(
        self, trial: int, attempt: int, message: str, reason: str = "NODE_FAIL", counted: bool = True
    ) -> None:
        """The worker of a trial is gone: the trial goes on elsewhere, unless that has happened too often.

        How often is too often depends on the reason (see tune.failures). A loss that is no fault of the
        trial's is not `counted`.
        Raises StudyError if workers keep dying before they begin, HopelessStudyError as `ended` does.
        """
        state = self.trials[trial]
        if failures.is_known_loss(state, attempt):
            return
        self._assigned.discard(trial)
        if not state.unfinished:
            return
        if attempt > len(state.attempts):
            if counted:
                self._false_starts.one_more(message)
            self._waiting.append(trial)
            return
        to_blame = failures.is_counted(reason, counted)
        self._write(Lost(trial=trial, attempt=attempt, message=message, counted=to_blame, reason=reason))
        if self._fails_of_losses(state):
            failures.refuse_hopeless(self.name, self.trials.values())
        else:
            self._waiting.append(trial)

    def _fails_of_losses(self, trial: TrialState) -> bool:
        """Ends a trial that waits after one loss too many; whether it was one."""
        if end := failures.end_by_losses(trial):
            self._write(end)
        return end is not None

    def _write(self, record: Record) -> None:
        record = replace(record, time=self._clock())
        self._journal.append(record)
        self._absorb(record)
        self.rungs.take(record)
        self.budget.take(record)
        self._listen(self, record)

    def _absorb(self, record: Record) -> None:
        trial = advance(self.trials, record)
        if trial is not None:
            (self._unfinished.add if trial.unfinished else self._unfinished.discard)(trial.number)
        self._supply.take(record)
