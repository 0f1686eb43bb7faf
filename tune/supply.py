"""What a study may run next, as the budget allows: a new trial, a second chance for a stopped one, or,
when all of them have ended, a run that confirms one of the best.

A fold over the journal; it decides, and the study writes down and remembers what runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from pipeline.config import Experiment, RunConfig
from pipeline.records import Drawn, Record, Revived, Warm
from pipeline.trials import TrialState
from tune.budget import Budget
from tune.chances import Chance, Chances
from tune.confirm import Confirming
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
    """What a study has still to offer; `trials` are its trials as the study knows them."""

    def __init__(
        self, study: str, experiment: Experiment, sampler: Sampler | None, budget: Budget, trials: Trials
    ) -> None:
        self.exhausted = False  # the space has no configuration left
        self.chances = Chances(experiment.search)
        self.budget = budget
        self._trials = trials
        self._study, self._search, self._seed = study, experiment.search, experiment.seed
        base = experiment.trial(experiment.seed)
        self._sampler = sampler or make_sampler(experiment.search, base)
        self._warm: list[Values] = []  # settings of an earlier study, best first
        self._told: list[Outcome] = []  # what that one's trials promise
        self._taken: set[str] = set()
        self._drawn = 0  # trials of the search itself
        self._confirming = Confirming(experiment.search, budget, trials)

    def take(self, record: Record) -> None:
        """One step of the fold, after the trials have taken it."""
        self.chances.take(record)
        self._confirming.take(record)
        match record:
            case Warm():
                self._warm, self._told = record.best, told_by(record)
            case Drawn():
                self._drawn += record.confirms is None
                self._taken.add(canonical(record.values))

    def config(self, trial: TrialState) -> RunConfig:
        """What a trial trains."""
        return self._sampler.config(trial.values, trial.seed)

    def next(self) -> Drawn | Revived | None:
        """A new trial, else a second chance, else a repeat; None if there is none, or no budget for it."""
        return self.draw() or self._revive() or self._repeat()

    def is_empty(self) -> bool:
        """Whether nothing is to come but what runs now."""
        return not self._may_draw() and self._chance() is None and self._repeat() is None

    def count(self) -> int:
        """How many trials could be begun now, as far as that is known."""
        if self._repeat() is not None:
            return self._confirming.undrawn
        undrawn = self._search.trials - self._drawn if self._may_draw() else 0
        chances = self.chances.affordable(self._room) if self._confirming.lets_search() else 0
        return int(min(undrawn + chances, self.budget.trials(self._search.first_rung)))

    def affords(self, trial: TrialState) -> bool:
        """Whether a trial can reach its first rung, or another epoch, in what is left of the budget.

        One that confirms another is worth nothing before its end.
        """
        if trial.confirms is not None:
            epochs = self._search.epochs - len(trial.epochs)
            return self.budget.fits(epochs, self._trials[trial.confirms].epoch_s, confirming=True)
        return self.budget.fits(max(self._search.first_rung - len(trial.epochs), 1))

    def affords_epoch(self, trial: TrialState) -> bool:
        """Whether another epoch of a trial that runs fits what is left of the budget."""
        return self.budget.fits(1, trial.epoch_s, confirming=trial.confirms is not None)

    def resumable(self) -> list[int]:
        """The trials that a smaller budget has stopped and this one lets go on, best first.

        Where confirming has begun, only what belongs to that.
        """
        stopped = [trial for trial in self._trials.values() if trial.reason == "BUDGET"]
        ranked = [trial.number for trial in best_first(stopped)]  # without those that confirm others
        others = [trial.number for trial in stopped if trial.number not in ranked]
        return [
            number
            for number in ranked + others
            if (number not in ranked or self._confirming.lets_search()) and self.affords(self._trials[number])
        ]

    def draw(self) -> Drawn | None:
        """A new trial; shows whether the space is exhausted."""
        if not self._may_draw():
            return None
        number = len(self._trials)
        draw = self._draw_warm(number)
        draw = draw or self._sampler.draw(self._study, number, self._taken, self._outcomes())
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
        return not none_left and self._confirming.lets_search() and self.budget.fits(self._search.first_rung)

    def _outcomes(self) -> list[Outcome]:
        if self._search.sampler == "random":
            return []
        return [*self._told, *outcomes(self._trials.values(), self.chances)]

    def _revive(self) -> Revived | None:
        chance = self._chance()
        return Revived(trial=chance.trial, to_end=chance.to_end) if chance else None

    def _chance(self) -> Chance | None:
        if not self._confirming.lets_search():
            return None
        return self.chances.next(self._room)

    @property
    def _room(self) -> Callable[[Chance], bool] | None:
        return self._fits if self.budget.limited else None

    def _fits(self, chance: Chance) -> bool:
        """Whether the budget has room for a chance; without a checkpoint a trial begins anew."""
        trial = self._trials[chance.trial]
        done = 0 if chance.trial in self.chances.in_line(self._search.keep) else len(trial.epochs)
        return self.budget.fits(done + chance.epochs, trial.epoch_s)

    def _repeat(self) -> Drawn | None:
        """The next run that confirms one of the best; none before the search itself is over."""
        if not self._confirming.undrawn or self._may_draw() or self._chance() is not None:
            return None
        if any(trial.unfinished and trial.confirms is None for trial in self._trials.values()):
            return None
        return self._confirming.next()


def outcomes(trials: Iterable[TrialState], chances: Chances) -> list[Outcome]:
    """What a sampler is told of a study's own trials."""
    teaching = (trial for trial in trials if trial.confirms is None and teaches(trial))
    return [Outcome(trial.values, chances.promise(trial)) for trial in teaching]


def told_by(record: Warm) -> list[Outcome]:
    """What a sampler is told of an earlier study's trials."""
    promises = ((entry["values"], entry["promise"]) for entry in record.told)
    return [Outcome(values, math.inf if promise is None else promise) for values, promise in promises]
