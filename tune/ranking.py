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
    return next(iter(trusted_first(trials)), None)


def trusted_first(trials: Mapping[int, TrialState]) -> list[TrialState]:
    """Those of the search with a result: the confirmed ones by their mean, then the others, best first."""
    known = spreads(trials)
    ranked = best_first(trials.values())
    confirmed = sorted(
        (trial for trial in ranked if trial.number in known),
        key=lambda trial: (known[trial.number].mean, trial.number),
    )
    return confirmed + [trial for trial in ranked if trial.number not in known]
