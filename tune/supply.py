"""What a study may run next, as the budget allows: a new trial, a second chance for a stopped one, or,
when all of them have ended, a run that confirms one of the best.

A fold over the journal; it decides, and the study writes down and remembers what runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipeline.config import Experiment, RunConfig
from pipeline.records import Drawn, Record, Revived, Warm
from pipeline.trials import TrialState
from tune.budget import Budget
from tune.chances import Chance, Chances
from tune.confirm import next_repeat, repeats_left
from tune.failures import teaches
from tune.ranking import best_first
from tune.space import Draw, Outcome, Sampler, Values, canonical, make_sampler, training_seed

Trials = Mapping[int, TrialState]


@dataclass(frozen=True)
class Assignment:
    """One attempt at one trial of a study: what a worker needs to train it."""

    study: str
    trial: int
    attempt: int
    config: RunConfig


class Supply:
    """The trials that a study has still to offer."""

    def __init__(self, study: str, experiment: Experiment, sampler: Sampler | None, budget: Budget) -> None:
        self.exhausted = False  # the space has no configuration left
        self.chances = Chances(experiment.search)
        self.budget = budget
        self._study, self._search, self._seed = study, experiment.search, experiment.seed
        base = experiment.trial(experiment.seed)
        self._sampler = sampler or make_sampler(experiment.search, base)
        self._warm: list[Values] = []  # settings of an earlier study, best first
        self._told: list[Outcome] = []  # what that one's trials promise
        self._taken: set[str] = set()
        self._drawn = 0  # trials of the search itself

    def take(self, record: Record) -> None:
        """One step of the fold."""
        self.chances.take(record)
        match record:
            case Warm():
                self._warm, self._told = record.best, told_by(record)
            case Drawn():
                self._drawn += record.confirms is None
                self._taken.add(canonical(record.values))

    def config(self, trial: TrialState) -> RunConfig:
        """What a trial trains."""
        return self._sampler.config(trial.values, trial.seed)

    def next(self, trials: Trials) -> Drawn | Revived | None:
        """A new trial, else a second chance, else a repeat; None if there is none, or no budget for it."""
        return self.draw(trials) or self._revive() or self._repeat(trials)

    def is_empty(self, trials: Trials) -> bool:
        """Whether nothing is to come but what runs now."""
        return not self._may_draw() and self._chance() is None and self._repeat(trials) is None

    def count(self, trials: Trials) -> int:
        """How many trials could be begun now, as far as that is known."""
        if self._repeat(trials) is not None:
            return repeats_left(trials, self._search.confirm)
        undrawn = self._search.trials - self._drawn if self._may_draw() else 0
        chances = self.chances.affordable() if self._chance() else 0
        return int(min(undrawn + chances, self.budget.trials(self._search.first_rung)))

    def affords(self, trial: TrialState) -> bool:
        """Whether a trial can reach its first rung, or another epoch, in what is left of the budget.

        One that confirms another is worth nothing before its end.
        """
        if trial.confirms is not None:
            return self.budget.fits(self._search.epochs - len(trial.epochs), confirming=True)
        return self.budget.fits(max(self._search.first_rung - len(trial.epochs), 1))

    def affords_epoch(self, trial: TrialState) -> bool:
        """Whether another epoch of a trial that runs fits what is left of the budget."""
        epoch_s = trial.seconds / len(trial.epochs)
        return self.budget.fits(1, epoch_s, confirming=trial.confirms is not None)

    def resumable(self, trials: Trials) -> list[int]:
        """The trials that a smaller budget has stopped and this one lets go on, best first."""
        stopped = [trial for trial in trials.values() if trial.reason == "BUDGET"]
        ranked = [trial.number for trial in best_first(stopped)]  # without those that confirm others
        others = [trial.number for trial in stopped if trial.number not in ranked]
        return [number for number in ranked + others if self.affords(trials[number])]

    def draw(self, trials: Trials) -> Drawn | None:
        """A new trial; shows whether the space is exhausted."""
        if not self._may_draw():
            return None
        number = len(trials)
        draw = self._draw_warm(number)
        draw = draw or self._sampler.draw(self._study, number, self._taken, self._outcomes(trials))
        self.exhausted = draw is None
        if draw is None:
            return None
        return Drawn(trial=number, values=draw.values, seed=draw.seed, source=draw.source)

    def _draw_warm(self, number: int) -> Draw | None:
        """The best setting of an earlier study that is left to try; trial 0 is the configured one."""
        left = [values for values in self._warm if canonical(values) not in self._taken]
        if not number or not left:
            return None
        return Draw(left[0], training_seed(self._seed, self._study, number), "warm")

    def _may_draw(self) -> bool:
        """Whether a trial is left to draw that can reach its first rung."""
        none_left = self.exhausted or self._drawn >= self._search.trials
        return not none_left and self.budget.fits(self._search.first_rung)

    def _outcomes(self, trials: Trials) -> list[Outcome]:
        if self._search.sampler == "random":
            return []
        return [*self._told, *outcomes(trials.values(), self.chances)]

    def _revive(self) -> Revived | None:
        chance = self._chance()
        return Revived(trial=chance.trial, to_end=chance.to_end) if chance else None

    def _chance(self) -> Chance | None:
        chance = self.chances.next()
        return chance if chance is not None and self.budget.fits(chance.epochs) else None

    def _repeat(self, trials: Trials) -> Drawn | None:
        """The next run that confirms one of the best; none before the search itself is over."""
        if not self._search.confirm or self._may_draw() or self._chance() is not None:
            return None
        if any(trial.unfinished and trial.confirms is None for trial in trials.values()):
            return None
        if not self.budget.fits(self._search.epochs, confirming=True):
            return None
        return next_repeat(trials, self._search.confirm)


def outcomes(trials: Iterable[TrialState], chances: Chances) -> list[Outcome]:
    """What a sampler is told of a study's own trials."""
    teaching = (trial for trial in trials if trial.confirms is None and teaches(trial))
    return [Outcome(trial.values, chances.promise(trial)) for trial in teaching]


def told_by(record: Warm) -> list[Outcome]:
    """What a sampler is told of an earlier study's trials."""
    promises = ((entry["values"], entry["promise"]) for entry in record.told)
    return [Outcome(values, math.inf if promise is None else promise) for values, promise in promises]
