"""A study on a virtual clock: workers train recorded curves, in no time.

The study is the real one (tune.study), its journal in memory; what Ray and the workers do is played here: an
epoch takes the seconds that it took when it was recorded, workers may be lost or come late. No Ray, no
processes. All randomness comes from one seed.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from pipeline.trials import TrialState
from tune.curves import Curve, Metric, Table
from tune.study import Study
from tune.supply import Assignment


@dataclass(frozen=True)
class Cluster:
    """The workers: how many, the chance that one is lost in an epoch, the mean wait for one in seconds."""

    workers: int
    loss_rate: float = 0.0
    queue_wait_s: float = 0.0


@dataclass(frozen=True)
class Find:
    """A better network was found: its error (metres), after how many epochs, worker-seconds and seconds."""

    rmse: float
    epochs: int
    worker_seconds: float
    clock: float


@dataclass
class Trace:
    """What a simulated search did. Epochs and worker-seconds count lost and repeated work too."""

    finds: list[Find] = field(default_factory=list)
    epochs: int = 0
    worker_seconds: float = 0.0
    clock: float = 0.0
    present_seconds: float = 0.0  # workers that were there, busy or not

    def trained(self, seconds: float, rmse: float) -> None:
        """Takes an epoch that has ended now with that error."""
        self.epochs += 1
        self.worker_seconds += seconds
        if rmse < (self.finds[-1].rmse if self.finds else math.inf):
            self.finds.append(Find(rmse, self.epochs, self.worker_seconds, self.clock))


@dataclass(frozen=True)
class Work:
    """A trial on a worker, in its next epoch (from 1)."""

    assignment: Assignment
    curve: Curve
    epoch: int


class Simulation:
    """Runs a study over a table's curves; the study judges by `metric`, networks are kept by the best one."""

    def __init__(self, study: Study, table: Table, metric: Metric, cluster: Cluster, seed: int) -> None:
        self.trace = Trace()
        self._study, self._table, self._cluster = study, table, cluster
        self._judged = [curve.metric(metric) for curve in table.curves]
        self._kept = [curve.metric("best") for curve in table.curves]
        self._draw = random.Random(seed)
        self._order = count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._saved: set[int] = set()  # stopped trials whose checkpoints nobody has removed
        self._stopped: set[int] = set()
        self._idle = 0
        self._present = 0

    def run(self) -> Trace:
        """Plays until the study is complete."""
        for _ in range(self._cluster.workers):
            self._send_for_worker()
        while self._events and not self._study.complete:
            clock, _, happen = heapq.heappop(self._events)
            self.trace.present_seconds += self._present * (clock - self.trace.clock)
            self.trace.clock = clock
            happen()
            self._give_out()
        return self.trace

    def _after(self, seconds: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.trace.clock + seconds, next(self._order), happen))

    def _send_for_worker(self) -> None:
        mean = self._cluster.queue_wait_s
        self._after(self._draw.expovariate(1 / mean) if mean else 0.0, self._worker_arrives)

    def _worker_arrives(self) -> None:
        self._present += 1
        self._idle += 1

    def _give_out(self) -> None:
        while self._idle and (assignment := self._study.next_trial()) is not None:
            self._idle -= 1
            trial = self._study.trials[assignment.trial]
            self._study.started(trial.number, assignment.attempt, "simulated", None, 0)
            curve = self._table.curves[trial.values["setting"]]
            self._train(Work(assignment, curve, self._first_epoch(trial)))

    def _first_epoch(self, trial: TrialState) -> int:
        """Where a trial goes on: at its beginning if it was stopped and its checkpoint is gone."""
        lives = trial.number not in self._stopped or trial.number in self._saved
        self._stopped.discard(trial.number)
        return len(trial.epochs) + 1 if lives else 1

    def _stop(self, trial: int) -> None:
        """Keeps the checkpoints that tune.prune would."""
        self._stopped.add(trial)
        self._saved = (self._saved | {trial}) & set(self._study.in_line())

    def _train(self, work: Work) -> None:
        """Begins an epoch, at whose end, or in the middle of which, something will happen."""
        seconds = work.curve.seconds[work.epoch - 1]
        if self._cluster.loss_rate and self._draw.random() < self._cluster.loss_rate:
            lived = self._draw.random() * seconds
            self._after(lived, lambda: self._lose(work, lived))
        else:
            self._after(seconds, lambda: self._end_epoch(work, seconds))

    def _lose(self, work: Work, lived: float) -> None:
        self.trace.worker_seconds += lived
        self._present -= 1
        self._send_for_worker()
        self._study.lost(work.assignment.trial, work.assignment.attempt, "lost", counted=False)

    def _end_epoch(self, work: Work, seconds: float) -> None:
        trial, attempt = work.assignment.trial, work.assignment.attempt
        setting = self._study.trials[trial].values["setting"]
        rmse = self._judged[setting][work.epoch - 1]
        self.trace.trained(seconds, self._kept[setting][work.epoch - 1])
        if math.isnan(rmse):
            self._study.ended(trial, attempt, "failed", "DIVERGED")
            self._idle += 1
        elif self._study.epoch(trial, attempt, work.epoch, rmse, seconds) == "stop":
            self._stop(trial)
            self._idle += 1
        elif work.epoch == self._table.epochs:
            self._study.ended(trial, attempt, "completed")
            self._idle += 1
        else:
            self._train(Work(work.assignment, work.curve, work.epoch + 1))
