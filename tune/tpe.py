"""Draws trials where earlier ones did well: Optuna's tree-structured Parzen estimator (TPE).

Bergstra et al., Algorithms for Hyper-Parameter Optimization, NeurIPS 2011. Every draw asks a fresh sampler
that is told what the study knows at that moment, so that it depends on the seed, the trial's number and the
journal, and on nothing that lives elsewhere. A trial is worth what it promises at its last rung
(tune.chances); one that has not reached a rung is told as running, so that not all go to the same place.
"""

from __future__ import annotations

import warnings
from collections.abc import Container, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from pipeline.config import Choice, Distribution, LogUniform, Uniform
from tune.space import Draw, Outcome, Space, Values, canonical

STARTUP = 10  # trials drawn at random first, as many as Optuna's default
HOPELESS_M = 1.0  # what a diverged trial is told to be worth, metres; far above any error


class TpeSpace(Space):
    """A space whose later trials are drawn by TPE."""

    def draw(
        self, study: str, number: int, taken: Container[str], known: Sequence[Outcome] = ()
    ) -> Draw | None:
        """Trial `number`: at random until enough trials have a result, and where TPE repeats itself."""
        drawn = super().draw(study, number, taken)
        judged = sum(outcome.promise is not None for outcome in known)
        if drawn is None or number == 0 or judged < STARTUP:
            return drawn
        values = self._asked(drawn.seed, known)
        return drawn if canonical(values) in taken else Draw(values, drawn.seed, "tpe")

    def _asked(self, seed: int, known: Sequence[Outcome]) -> Values:
        distributions = {key: as_optuna(entry) for key, entry in self.distributions.items()}
        told = [self._told(outcome, distributions) for outcome in known]
        asked = ask([trial for trial in told if trial is not None], distributions, seed)
        drawn = {key: self._from_optuna(key, value) for key, value in asked.items()}
        return self.resolved({key: self.typed(key, value) for key, value in drawn.items()})

    def _told(self, outcome: Outcome, distributions: dict[str, BaseDistribution]) -> FrozenTrial | None:
        """An outcome as Optuna's trial; None if its values lie outside the space, as configured ones may."""
        params = {key: self._to_optuna(key, value) for key, value in outcome.values.items()}
        inside = all(contains(distributions[key], value) for key, value in params.items())
        return as_trial(params, distributions, outcome.promise) if inside else None

    def _to_optuna(self, key: str, value: Any) -> Any:
        """A choice as its place in the list, as Optuna wants plain values; a number within the bounds."""
        match self.distributions[key]:
            case Choice(choice=options):
                resolved = [self.resolved({key: option})[key] for option in options]
                return resolved.index(value) if value in resolved else -1
            case LogUniform(log_uniform=(low, high)) | Uniform(uniform=(low, high)):
                return min(max(float(value), low), high)

    def _from_optuna(self, key: str, value: Any) -> Any:
        entry = self.distributions[key]
        return entry.choice[value] if isinstance(entry, Choice) else value


def as_optuna(entry: Distribution) -> BaseDistribution:
    """A distribution of the space as Optuna's."""
    match entry:
        case LogUniform(log_uniform=(low, high)):
            return FloatDistribution(low, high, log=True)
        case Uniform(uniform=(low, high)):
            return FloatDistribution(low, high)
        case Choice(choice=options):
            return CategoricalDistribution(range(len(options)))


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a value can be told to Optuna."""
    return not isinstance(distribution, CategoricalDistribution) or value in distribution.choices


def as_trial(
    params: dict[str, Any], distributions: dict[str, BaseDistribution], promise: float | None
) -> FrozenTrial:
    """What is known of a trial: the error it promises (metres), or None if it runs."""
    state = TrialState.RUNNING if promise is None else TrialState.COMPLETE
    value = None if promise is None else min(promise, HOPELESS_M)
    return create_trial(state=state, value=value, params=params, distributions=distributions)


def ask(told: Sequence[FrozenTrial], distributions: dict[str, BaseDistribution], seed: int) -> dict[str, Any]:
    """TPE's next parameters after what it was told."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = TPESampler(multivariate=True, constant_liar=True, n_startup_trials=STARTUP, seed=seed)
    study = optuna.create_study(sampler=sampler)
    study.add_trials(told)
    asked: dict[str, Any] = study.ask(distributions).params
    return asked
