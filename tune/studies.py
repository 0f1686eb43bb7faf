"""Studies that share workers: which gets the next free one, and what ends one of them but not the others.

A worker goes to the study with the fewest trials in work, among equals to the one that has trained for the
shortest time. So each gets an equal part, and one that has nothing to run leaves its part to the others. Each
keeps its own journal, and pays for the workers in proportion to its trials in work. No Ray here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from pipeline.errors import StudyError
from pipeline.records import EndStatus, seconds_now
from tune.budget import BEAT_S
from tune.failures import HopelessStudyError
from tune.study import Study
from tune.supply import Assignment


class Studies:
    """Studies by name; `say` is told when one of them is given up."""

    def __init__(
        self,
        studies: Sequence[Study],
        say: Callable[[str], None],
        clock: Callable[[], float] = seconds_now,
    ) -> None:
        self._studies = {study.name: study for study in studies}
        self._say = say
        self._clock = clock
        self._parts: dict[str, float] = {}  # of the workers' time, by the names of those that have any
        self._parts_until = 0.0
        self._errors: dict[str, StudyError] = {}  # why a study was given up

    def __getitem__(self, name: str) -> Study:
        return self._studies[name]

    def __iter__(self) -> Iterator[Study]:
        return iter(self._studies.values())

    @property
    def going(self) -> list[Study]:
        """Those that have still something to do."""
        return [study for study in self if study.name not in self._errors and not study.complete]

    @property
    def complete(self) -> bool:
        """Whether no study has anything to do; trials of one that was given up may still be out."""
        return not self.going

    @property
    def active(self) -> int:
        """How many trials are given out and have not come back."""
        return sum(study.active for study in self)

    @property
    def left(self) -> int:
        """How many trials have still to run; what is left of a budget is left for one study or another."""
        going = self.going
        to_come = [study.to_come for study in going if study.budget.limited]
        return sum(study.left for study in going) - (sum(to_come) - max(to_come, default=0))

    @property
    def busy_jobs(self) -> frozenset[str]:
        """The Slurm jobs in which a trial runs now."""
        return frozenset().union(*(study.busy_jobs for study in self))

    @property
    def overdue(self) -> bool:
        """Whether no worker need come any more, though trials are out or wait for one.

        Either the budget is spent and nobody trains, or only trials of studies that were given up are left.
        """
        going = self.going
        return all(study.overdue for study in going) if going else self.active > 0

    @property
    def error(self) -> StudyError | None:
        """Why studies were given up, all of them in one; None if none was."""
        return StudyError(self._why_given_up()) if self._errors else None

    def next_trial(self) -> Assignment | None:
        """The next trial of the study whose turn it is; None if none has one."""
        for study in sorted(self.going, key=lambda study: (study.active, study.budget.trained_s)):
            assignment = study.next_trial()
            if assignment is not None:
                return assignment
        return None

    def ended(
        self, name: str, trial: int, attempt: int, status: EndStatus, reason: str, message: str
    ) -> None:
        """A trial has come to its end by itself.

        A study whose trials fail of the same error before any has trained is given up. Raises StudyError if
        now all are, DiskError if the disk refuses a record.
        """
        with self._giving_up(name):
            self[name].ended(trial, attempt, status, reason, message)

    def lost(self, name: str, trial: int, attempt: int, message: str, reason: str, counted: bool) -> None:
        """The worker of a trial is gone, which may be the end of that, and of its study as in `ended`."""
        with self._giving_up(name):
            self[name].lost(trial, attempt, message, reason, counted)

    @contextmanager
    def _giving_up(self, name: str) -> Iterator[None]:
        """Gives a hopeless study up once: its trials that are still out may fail of the same error."""
        try:
            yield
        except HopelessStudyError as error:
            self._give_up(name, error)

    def _give_up(self, name: str, error: HopelessStudyError) -> None:
        if name in self._errors:
            return
        self._errors[name] = error
        if len(self._errors) == len(self._studies):
            raise StudyError(self._why_given_up()) from error
        self._say(
            f"study {name} is given up: its trials fail of the same error before any has trained, which is "
            "told at the end. The other studies go on"
        )

    def _why_given_up(self) -> str:
        return "\n".join(map(str, self._errors.values()))

    def held(self, workers: Collection[str]) -> None:
        """Tells every study which workers there are, and which part of their time is its own.

        The parts stay as they are for a while, as every change is a record in each journal.
        """
        going = self.going
        if [study.name for study in going] != list(self._parts) or self._clock() >= self._parts_until:
            self._share_out(going)
        for study in self:
            part = self._parts.get(study.name, 0.0)
            study.held(workers if study.name in self._parts else (), part)

    def _share_out(self, going: Sequence[Study]) -> None:
        active = sum(study.active for study in going)
        self._parts = {study.name: study.active / active if active else 1 / len(going) for study in going}
        self._parts_until = self._clock() + BEAT_S

    def close(self) -> None:
        """Ends every trial that has not begun, as the budget is spent; not those of studies given up."""
        for study in self.going:
            study.close()
