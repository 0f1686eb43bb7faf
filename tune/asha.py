"""Asynchronous successive halving (ASHA, Li et al., arXiv:1810.05934), as a fold over the journal.

Ray Tune has the same scheduler, but keeps its rungs in memory only and forgets them when a search is
restored. These rungs can be rebuilt from the journal, replayed and tested on their own; that they decide as
Ray's do is a test. No Ray here.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.config import SearchConfig
from pipeline.records import Decision, Drawn, Epoch, Record, Revived


@dataclass(frozen=True)
class Verdict:
    """Go on or stop, and the rung (from 1) at which that was decided; None between rungs."""

    decision: Decision
    rung: int | None


GO_ON = Verdict("continue", None)


@dataclass
class Rung:
    """The trials judged at one epoch: their scores (minus the RMSE in metres), ascending."""

    scores: list[float] = field(default_factory=list)
    trials: set[int] = field(default_factory=set)

    def add(self, trial: int, score: float) -> None:
        """Enters a trial in O(log n)."""
        self.trials.add(trial)
        insort(self.scores, score)


class Rungs:
    """All rungs of a study, at grace x reduction^i epochs below `epochs`.

    A trial survives a rung if it scores at least the (1 - 1/reduction) quantile of those that were there
    before it; the first one survives. A trial whose RMSE is not finite does not, and is not entered.
    """

    def __init__(self, epochs: int, grace: int, reduction: int) -> None:
        self.milestones = milestones(epochs, grace, reduction)
        self._reduction = reduction
        self._rungs = {epoch: Rung() for epoch in self.milestones}
        self._spared: set[int] = set()
        self._exempt: set[int] = set()

    @classmethod
    def of(cls, search: SearchConfig) -> Rungs:
        """Empty rungs where a study's configuration puts them."""
        return cls(search.epochs, search.first_rung, search.reduction)

    @classmethod
    def from_journal(cls, search: SearchConfig, records: Iterable[Record]) -> Rungs:
        """The rungs as the records left them. Decisions on record stand; they are not made again."""
        rungs = cls.of(search)
        for record in records:
            if isinstance(record, Epoch):
                rungs.decide(record.trial, record.epoch, record.rmse)
            rungs.take(record)
        return rungs

    def take(self, record: Record) -> None:
        """Spares a trial that is to run to its end; one that confirms another is not even judged."""
        if isinstance(record, Drawn) and record.confirms is not None:
            self._exempt.add(record.trial)
        if isinstance(record, Revived) and record.to_end:
            self._spared.add(record.trial)

    def decide(self, trial: int, epoch: int, rmse: float) -> Verdict:
        """Judges a trial's epoch (RMSE in metres) and enters it in the rung, once."""
        rung = self._rungs.get(epoch)
        if rung is None or trial in rung.trials or trial in self._exempt:
            return GO_ON
        number = self.milestones.index(epoch) + 1
        if not math.isfinite(rmse):
            return Verdict("stop", number)
        cutoff = quantile(rung.scores, 1 - 1 / self._reduction) if rung.scores else -math.inf
        rung.add(trial, -rmse)
        survives = -rmse >= cutoff or trial in self._spared
        return Verdict("continue" if survives else "stop", number)


def milestones(epochs: int, grace: int, reduction: int) -> list[int]:
    """The epochs at which trials are judged, ascending; at the last one nothing is left to save."""
    found = []
    while grace < epochs:
        found.append(grace)
        grace *= reduction
    return found


def quantile(ascending: list[float], fraction: float) -> float:
    """The linearly interpolated quantile of sorted numbers, rounded as numpy.percentile rounds it."""
    position = (len(ascending) - 1) * fraction
    below = math.floor(position)
    weight = position - below
    low, high = ascending[below], ascending[min(below + 1, len(ascending) - 1)]
    return low + (high - low) * weight if weight < 0.5 else high - (high - low) * (1 - weight)
