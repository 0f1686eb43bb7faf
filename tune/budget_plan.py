"""What a person is told of a study's budget, and whether it fits as far as epochs have been measured."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.config import SearchConfig
from pipeline.errors import ConfigError
from pipeline.paths import StudyPaths
from pipeline.records import read_journal, seconds_now
from pipeline.spread import SEEDS
from pipeline.trials import TrialState, fold
from tune.budget import Budget, clock_text, spend_together
from tune.request import Request


def budget_text(searches: Sequence[tuple[StudyPaths, SearchConfig]], workers: int) -> str:
    """What a plan tells of the budget that these studies spend together; empty without one.

    Raises ConfigError for a new study whose deadline has passed.
    """
    budgets, needed_s, known = [], 0.0, True
    for paths, search in searches:
        records = read_journal(paths.journal)
        refuse_passed(search, is_new=not records)
        budget = Budget.from_journal(search, records)
        needed_s += epochs_left(search, fold(records)) * budget.epoch_s
        known = known and budget.epoch_s > 0
        budgets.append(budget)
    spend_together(budgets)
    if not budgets[0].limited:
        return ""
    if known:
        told = budgets[0].prospect(needed_s, workers)
    else:
        told = "whether that is enough is seen after the first epochs"
    among = f" for {len(budgets)} studies together" if len(budgets) > 1 else ""
    return f"{budgets[0].text()}{among}; {told}"


def refuse_passed(search: SearchConfig, is_new: bool) -> None:
    """Raises ConfigError for a new study whose deadline has passed."""
    if search.deadline is not None and is_new and search.deadline.timestamp() <= seconds_now():
        raise ConfigError(
            f"--deadline {search.deadline.isoformat()}: has passed, it is {clock_text(seconds_now())}; "
            "give a later one"
        )


def epochs_left(search: SearchConfig, trials: dict[int, TrialState]) -> float:
    """About how many epochs a study has still to train: what rungs save goes to second chances."""
    searched = [trial for trial in trials.values() if trial.confirms is None]
    done = sum(len(trial.epochs) for trial in searched)
    ended = [len(trial.epochs) for trial in searched if not trial.unfinished and trial.epochs]
    mean = sum(ended) / len(ended) if ended else search.epochs * search.share
    to_come = max(search.trials - len(ended), 0) * mean
    shared = search.affordable_share * search.trials * search.epochs
    repeats = max(search.confirm * SEEDS - (len(trials) - len(searched)), 0)
    return max(to_come, shared - done, 0) + repeats * search.epochs


def so_far(paths: StudyPaths, request: Request | None) -> list[str]:
    """What a study has used of its budget, for a person; nothing without one."""
    if request is None:
        return []
    budget = Budget.from_journal(request.experiment.search, read_journal(paths.journal))
    return [budget.text()] if budget.limited else []
