"""The trials of a study in order of what they reached."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.records import TrialState


def best_first(trials: Iterable[TrialState]) -> list[TrialState]:
    """The trials that have a result and have not failed, lowest RMSE first."""
    scored = [(t.best_rmse, t.number, t) for t in trials if t.best_rmse is not None and t.status != "failed"]
    return [trial for _, _, trial in sorted(scored, key=lambda entry: entry[:2])]


def best_of(trials: Iterable[TrialState]) -> TrialState | None:
    """The trial with the lowest RMSE that has not failed; None before there is one."""
    return next(iter(best_first(trials)), None)
