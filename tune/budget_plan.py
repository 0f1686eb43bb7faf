"""What a person is told of a study's budget, and whether it fits as far as epochs have been measured."""

from __future__ import annotations

from pipeline.config import SearchConfig
from pipeline.errors import ConfigError
from pipeline.paths import StudyPaths
from pipeline.records import read_journal, seconds_now
from pipeline.spread import SEEDS
from pipeline.trials import TrialState, fold
from tune.budget import Budget, clock_text
from tune.request import Request


def budget_lines(paths: StudyPaths, search: SearchConfig, workers: int) -> list[tuple[str, str]]:
    """The plan's line about the budget; none without one.

    Raises ConfigError for a new study whose deadline has passed.
    """
    records = read_journal(paths.journal)
    budget = Budget.from_journal(search, records)
    if not budget.limited:
        return []
    if search.deadline is not None and not records and search.deadline.timestamp() <= seconds_now():
        raise ConfigError(
            f"--deadline {search.deadline.isoformat()}: has passed, it is {clock_text(seconds_now())}; "
            "give a later one"
        )
    told = budget.prospect(epochs_left(search, fold(records)), workers)
    return [("budget", f"{budget.text()}; {told}")]


def epochs_left(search: SearchConfig, trials: dict[int, TrialState]) -> float:
    """About how many epochs a study has still to train: trials to come are as long as those that ended."""
    searched = [trial for trial in trials.values() if trial.confirms is None]
    done = sum(len(trial.epochs) for trial in searched)
    ended = [len(trial.epochs) for trial in searched if not trial.unfinished and trial.epochs]
    mean = sum(ended) / len(ended) if ended else search.epochs * search.share
    to_come = max(search.trials - len(ended), 0) * mean
    repeats = max(search.confirm * (SEEDS - 1) - (len(trials) - len(searched)), 0)
    return max(to_come, search.share * search.trials * search.epochs - done, 0) + repeats * search.epochs


def so_far(paths: StudyPaths, request: Request | None) -> list[str]:
    """What a study has used of its budget, for a person; nothing without one."""
    if request is None:
        return []
    budget = Budget.from_journal(request.experiment.search, read_journal(paths.journal))
    return [budget.text()] if budget.limited else []
