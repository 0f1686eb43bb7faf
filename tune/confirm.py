"""Runs that confirm the best of a search: the same settings with other seeds, to their end.

A search picks the lowest of many errors, which is lower than that setting deserves. The mean over SEEDS
seeds tells what it is worth; the spread tells whether the next one is any worse. Which trials are confirmed
is a function of the journal: the best of those the search has ended with. No Ray here.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Collection, Iterator, Mapping

from pipeline.records import Drawn
from pipeline.spread import SEEDS
from pipeline.trials import TrialState
from tune.ranking import best_first
from tune.space import MAX_SEED


def next_repeat(trials: Mapping[int, TrialState], top: int) -> Drawn | None:
    """The next run to confirm one of the best `top` trials; None if each has all of its runs."""
    for original, drawn in _missing(trials, top):
        return Drawn(
            trial=len(trials),
            values=original.values,
            seed=fresh_seed(original.seed, drawn + 1),
            source="confirm",
            confirms=original.number,
        )
    return None


def repeats_left(trials: Mapping[int, TrialState], top: int) -> int:
    """How many runs are still to be drawn."""
    return sum(SEEDS - drawn for _, drawn in _missing(trials, top))


def seconds_left(trials: Mapping[int, TrialState], top: int, epochs: int, epoch_s: float) -> list[float]:
    """What each run that is to confirm one of the best has still to train, and an epoch for delays.

    `epoch_s` is what epochs take where that is not known.
    """
    running = (trial for trial in trials.values() if trial.confirms is not None and trial.unfinished)
    left = [(epochs + 1 - len(trial.epochs)) * (pace(trial, trials) or epoch_s) for trial in running]
    for original, drawn in _missing(trials, top):
        left += [(epochs + 1) * (original.epoch_s or epoch_s)] * (SEEDS - drawn)
    return left


def pace(trial: TrialState, trials: Mapping[int, TrialState]) -> float | None:
    """Seconds of an epoch of a trial; while it has none, of the trial that it confirms. None if unknown."""
    if trial.epoch_s is None and trial.confirms is not None:
        return trials[trial.confirms].epoch_s
    return trial.epoch_s


def in_rounds(seconds: Collection[float], workers: int) -> float:
    """How long so many workers take at most for runs of so many seconds each, where all begin together."""
    return math.ceil(len(seconds) / workers) * max(seconds, default=0.0)


def _missing(trials: Mapping[int, TrialState], top: int) -> Iterator[tuple[TrialState, int]]:
    """The trials to confirm that lack runs, and how many each has been given."""
    if not top:
        return
    given = Counter(trial.confirms for trial in trials.values())
    for original in best_first(trials.values())[:top]:
        if given[original.number] < SEEDS:
            yield original, given[original.number]


def fresh_seed(seed: int, repeat: int) -> int:
    """The seed of a trial's nth repeat."""
    return random.Random(f"{seed}/{repeat}").randrange(MAX_SEED)
