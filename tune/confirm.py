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

from pipeline.config import SearchConfig
from pipeline.records import Drawn, Record
from pipeline.spread import SEEDS
from pipeline.trials import TrialState
from tune.budget import Budget
from tune.ranking import best_first
from tune.space import MAX_SEED


class Confirming:
    """Which runs are to confirm the best of a search, and the time that a budget keeps for them.

    A search ends while there is time for that. Once its best are being confirmed, it goes on only if
    somebody has given it more time, and enough to confirm what it may find then.
    """

    def __init__(self, search: SearchConfig, budget: Budget, trials: Mapping[int, TrialState]) -> None:
        self._search, self._budget, self._trials = search, budget, trials
        self._repeats: list[TrialState] = []
        self._best: list[TrialState] | None = None  # those to confirm, as long as nothing happens
        self._reserves: dict[int, float] = {}  # workers: seconds, likewise
        budget.keep(self.reserve_s)

    def take(self, record: Record) -> None:
        """One step of the fold, after the trials have taken it."""
        self._best = None
        self._reserves.clear()
        if isinstance(record, Drawn) and record.confirms is not None:
            self._repeats.append(self._trials[record.trial])

    @property
    def undrawn(self) -> int:
        """How many runs the present best lack."""
        return sum(count for _, count in self._missing())

    def next(self) -> Drawn | None:
        """The next run; None if each of the best has all of its own, or the budget has no room for it."""
        for original, count in self._missing():
            if not self._budget.fits(self._search.epochs, original.epoch_s, confirming=True):
                return None
            return Drawn(
                trial=len(self._trials),
                values=original.values,
                seed=fresh_seed(original.seed, SEEDS - count + 1),
                source="confirm",
                confirms=original.number,
            )
        return None

    def lets_search(self) -> bool:
        """Whether there may be new trials and second chances beside it; always, without a budget."""
        if not self._repeats or not self._budget.limited:
            return True
        if self._under_way() or self.undrawn:
            return False
        return self._budget.seconds_left() > self._another_s(self._budget.crew)

    def reserve_s(self, workers: int) -> float:
        """How long so many workers take for what has still to be confirmed."""
        if not self._search.confirm:
            return 0.0
        if workers not in self._reserves:
            left = in_rounds(self._left_s(), workers) if self._repeats else self._another_s(workers)
            self._reserves[workers] = left
        return self._reserves[workers]

    def _top(self) -> list[TrialState]:
        """The best trials, as many as are to be confirmed."""
        if self._best is None:
            self._best = best_first(self._trials.values())[: self._search.confirm]
        return self._best

    def _missing(self) -> Iterator[tuple[TrialState, int]]:
        """Those of the best that lack runs, and how many."""
        given = Counter(repeat.confirms for repeat in self._repeats)
        for original in self._top():
            if given[original.number] < SEEDS:
                yield original, SEEDS - given[original.number]

    def _under_way(self) -> list[TrialState]:
        """The runs that have not come to their end, for which there may be more time now."""
        return [repeat for repeat in self._repeats if repeat.unfinished or repeat.reason == "BUDGET"]

    def _left_s(self) -> list[float]:
        """What each run has still to train."""
        begun = [
            self._run_s(self._trials[repeat.confirms], len(repeat.epochs))
            for repeat in self._under_way()
            if repeat.confirms is not None
        ]
        return begun + [self._run_s(original) for original, count in self._missing() for _ in range(count)]

    def _another_s(self, workers: int) -> float:
        """How long so many workers take to confirm the best from the beginning, whichever they will be."""
        failed = sum(trial.confirms is None and trial.status == "failed" for trial in self._trials.values())
        count = min(self._search.confirm, self._search.trials - failed)
        run_s = max(map(self._run_s, self._top()), default=self._run_s())
        return in_rounds([run_s] * (SEEDS * count), workers)

    def _run_s(self, original: TrialState | None = None, done: int = 0) -> float:
        """Seconds of a run with a trial's setting, after so many epochs; and an epoch for delays."""
        epoch_s = original.epoch_s if original else None
        return (self._search.epochs + 1 - done) * (self._budget.epoch_s if epoch_s is None else epoch_s)


def in_rounds(seconds: Collection[float], workers: int) -> float:
    """How long so many workers take at most for runs of so many seconds each, where all begin together."""
    return math.ceil(len(seconds) / workers) * max(seconds, default=0.0)


def fresh_seed(seed: int, repeat: int) -> int:
    """The seed of a trial's nth repeat."""
    return random.Random(f"{seed}/{repeat}").randrange(MAX_SEED)
