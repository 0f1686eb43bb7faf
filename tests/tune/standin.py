"""Training and workers that are played: a study executed in one process, as Ray executes it."""

import random
from dataclasses import dataclass, field

from pipeline.config import RunConfig
from tune.study import Study
from tune.supply import Assignment

TRIP = 0.5  # how far a curve leaves its course at the worst, so that ranks change
DIVERGING = 0.1  # of all settings
DEADLY, FATAL_EPOCH = 4, 2  # one trial in so many loses its first worker then


def diverges(config: RunConfig) -> bool:
    """Whether a setting ends in a nan."""
    return random.Random(config.hash()).random() < DIVERGING


def curve(config: RunConfig, epoch: int) -> float:
    """A made-up validation RMSE in metres that depends on the configuration only."""
    draw = random.Random(f"curve of {config.hash()}")
    quality, slope = draw.uniform(2e-3, 8e-3), draw.uniform(0.3, 3.0)
    return quality * (1 + slope / epoch + TRIP * random.Random(f"{quality}/{epoch}").random())


@dataclass
class Crew:
    """Workers who train what a study gives out; a trial that goes on is reported from its first epoch on.

    As Ray does, they ask for one trial more than they are. `draw` decides whose turn it is. Every fourth
    trial costs one of them.
    """

    study: Study
    workers: int
    draw: random.Random = field(default_factory=lambda: random.Random(0))

    def __post_init__(self) -> None:
        self._next: list[Assignment] = []
        self._at_work: list[tuple[Assignment, int]] = []  # and the epoch that comes next

    def work(self) -> None:
        """Trains until the study is complete."""
        while not self.study.complete:
            self._ask()
            self._start()
            self._train_an_epoch()

    def _ask(self) -> None:
        while self.study.active <= self.workers and (assignment := self.study.next_trial()) is not None:
            self._next.append(assignment)

    def _start(self) -> None:
        while self._next and len(self._at_work) < self.workers:
            assignment = self._next.pop(0)
            self.study.started(assignment.trial, assignment.attempt, "here", None, 1)
            self._at_work.append((assignment, 1))

    def _train_an_epoch(self) -> None:
        assignment, epoch = self._at_work.pop(self.draw.randrange(len(self._at_work)))
        trial, attempt = assignment.trial, assignment.attempt
        config = assignment.config
        if self._is_fatal(trial, epoch):
            self.study.lost(trial, attempt, "killed")
        elif epoch > config.train.epochs:
            self.study.ended(trial, attempt, "completed")
        elif diverges(config):
            self.study.ended(trial, attempt, "failed", "DIVERGED", "the loss is nan")
        elif self.study.epoch(trial, attempt, epoch, curve(config, epoch), 1.0) == "continue":
            self._at_work.append((assignment, epoch + 1))

    def _is_fatal(self, trial: int, epoch: int) -> bool:
        return trial % DEADLY == 0 and epoch == FATAL_EPOCH and not self.study.trials[trial].losses
