"""What a study may run next: a new trial, or a second chance for a stopped one, as the budget allows.

A fold over the journal; it decides, and the study writes down and remembers what runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pipeline.config import Experiment, RunConfig
from pipeline.records import Drawn, Record, Revived, TrialState
from tune.budget import Budget
from tune.chances import Chance, Chances
from tune.space import Outcome, Sampler, canonical, make_sampler

Trials = Mapping[int, TrialState]


class Supply:
    """The trials that a study has still to offer."""

    def __init__(
        self, study: str, experiment: Experiment, sampler: Sampler | None, clock: Callable[[], float]
    ) -> None:
        self.exhausted = False  # the space has no configuration left
        self.chances = Chances(experiment.search)
        self.budget = Budget(experiment.search, clock)
        self._study, self._search = study, experiment.search
        base = experiment.trial(experiment.seed)
        self._sampler = sampler or make_sampler(experiment.search, base)
        self._taken: set[str] = set()

    def take(self, record: Record) -> None:
        """One step of the fold."""
        self.chances.take(record)
        self.budget.take(record)
        if isinstance(record, Drawn):
            self._taken.add(canonical(record.values))

    def config(self, trial: TrialState) -> RunConfig:
        """What a trial trains."""
        return self._sampler.config(trial.values, trial.seed)

    def next(self, trials: Trials) -> Drawn | Revived | None:
        """A new trial, else a second chance; None if there is neither, or no budget for it."""
        return self.draw(trials) or self._revive()

    def is_empty(self, trials: Trials) -> bool:
        """Whether nothing is to come but what runs now."""
        return not self._may_draw(trials) and self._chance() is None

    def count(self, trials: Trials) -> int:
        """How many trials could be begun now, as far as that is known."""
        undrawn = max(self._search.trials - len(trials), 0) if self._may_draw(trials) else 0
        chances = self.chances.affordable() if self._chance() else 0
        return int(min(undrawn + chances, self.budget.trials(self._search.first_rung)))

    def affords(self, trial: TrialState) -> bool:
        """Whether a trial can reach its first rung, or another epoch, in what is left of the budget."""
        return self.budget.fits(max(self._search.first_rung - len(trial.epochs), 1))

    def affords_epoch(self, trial: TrialState) -> bool:
        """Whether another epoch of a trial that runs fits what is left of the budget."""
        return self.budget.fits(1, trial.seconds / len(trial.epochs))

    def draw(self, trials: Trials) -> Drawn | None:
        """A new trial; shows whether the space is exhausted."""
        if not self._may_draw(trials):
            return None
        number = len(trials)
        draw = self._sampler.draw(self._study, number, self._taken, self._outcomes(trials))
        self.exhausted = draw is None
        if draw is None:
            return None
        return Drawn(trial=number, values=draw.values, seed=draw.seed, source=draw.source)

    def _may_draw(self, trials: Trials) -> bool:
        """Whether a trial is left to draw that can reach its first rung."""
        none_left = self.exhausted or len(trials) >= self._search.trials
        return not none_left and self.budget.fits(self._search.first_rung)

    def _outcomes(self, trials: Trials) -> list[Outcome]:
        if self._search.sampler == "random":
            return []
        teaching = (t for t in trials.values() if t.status != "failed" or t.reason == "DIVERGED")
        return [Outcome(trial.values, self.chances.promise(trial)) for trial in teaching]

    def _revive(self) -> Revived | None:
        chance = self._chance()
        return Revived(trial=chance.trial, to_end=chance.to_end) if chance else None

    def _chance(self) -> Chance | None:
        chance = self.chances.next()
        return chance if chance is not None and self.budget.fits(chance.epochs) else None
