"""The trials of a study in order of what they reached."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pipeline.spread import spreads
from pipeline.trials import TrialState


def best_first(trials: Iterable[TrialState]) -> list[TrialState]:
    """The search's trials that have a result and have not failed, lowest RMSE first."""
    found = (trial for trial in trials if trial.confirms is None and trial.status != "failed")
    scored = [(trial.best_rmse, trial.number, trial) for trial in found if trial.best_rmse is not None]
    return [trial for _, _, trial in sorted(scored, key=lambda entry: entry[:2])]


def most_trusted(trials: Mapping[int, TrialState]) -> TrialState | None:
    """The confirmed trial with the lowest mean, else the best one; None before there is one."""
    known = spreads(trials)
    confirmed = [trials[number] for number in known if trials[number].confirms is None]
    lowest = min(confirmed, key=lambda trial: (known[trial.number].mean, trial.number), default=None)
    return lowest or best_of(trials.values())


def best_of(trials: Iterable[TrialState]) -> TrialState | None:
    """The trial with the lowest RMSE that has not failed; None before there is one."""
    return next(iter(best_first(trials)), None)
