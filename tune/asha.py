"""Asynchronous successive halving (ASHA, Li et al., arXiv:1810.05934), as a fold over the journal.

Ray Tune has the same scheduler, but keeps its rungs in memory only and forgets them when a search is
restored. These rungs can be rebuilt from the journal, replayed and tested on their own; that they decide as
Ray's do is a test.

Where stopped trials get second chances, a trial that survived a rung is stopped between rungs once others
have overtaken it there. Where hundreds of trials start together, those with the shortest epochs are judged
first, among few, and every better one that comes later survives too: on 10,000 workers twice as many of
the shipped table's settings passed the last rung as on 8. Chosen by replay; see tune/README.md. No Ray here.
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
    trials: dict[int, float] = field(default_factory=dict)  # the same, by trial

    def add(self, trial: int, score: float) -> None:
        """Enters a trial in O(log n)."""
        self.trials[trial] = score
        insort(self.scores, score)


class Rungs:
    """All rungs of a study, at grace x reduction^i epochs below `epochs`.

    A trial survives a rung if it scores at least the (1 - 1/reduction) quantile of those that were there
    before it; the first one survives. A trial whose RMSE is not finite does not, and is not entered.
    With `overtaking`, one that survived is stopped at a later epoch once it would not survive any more.
    """

    def __init__(self, epochs: int, grace: int, reduction: int, overtaking: bool = False) -> None:
        self.milestones = milestones(epochs, grace, reduction)
        self._epochs, self._reduction, self._overtaking = epochs, reduction, overtaking
        self._rungs = {epoch: Rung() for epoch in self.milestones}
        self._spared: set[int] = set()
        self._exempt: set[int] = set()
        self._survived: dict[int, int] = {}  # trial: the epoch of the rung that let it go on

    @classmethod
    def of(cls, search: SearchConfig) -> Rungs:
        """Empty rungs where a configuration puts them; overtaking counts where stopped is not gone."""
        return cls(search.epochs, search.first_rung, search.reduction, overtaking=search.share > 0)

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
        if isinstance(record, Epoch) and record.rung is not None:
            if record.decision == "continue":
                self._survived[record.trial] = self.milestones[record.rung - 1]
            else:
                self._survived.pop(record.trial, None)

    def decide(self, trial: int, epoch: int, rmse: float) -> Verdict:
        """Judges a trial's epoch (RMSE in metres) and enters it in the rung, once."""
        rung = self._rungs.get(epoch)
        if trial in self._exempt:
            return GO_ON
        if rung is None or trial in rung.trials:
            return self._stop_overtaken(trial, epoch)
        number = self.milestones.index(epoch) + 1
        if not math.isfinite(rmse):
            return Verdict("stop", number)
        cutoff = self._cutoff(rung)
        rung.add(trial, -rmse)
        survives = -rmse >= cutoff or trial in self._spared
        return Verdict("continue" if survives else "stop", number)

    def _stop_overtaken(self, trial: int, epoch: int) -> Verdict:
        """Between rungs; at the last epoch there is nothing left to save."""
        behind = self._survived.get(trial)
        if not self._overtaking or behind is None or trial in self._spared or epoch == self._epochs:
            return GO_ON
        rung = self._rungs[behind]
        if rung.trials[trial] >= self._cutoff(rung):
            return GO_ON
        return Verdict("stop", self.milestones.index(behind) + 1)

    def _cutoff(self, rung: Rung) -> float:
        return quantile(rung.scores, 1 - 1 / self._reduction) if rung.scores else -math.inf


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
