"""Studies on a virtual clock: workers that train made-up epochs of random length, in no time."""

import heapq
import random
from collections.abc import Callable
from itertools import count

from pipeline.config import Experiment
from pipeline.records import Record
from tune.journal import MemoryJournal
from tune.study import Study
from tune.supply import Assignment


class Clock:
    """Seconds since 1970, when a test says so."""

    def __init__(self, now: float = 1e9) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Executor:
    """Workers that train a study's trials; an epoch takes around 100 s, at random, or what `pace` says.

    Where checkpoints are not `kept`, a trial that goes on begins anew.
    """

    def __init__(
        self,
        study: Study,
        clock: Clock,
        workers: int,
        seed: int = 0,
        pace: Callable[[Study, int, float], float] | None = None,
        kept: bool = True,
    ) -> None:
        self._study, self._clock = study, clock
        self._draw, self._order = random.Random(seed), count()
        self._names = [f"w{seed}/{clock.now}/{number}" for number in range(workers)]
        self._idle = workers
        self._events: list[tuple[float, int, Assignment, int, float]] = []
        self._pace, self._kept = pace, kept
        self.longest_s = 0.0
        self.began: list[float] = []  # when each epoch began

    def run(self) -> None:
        """Until the study is complete."""
        self._study.held(self._names)
        while not self._study.complete:
            while self._idle and (assignment := self._study.next_trial()) is not None:
                decision = self._study.started(assignment.trial, assignment.attempt, "here", None, 1)
                if decision == "continue":
                    self._idle -= 1
                    known = len(self._study.trials[assignment.trial].epochs) if self._kept else 0
                    self._begin_epoch(assignment, known + 1)
            if not self._events:
                continue
            self._clock.now, _, assignment, epoch, seconds = heapq.heappop(self._events)
            self._study.held(self._names)
            self._end_epoch(assignment, epoch, seconds)
        self._study.held(())

    def _begin_epoch(self, assignment: Assignment, epoch: int) -> None:
        luck = self._draw.random()
        seconds = self._pace(self._study, assignment.trial, luck) if self._pace else 20 + 160 * luck
        self.longest_s = max(self.longest_s, seconds)
        self.began.append(self._clock.now)
        event = (self._clock.now + seconds, next(self._order), assignment, epoch, seconds)
        heapq.heappush(self._events, event)

    def _end_epoch(self, assignment: Assignment, epoch: int, seconds: float) -> None:
        study, trial, attempt = self._study, assignment.trial, assignment.attempt
        rmse = error(assignment.config.hash(), epoch)
        if study.epoch(trial, attempt, epoch, rmse, seconds) == "stop":
            self._idle += 1
        elif epoch == assignment.config.train.epochs:
            study.ended(trial, attempt, "completed")
            self._idle += 1
        else:
            self._begin_epoch(assignment, epoch + 1)


def error(name: str, epoch: int) -> float:
    """The RMSE in metres of a run after so many epochs."""
    return random.Random(name).uniform(2e-3, 8e-3) * (1 + 1 / epoch)


def ignore(study: Study, record: Record) -> None:
    """A listener that does not listen."""


def simulate(
    experiment: Experiment,
    workers: int,
    seed: int,
    pace: Callable[[Study, int, float], float] | None = None,
    kept: bool = True,
) -> tuple[Study, Clock, Executor]:
    """A whole study, from its beginning to its end."""
    clock = Clock()
    study = Study("s", experiment, MemoryJournal(), ignore, clock=clock)
    executor = Executor(study, clock, workers, seed, pace, kept)
    executor.run()
    return study, clock, executor
