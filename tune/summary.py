"""What is told when a search is over: what came out of it, where that is, and how far to trust it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from textwrap import fill

from pipeline.errors import StudyError
from pipeline.paths import Workspace
from pipeline.spread import spreads
from pipeline.trials import TrialState
from pipeline.units import to_mm
from tune.progress import WIDTH, mm, short
from tune.ranking import most_trusted
from tune.studies import Studies
from tune.study import Study

UNCONFIRMED = "no: one run with one seed, its spread is unknown; --confirm 3 tells"


def summary(studies: Studies, workspace: Workspace) -> str:
    """What came out of a search. Raises StudyError if a study had no result at all, after the others'."""
    found = [(study, best) for study in studies if (best := most_trusted(study.trials)) is not None]
    if not found:
        raise StudyError("\n".join(_nothing(study) for study in studies))
    lines = _table(found) if len(found) > 1 else _result(*found[0])
    lines += [_nothing(study) for study in studies if study not in [study for study, _ in found]]
    lines += [
        f"leaderboard  {workspace.leaderboard}",
        f"winner       {workspace.best} (of all studies)",
        f"next         python -m pipeline.final --runs {workspace.root}",
    ]
    return "\n".join(lines)


def _result(study: Study, best: TrialState) -> list[str]:
    return [
        f"study {study.name}: {_told(study.trials.values())}",
        f"best         {mm(best.best_rmse)}: trial {best.number}, epoch {best.best_epoch}",
        fill(short(best.values), WIDTH, initial_indent="values       ", subsequent_indent=" " * 13),
        worth(study.trials, best),
        f"checkpoint   {study.paths.trial(best.number).best}",
    ]


def _table(found: Iterable[tuple[Study, TrialState]]) -> list[str]:
    """A line for each study, best first."""
    rows = sorted(((_trusted(study, best), study, best) for study, best in found), key=lambda row: row[0])
    width = max(len(study.name) for _, study, _ in rows)
    confirmed = any(spreads(study.trials) for _, study, _ in rows)
    return [
        *(
            f"{study.name:<{width}}  {mm(rmse):>10}: trial {best.number}; {_told(study.trials.values())}"
            for rmse, study, best in rows
        ),
        "confirmed    " + ("means of several seeds, where there are some" if confirmed else UNCONFIRMED),
    ]


def _trusted(study: Study, best: TrialState) -> float:
    """A trial's error (metres): the mean over its seeds where there are several."""
    spread = spreads(study.trials).get(best.number)
    return spread.mean if spread else best.best_rmse or math.inf


def _nothing(study: Study) -> str:
    trials = study.trials.values()
    why = next((trial.message for trial in trials if trial.message), "no message")
    return f"study {study.name}: no trial had a result ({_told(trials)}); the first message:\n{why}"


def _told(trials: Iterable[TrialState]) -> str:
    """How many trials ended in which way."""
    counts = Counter(trial.status for trial in trials)
    return ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))


def worth(trials: Mapping[int, TrialState], best: TrialState) -> str:
    """How far the best trial's error can be trusted."""
    spread = spreads(trials).get(best.number)
    if spread is None:
        return f"confirmed    {UNCONFIRMED}"
    mean, std = mm(spread.mean), to_mm(spread.std)
    return f"confirmed    {mean} is the mean of {spread.seeds} seeds, which spread by {std:.3f} mm"
