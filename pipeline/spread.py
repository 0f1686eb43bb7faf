"""What training a setting again with other seeds tells: the mean and spread of its error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import NamedTuple

from pipeline.trials import TrialState

SEEDS = 3  # runs that confirm a setting, beside the one it was chosen for


@dataclass(frozen=True)
class Spread:
    """The best RMSE of each of a setting's full runs: mean and sample deviation (metres), and how many."""

    mean: float
    std: float
    seeds: int


def spreads(trials: Mapping[int, TrialState]) -> dict[int, Spread]:
    """The spread of every setting with at least two confirming runs to the end, by the trials that have it.

    These are the runs that the mean is of, and the one that the setting was chosen for, which is no part of
    it: it was chosen for being low. A repeat that is still running, or was cut off, does not have it.
    """
    members: dict[int, list[TrialState]] = {}
    for trial in trials.values():
        if trial.confirms is not None:
            members.setdefault(trial.confirms, []).append(trial)
    found: dict[int, Spread] = {}
    for original, group in members.items():
        scores = {t.number: t.best_rmse for t in group if t.status == "completed" and t.best_rmse is not None}
        if len(scores) > 1:
            spread = Spread(fmean(scores.values()), stdev(scores.values()), len(scores))
            found |= dict.fromkeys((original, *scores), spread)
    return found


class Trusted(NamedTuple):
    """What is known of a setting's error; the lowest is the best, among equals a mean."""

    rmse: float  # metres: the mean over its seeds, or that of the one run
    one_run: bool


def trusted(trials: Mapping[int, TrialState], trial: TrialState) -> Trusted:
    """What is known of the setting of one of a study's trials."""
    spread = spreads(trials).get(trial.number)
    if spread is not None:
        return Trusted(spread.mean, one_run=False)
    return Trusted(math.inf if trial.best_rmse is None else trial.best_rmse, one_run=True)
