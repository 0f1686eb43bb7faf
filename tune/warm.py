"""What a study takes over from an earlier one of the same backbone, profile and data.

The earlier study's best settings come right after the configured one, and TPE is told what each of its trials
promised. That is written into the new study's journal once, before the first draw: from then on the earlier
study may go on or be deleted.

A setting is taken over if the new study can train it: every key in which it differs from what is configured
here is in the new space, where it may lie outside the bounds. What trials promised is taken over only where
everything else is configured as it was: errors after 9 epochs say nothing of those after 60.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pipeline.config import Experiment
from pipeline.configfile import apply_values
from pipeline.errors import ConfigError, StudyError, did_you_mean
from pipeline.paths import Workspace
from pipeline.records import Begun, Record, Warm, read_journal, seconds_now
from pipeline.trials import fold
from tune.chances import Chances
from tune.journal import Journal, MemoryJournal
from tune.plan_lines import plural
from tune.ranking import trusted_first
from tune.request import Request, changes, flat, read_request
from tune.space import Outcome, Space, Values, canonical, look_up, plain
from tune.supply import outcomes, told_by

SAME = ("profile", "data", "experiment.model.")  # how the keys begin that have to be as they were


def warm_start(workspace: Workspace, request: Request) -> Warm | None:
    """What a study starts from: as its journal has it, else as the earlier study stands now; None: nothing.

    Raises StudyError for an earlier study that there is nothing to take over from.
    """
    name = request.experiment.search.warm_start
    if name is None:
        return None
    for record in read_journal(workspace.study(request.study).journal):
        if isinstance(record, Warm):
            return record
    old = _earlier(workspace, name, request)
    return _taken_over(old, read_journal(workspace.study(name).journal), request.experiment)


def begin(journal: Journal | MemoryJournal, study: str, warm: Warm | None) -> None:
    """Writes down what a new study takes over, before anything else happens to it."""
    if warm is not None:
        first: list[Record] = [Begun(study=study), replace(warm, time=seconds_now())]
        for record in first[len(journal.read()) :]:
            journal.append(record)


def warm_lines(warm: Warm | None) -> list[tuple[str, str]]:
    """The plan's line about it; none without one."""
    if warm is None:
        return []
    count = len(warm.best)
    best = "its best setting comes" if count == 1 else f"its best {count} settings come"
    text = f"{warm.study}: {best} after the configured one"
    if warm.told:
        text += f"; TPE is told {plural(len(warm.told), 'result')}"
    if warm.differs:
        text += f"; TPE is not told of its errors, as it had another {', '.join(warm.differs)}"
    return [("warm start", text)]


def _earlier(workspace: Workspace, name: str, request: Request) -> Request:
    """The request of the earlier study. Raises StudyError if it is none that compares with the new one."""
    if name == request.study:
        raise StudyError(
            f"--warm-start {name}: is the new study itself; give that another name with --study or --fresh, "
            "or leave --warm-start out"
        )
    known = [paths.root.name for paths in workspace.studies()]
    old = read_request(workspace.study(name)) if name in known else None
    if old is None:
        raise StudyError(
            f"--warm-start {name}: no such study in {workspace.root}; known: {', '.join(known) or 'none'}"
            f"{did_you_mean(name, known)} (or leave --warm-start out)"
        )
    differing = [line for key, line in changes(old, request).items() if key.startswith(SAME)]
    if differing:
        raise StudyError(
            f"--warm-start {name}: a study starts from one of the same backbone, profile and data, and that "
            "one differs:\n" + "\n".join(differing) + "\n"
            f"Name another study (known: {', '.join(known)}), repeat that one's request, or leave "
            "--warm-start out"
        )
    return old


def _taken_over(old: Request, records: Sequence[Record], new: Experiment) -> Warm:
    """Raises StudyError if there is no setting to try."""
    ranked = [trial.values for trial in trusted_first(fold(records))]
    if not ranked:
        raise StudyError(
            f"--warm-start {old.study}: none of its trials has a result yet; name another study, wait for "
            f"one (python -m tune.status --study {old.study}), or leave --warm-start out"
        )
    crossing = Crossing(old.experiment, new)
    best = crossing.best(ranked)
    if not best:
        raise StudyError(
            f"--warm-start {old.study}: none of its settings with a result ({len(ranked)}) is another than "
            "the configured one and can be trained here; put the keys that it varied "
            f"({', '.join(old.experiment.search.space)}) into search.space, or leave --warm-start out"
        )
    by_tpe = new.search.sampler == "tpe"
    differs = crossing.differing() if by_tpe else []
    told = crossing.told(known_to(old.experiment, records)) if by_tpe and not differs else []
    return Warm(study=old.study, best=best, told=told, differs=differs)


def known_to(experiment: Experiment, records: Sequence[Record]) -> list[Outcome]:
    """What a study has learnt by now, from its own trials and from the study that it started from itself."""
    inherited = [outcome for record in records if isinstance(record, Warm) for outcome in told_by(record)]
    own = outcomes(fold(records).values(), Chances.from_journal(experiment.search, records))
    return inherited + own


class Crossing:
    """From the settings of one experiment to those of another."""

    def __init__(self, old: Experiment, new: Experiment) -> None:
        self._old, self._new = old.trial(seed=0), new.trial(seed=0)
        self._configured = plain(self._new)
        self._varied = {*old.search.space, *new.search.space}
        self._space = Space(new.search.space, self._new)
        self._most = new.search.warm_settings

    def best(self, ranked: Sequence[Values]) -> list[Values]:
        """The first of the settings that can be trained here and are others than the configured one."""
        seen = {canonical({key: look_up(self._configured, key) for key in self._space.distributions})}
        found = []
        for values in filter(None, map(self._crossed, ranked)):
            if canonical(values) not in seen:
                seen.add(canonical(values))
                found.append(values)
            if len(found) == self._most:
                break
        return found

    def told(self, known: Sequence[Outcome]) -> list[dict[str, Any]]:
        """What is known, as the journal has it."""
        sure = [(self._crossed(one.values), one.promise) for one in known if one.promise is not None]
        return [
            {"values": values, "promise": promise if math.isfinite(promise) else None}
            for values, promise in sure
            if values is not None
        ]

    def differing(self) -> list[str]:
        """The keys outside both spaces that were configured otherwise and decide results."""
        before, after = flat(self._old.request()), flat(self._new.request())
        keys = sorted(before.keys() | after.keys())
        fixed = [key for key in keys if not any(f"{key}.".startswith(f"{name}.") for name in self._varied)]
        return [key for key in fixed if before.get(key) != after.get(key)]

    def _crossed(self, values: Values) -> Values | None:
        """An old experiment's setting by the keys of the new space; None if it cannot be trained there."""
        try:
            if any(
                look_up(self._configured, key) != values[key]
                for key in values.keys() - self._space.distributions
            ):
                return None
            trained = plain(apply_values(self._old, values))
            return self._space.resolved({key: look_up(trained, key) for key in self._space.distributions})
        except ConfigError:  # a key or value that the new experiment's other settings do not allow
            return None
