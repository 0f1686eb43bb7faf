"""What a study may use, GPU hours and time, and what is left of it: a fold over the journal.

Used is what users pay for: the time that workers are held, busy or not, from the records that name them
(Held). After a killed driver's last record, that is not known and taken for BEAT_S, the most that it can
have been; a worker that outlives its driver is paid for all along. Without GPUs, a worker's hours count.

A trial starts only if it can reach its first rung in what is left, judged by the study's mean epoch; it
is stopped at the end of an epoch if another does not fit. So no worker begins an epoch after the budget is
spent, and what is used beyond it is at most the epoch that each was in. A search that is to be confirmed
leaves the time for that, at most half of all.

Studies on the same workers spend from one budget: each pays for its share of the workers' time, and what is
left is left for all of them. No Ray here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime

from pipeline.config import SearchConfig
from pipeline.records import Begun, Epoch, Held, Record, seconds_now

BEAT_S = 60.0  # between two records of the workers that are held, if nothing changes
SECONDS_PER_HOUR = 3600.0


class Budget:
    """What is left of a study's GPU hours and time; `clock` tells seconds since 1970."""

    def __init__(self, search: SearchConfig, clock: Callable[[], float] = seconds_now) -> None:
        self._limit_s = math.inf if search.gpu_hours is None else search.gpu_hours * SECONDS_PER_HOUR
        self._deadline = math.inf if search.deadline is None else search.deadline.timestamp()
        self._clock = clock
        self._reserve: Callable[[int], float] = lambda workers: 0.0
        self._together: Sequence[Budget] = (self,)  # those that spend what this one may
        self._begun = -math.inf
        self._used_s = 0.0
        self._workers: frozenset[str] = frozenset()  # held now, or by the driver before
        self._crew = 1  # how many they are, or were last
        self._share = 1.0  # of their time
        self._had_others = False  # on the same workers, once
        self._seen: dict[str, float] = {}  # worker: until when its time is in _used_s
        self._next_beat = -math.inf  # no driver has spoken yet
        self._last = -math.inf  # when the last record was written
        self._epochs, self._epochs_s = 0, 0.0

    @classmethod
    def from_journal(
        cls, search: SearchConfig, records: Iterable[Record], clock: Callable[[], float] = seconds_now
    ) -> Budget:
        """The budget as the records left it."""
        budget = cls(search, clock)
        for record in records:
            budget.take(record)
        return budget

    def take(self, record: Record) -> None:
        """One step of the fold."""
        self._last = record.time
        match record:
            case Begun():
                self._begun = record.time
            case Epoch():
                self._epochs += 1
                self._epochs_s += record.seconds
            case Held():
                self._hold(record)

    def _hold(self, record: Held) -> None:
        now = frozenset(record.workers)
        for worker in now:
            self._pay(worker, record.time)
        for worker in self._workers - now:  # gone since the last record, or with the driver that wrote it
            self._pay(worker, min(record.time, self._seen[worker] + BEAT_S))
        self._workers, self._share = now, record.share
        self._had_others = self._had_others or 0 < record.share < 1
        self._crew = len(now) or self._crew

    def _pay(self, worker: str, until: float) -> None:
        self._used_s += self._share * max(until - self._seen.get(worker, until), 0.0)
        self._seen[worker] = until

    def report(self, workers: Collection[str], share: float = 1.0) -> Held | None:
        """The record of the workers that are held now; None if the last one will do for a while."""
        is_known = frozenset(workers) == self._workers and (share == self._share or not workers)
        if is_known and (self._clock() < self._next_beat or not workers):
            return None
        self._next_beat = self._clock() + BEAT_S
        return Held(workers=sorted(workers), share=share)

    @property
    def limited(self) -> bool:
        """Whether there is a limit at all."""
        return math.isfinite(self._limit_s) or math.isfinite(self._deadline)

    @property
    def crew(self) -> int:
        """How many workers are held, or were last; at least 1."""
        return self._crew

    @property
    def used_s(self) -> float:
        """Seconds that workers have been held, all together, until now."""
        return sum(budget.own_s for budget in self._together)

    @property
    def own_s(self) -> float:
        """This study's part of that."""
        now = self._clock() if self._next_beat > -math.inf else self._last  # without a driver: by the journal
        held_s = sum(max(now - self._seen[worker], 0.0) for worker in self._workers)
        return self._used_s + self._share * held_s

    @property
    def trained_s(self) -> float:
        """Seconds of this study's epochs."""
        return self._epochs_s

    @property
    def epoch_s(self) -> float:
        """What an epoch takes, the mean; 0 before one was measured."""
        return self._epochs_s / self._epochs if self._epochs else 0.0

    def seconds_left(self, confirming: bool = False) -> float:
        """How long the workers of now can go on, all of them; a search leaves time to confirm its best."""
        if not self.limited:
            return math.inf
        reserve_s = 0.0 if confirming else sum(budget._reserve(self._crew) for budget in self._together)
        by_hours = self._limit_s - self.used_s - min(reserve_s * self._crew, self._limit_s / 2)
        by_time = self._deadline - self._clock() - min(reserve_s, (self._deadline - self._begun) / 2)
        return min(by_hours / self._crew, by_time)

    def keep(self, reserve: Callable[[int], float]) -> None:
        """Keeps time to confirm the best: `reserve` tells how many seconds so many workers take for that."""
        self._reserve = reserve

    def fits(self, epochs: float, epoch_s: float | None = None, confirming: bool = False) -> bool:
        """Whether so many epochs, of the study's mean length or the one given, can be trained from now on."""
        left = self.seconds_left(confirming)
        return left > 0 and epochs * (self.epoch_s if epoch_s is None else epoch_s) <= left

    def trials(self, epochs: int) -> float:
        """How many trials of so many epochs the GPU hours that are left are enough for; inf if unknown."""
        if not self.fits(epochs):
            return 0
        cost_s = epochs * self.epoch_s
        known = cost_s and math.isfinite(self._limit_s)
        return max((self._limit_s - self.used_s) // cost_s, 1) if known else math.inf

    def text(self) -> str:
        """What is used of what may be, for a person; empty without a limit."""
        parts = []
        if math.isfinite(self._limit_s):
            others = ", shared with other studies" if self._had_others and len(self._together) == 1 else ""
            parts.append(f"{hours(self.used_s)} of {hours(self._limit_s)} GPU hours{others}")
        if math.isfinite(self._deadline):
            parts.append(f"until {clock_text(self._deadline)}")
        return ", ".join(parts)

    def prospect(self, needed_s: float, workers: int) -> str:
        """Whether so many more seconds of epochs on so many workers fit, for a person."""
        enough = needed_s <= self._limit_s - self.used_s
        in_time = self._clock() + needed_s / workers <= self._deadline
        verdict = "fits" if enough and in_time else "does not fit: the best get what there is"
        return f"all that is left to train takes about {hours(needed_s)} GPU hours and {verdict}"


def spend_together(budgets: Sequence[Budget]) -> None:
    """Makes one budget of those of studies that share their workers; each has the same limits."""
    for budget in budgets:
        budget._together = budgets


def hours(seconds: float) -> str:
    """Seconds as hours, to three digits."""
    amount = seconds / SECONDS_PER_HOUR
    return f"{amount:.3g}" if amount < 100 else f"{amount:.0f}"


def clock_text(seconds: float) -> str:
    """Seconds since 1970 as local time with its offset, to the minute."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%dT%H:%M%z")
