"""Second chances for trials that a rung has stopped, as a fold over the journal.

Once every trial has been drawn, what is left of the study's share of epochs goes to stopped trials: to the
most promising one, which is judged again at its next rung, or to one drawn by lot, which then runs to its
end. The first undoes what rungs did to trials that looked bad early; the second is a random search that runs
beside, for where rungs say nothing about the end. It gets little at first and more the longer the search
goes on, as the promising ones are tried by then; and most of it while a trial by lot is the best of all, as
rungs mislead where that happens. Few go on at a time: each tells something about the next, and workers
without work can be given back. Trials that have yet to reach the second rung count as well: where all start
together, those stopped first are not the most promising. To wait for all to end would save no more epochs
and take twice as long on 100 workers.

How promising: the error at the rung where it was stopped, times what trials that were completed have
gained from there to their best (the median). Chosen by replay; see tune/README.md. No Ray here.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pipeline.config import SearchConfig
from pipeline.records import Drawn, Ended, Epoch, Record, Revived
from pipeline.trials import TrialState
from tune.asha import milestones, quantile

AT_ONCE = 0.25  # chances at a time, per square root of the number of trials
MIN_AT_ONCE = 4
LOTS_PER_SPENT = 2.0  # the lots' part of all chances' epochs, per part of the study's epochs that is spent
MAX_LOTS = 0.9
LEADING_LOTS = 2 / 3  # at least, while one by lot is the best of all; 0.9 starved the promising


@dataclass(frozen=True)
class Chance:
    """A stopped trial to go on with: to its next rung or to its end, and the epochs that takes."""

    trial: int
    to_end: bool
    epochs: int


class Chances:
    """Which stopped trial goes on next, and whether the study's share allows it."""

    def __init__(self, search: SearchConfig) -> None:
        self._rungs = [*milestones(search.epochs, search.first_rung, search.reduction), search.epochs]
        self._all = search.trials * search.epochs
        self._budget = math.floor(search.affordable_share * self._all)
        self._at_once = search.chances or max(math.ceil(AT_ONCE * math.sqrt(search.trials)), MIN_AT_ONCE)
        self._confirming: set[int] = set()  # trials that are none of the search's
        self._second_rung = self._rungs[:2][-1]
        self._going: set[int] = set()  # trials that run on a second chance, or have yet to pass that rung
        self._spent = 0  # epochs on record
        self._reserved: dict[int, int] = {}  # trial: epochs to go on its chance; below 0 once past that rung
        self._lot_trials: set[int] = set()  # trials that have gone on by lot
        self._lowest = math.inf  # error of any trial, metres
        self._lot_leads = False  # whether a trial by lot has that error
        self._given = {True: 0, False: 0}  # epochs for chances by lot, and for promising ones
        self._passed: dict[int, dict[int, float]] = {}  # trial: the errors at its rungs, metres, by epoch
        self._best: dict[int, float] = {}  # trial: its lowest error, metres
        self._stopped: dict[int, int] = {}  # trial: the epoch of the rung that holds it
        self._reached: dict[int, int] = {}  # stopped trial: its last epoch, beyond that rung if overtaken
        self._held: dict[int, list[tuple[float, int]]] = {epoch: [] for epoch in self._rungs}
        self._lots: list[tuple[int, int]] = []  # a heap of stopped trials; some have gone on since
        self._gains: dict[int, list[float]] = {epoch: [] for epoch in self._rungs}

    @classmethod
    def from_journal(cls, search: SearchConfig, records: Iterable[Record]) -> Chances:
        """The chances as the records left them."""
        chances = cls(search)
        for record in records:
            chances.take(record)
        return chances

    def take(self, record: Record) -> None:
        """One step of the fold."""
        match record:
            case Drawn() if record.confirms is not None:
                self._confirming.add(record.trial)
            case Drawn():
                self._going.add(record.trial)
            case Epoch() | Ended() if record.trial in self._confirming:
                pass
            case Epoch():
                self._trained(record)
            case Revived():
                self._revive(record)
            case Ended():
                self._done(record.trial)
                if record.status == "completed":
                    self._learn(record.trial)

    def next(self, fits: Callable[[Chance], bool] | None = None) -> Chance | None:
        """The chance to give now; None if nobody waits for one, enough run, or what is left is not enough.

        `fits` tells whether a budget has room for one; under a budget, what is too little for the first in
        line goes to another.
        """
        if len(self._going) >= self._at_once:
            return None
        left = self._left()
        options = [self._by_lot()] if self._lots_turn() else []
        options += self._promising() if fits else self._promising()[:1]
        for chance in options:
            if chance is not None and chance.epochs <= left and (fits is None or fits(chance)):
                return chance
        return None

    def promise(self, trial: TrialState) -> float | None:
        """The error (metres) at which a trial may end, by its last rung: inf if it failed, None before."""
        if trial.status == "failed":
            return math.inf
        if trial.status == "completed":
            return trial.best_rmse
        passed = self._passed.get(trial.number)
        return self._promise(max(passed), passed[max(passed)]) if passed else None

    def affordable(self, fits: Callable[[Chance], bool] | None = None) -> int:
        """How many stopped trials could go on now; `fits` as in `next`."""
        if self.next(fits) is None:
            return 0
        reach = self._left() // (self._rungs[-1] - self._rungs[0])
        return min(len(self._stopped), self._at_once - len(self._going), max(1, reach))

    def in_line(self, more: int) -> list[int]:
        """The trials to go on next, as far as that is known: all that may at a time, and `more`."""
        return self._first(self._at_once + more)

    def _first(self, count: int) -> list[int]:
        """The most promising stopped trials, best first."""
        heads = (
            (self._promise(epoch, rmse), trial)
            for epoch, held in self._held.items()
            for rmse, trial in held[:count]
        )
        return [trial for _, trial in heapq.nsmallest(count, heads)]

    def _left(self) -> int:
        """Epochs that are neither spent nor spoken for."""
        return self._budget - self._spent - sum(max(epochs, 0) for epochs in self._reserved.values())

    def _lots_turn(self) -> bool:
        part = min(MAX_LOTS, LOTS_PER_SPENT * self._spent / self._all)
        if self._lot_leads:
            part = max(part, LEADING_LOTS)
        return self._given[True] < part * sum(self._given.values())

    def _by_lot(self) -> Chance | None:
        while self._lots and self._lots[0][1] not in self._stopped:
            heapq.heappop(self._lots)
        if not self._lots:
            return None
        trial = self._lots[0][1]
        return Chance(trial, True, self._rungs[-1] - self._reached[trial])

    def _promising(self) -> list[Chance]:
        """The most promising trial of each rung, best first."""
        heads = [(self._promise(epoch, held[0][0]), held[0][1]) for epoch, held in self._held.items() if held]
        trials = [trial for _, trial in sorted(heads)]
        return [
            Chance(trial, False, self._next_rung(self._stopped[trial]) - self._reached[trial])
            for trial in trials
        ]

    def _next_rung(self, epoch: int) -> int:
        return self._rungs[self._rungs.index(epoch) + 1]

    def _promise(self, epoch: int, rmse: float) -> float:
        """The error (metres) at which a trial may end."""
        gains = self._gains[epoch]
        return rmse * quantile(gains, 0.5) if gains else rmse

    def _trained(self, record: Epoch) -> None:
        trial, epoch, rmse = record.trial, record.epoch, record.rmse
        self._spent += 1
        if trial in self._reserved:
            self._reserved[trial] -= 1
        elif epoch >= self._second_rung:
            self._going.discard(trial)
        if math.isfinite(rmse):
            self._best[trial] = min(rmse, self._best.get(trial, math.inf))
            if rmse < self._lowest:
                self._lowest, self._lot_leads = rmse, trial in self._lot_trials
            if epoch in self._held:
                self._passed.setdefault(trial, {})[epoch] = rmse
        if record.decision == "stop":
            self._done(trial)
            if trial in self._passed and math.isfinite(rmse):
                self._hold(trial, epoch)

    def _hold(self, trial: int, reached: int) -> None:
        epoch = max(self._passed[trial])
        self._stopped[trial], self._reached[trial] = epoch, reached
        insort(self._held[epoch], (self._passed[trial][epoch], trial))
        heapq.heappush(self._lots, (lot(trial), trial))

    def _done(self, trial: int) -> None:
        """A trial no longer runs."""
        self._reserved.pop(trial, None)
        self._going.discard(trial)

    def _revive(self, record: Revived) -> None:
        self._going.add(record.trial)
        if record.to_end:
            self._lot_trials.add(record.trial)
        epoch = self._stopped.pop(record.trial)
        held = self._held[epoch]
        del held[bisect_left(held, (self._passed[record.trial][epoch], record.trial))]
        rung = self._rungs[-1] if record.to_end else self._next_rung(epoch)
        epochs = rung - self._reached.pop(record.trial)
        self._reserved[record.trial] = epochs
        self._given[record.to_end] += epochs

    def _learn(self, trial: int) -> None:
        """Takes what a completed trial gained from each of its rungs to its best."""
        for epoch, rmse in self._passed.get(trial, {}).items():
            insort(self._gains[epoch], self._best[trial] / rmse)


def lot(trial: int) -> int:
    """A trial's place in an order that has nothing to do with when it ran; trial 0, the configured, is first.

    Multiplicative hashing (Knuth, The Art of Computer Programming 3, 6.4).
    """
    return trial * 2654435761 % 2**32
