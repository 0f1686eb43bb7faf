"""What is told when a search is over: what came out of it, where that is, and how far to trust it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from textwrap import fill

from pipeline.configfile import read_yaml
from pipeline.errors import StudyError
from pipeline.leaderboard import origin
from pipeline.paths import Workspace
from pipeline.spread import Trusted, spreads, trusted
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
        f"winner       {workspace.best}{_winner(workspace)}",
        f"next         python -m pipeline.final --runs {workspace.root}",
    ]
    return "\n".join(lines)


def _winner(workspace: Workspace) -> str:
    """Which run has won, of all studies; the search that is over need not have it."""
    if not workspace.best.exists():
        return ""
    return f" ({origin(read_yaml(workspace.best)['row'])})"


def _result(study: Study, best: TrialState) -> list[str]:
    return [
        f"study {study.name}: {_told(study.trials.values())}",
        f"best         {mm(best.best_rmse)}: trial {best.number}, epoch {best.best_epoch}",
        fill(short(best.values), WIDTH, initial_indent="values       ", subsequent_indent=" " * 13),
        worth(study.trials, best),
        f"checkpoint   {study.paths.trial(best.number).best}",
    ]


def _table(found: Iterable[tuple[Study, TrialState]]) -> list[str]:
    """A line for each study, by what is known of its error."""
    rows = sorted(
        ((trusted(study.trials, best), study, best) for study, best in found), key=lambda row: row[0]
    )
    width = max(len(study.name) for _, study, _ in rows)
    lines = [
        f"{study.name:<{width}}  {mm(error.rmse):>10}{_mark(study, best)}: trial {best.number}; "
        f"{_told(study.trials.values())}"
        for error, study, best in rows
    ]
    return [*lines, f"confirmed    {_confirmed([error for error, _, _ in rows])}"]


def _mark(study: Study, best: TrialState) -> str:
    """What stands behind a study's error: the spread of its seeds (mm), or that it is of one run."""
    spread = spreads(study.trials).get(best.number)
    return ", one run" if spread is None else f" +- {to_mm(spread.std):.3f}"


def _confirmed(errors: list[Trusted]) -> str:
    """How many of the studies' errors can be trusted."""
    count = sum(not error.one_run for error in errors)
    if not count:
        return UNCONFIRMED
    rest = "" if count == len(errors) else "; --confirm 3 tells of the others"
    return f"{count} of {len(errors)}: +- is the spread of the seeds{rest}"


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
