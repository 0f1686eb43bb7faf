"""Keeps the disk bounded: which checkpoints of a study's trials are worth their space."""

from __future__ import annotations

from collections.abc import Container, Iterable
from pathlib import Path

from pipeline.paths import StudyPaths
from pipeline.trials import TrialState
from tune.ranking import best_first


def prune(paths: StudyPaths, trials: Iterable[TrialState], keep: int, in_line: Container[int] = ()) -> None:
    """Removes what no trial needs any more; unfinished trials keep all.

    An ended trial needs no state to resume from, unless it was stopped and is `in_line` to go on, or waits
    for a larger budget; one that gets a second chance without that begins anew. Its best weights stay if it
    was completed or is one of the `keep` best of the study. A trial that drops out of those never comes back,
    as the others only improve.
    """
    trials = list(trials)
    best = {trial.number for trial in best_first(trials)[:keep]}
    for trial in trials:
        if trial.unfinished:
            continue
        run = paths.trial(trial.number)
        if trial.number not in in_line and trial.reason != "BUDGET":
            _remove(run.latest)
        if trial.status != "completed" and trial.number not in best:
            _remove(run.best)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
