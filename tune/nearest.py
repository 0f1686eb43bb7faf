"""TPE for a replay, which can only train what is in its table: the setting nearest to what TPE asks for.

A column of numbers with more than a handful of values is a range, logarithmic if it spans a factor of ten;
any other column is a choice.
"""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from tune.curves import Table
from tune.policies import Shuffled
from tune.space import Draw, Outcome, canonical
from tune.tpe import STARTUP, as_trial, ask

MAX_CHOICES = 6
LOG_SPAN = 10.0


class NearestToTpe(Shuffled):
    """The first draws at random, then TPE's."""

    def __init__(self, table: Table, seed: int) -> None:
        super().__init__(table, seed)
        self._seed = seed
        columns = {key: [curve.values[key] for curve in table.curves] for key in table.curves[0].values}
        self._distributions = {key: as_distribution(values) for key, values in columns.items()}
        self._settings = [
            {key: typed(self._distributions[key], value) for key, value in curve.values.items()}
            for curve in table.curves
        ]

    def draw(
        self, study: str, number: int, taken: Container[str], known: Sequence[Outcome] = ()
    ) -> Draw | None:
        """The setting that is nearest to TPE's among those not drawn yet."""
        drawn = super().draw(study, number, taken, known)
        judged = sum(outcome.promise is not None for outcome in known)
        if drawn is None or judged < STARTUP:
            return drawn
        told = [
            as_trial(self._settings[outcome.values["setting"]], self._distributions, outcome.promise)
            for outcome in known
        ]
        asked = ask(told, self._distributions, seed=1000 * self._seed + number)
        free = [n for n in range(len(self._settings)) if canonical({"setting": n}) not in taken]
        nearest = min(free, key=lambda setting: self._distance(self._settings[setting], asked))
        return Draw({"setting": nearest}, 0, "tpe")

    def _distance(self, one: dict[str, Any], other: dict[str, Any]) -> float:
        return sum(distance(entry, one[key], other[key]) for key, entry in self._distributions.items())


def as_distribution(values: Sequence[Any]) -> BaseDistribution:
    """What Optuna is to draw for a column with these values."""
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        numbers = []
    if len(set(numbers)) <= MAX_CHOICES:
        return CategoricalDistribution(sorted(set(values), key=str))
    low, high = min(numbers), max(numbers)
    return FloatDistribution(low, high, log=low > 0 and high / low >= LOG_SPAN)


def typed(distribution: BaseDistribution, value: Any) -> Any:
    """A value of the table as the distribution has it."""
    return float(value) if isinstance(distribution, FloatDistribution) else value


def distance(distribution: BaseDistribution, one: Any, other: Any) -> float:
    """From 0, equal, to 1, another choice or the other end of the range."""
    if not isinstance(distribution, FloatDistribution):
        return float(one != other)
    scale = math.log if distribution.log else float
    span = scale(distribution.high) - scale(distribution.low)
    return abs(scale(one) - scale(other)) / span if span else 0.0
