"""What a plan tells of the search itself: how many trials, how they are judged, over which space."""

from __future__ import annotations

from pipeline.config import Choice, Distribution, Experiment, LogUniform, SearchConfig
from pipeline.spread import SEEDS
from tune.asha import milestones
from tune.progress import short


def search_lines(experiment: Experiment) -> list[tuple[str, str]]:
    """Labels and texts: its trials, its rungs, what it does beyond them, and its space."""
    search = experiment.search
    rungs = milestones(search.epochs, search.first_rung, search.reduction)
    judged = f"after epoch {', '.join(map(str, rungs))}" if rungs else "none: every trial runs to its end"
    space = "; ".join(f"{key} {_range(entry)}" for key, entry in search.space.items())
    return [
        ("trials", f"{search.trials} of up to {plural(search.epochs, 'epoch')}, seed {experiment.seed}"),
        ("rungs", f"{judged}; the best 1/{search.reduction} go on" if rungs else judged),
        *([("share", _share(search))] if rungs and search.share else []),
        *([("confirm", _confirm(search))] if search.confirm else []),
        ("space", f"{space or 'empty'}; the configured setting comes first"),
    ]


def _share(search: SearchConfig) -> str:
    if search.gpu_hours is not None:
        return "as the budget allows; what rungs leave of it goes to stopped trials"
    most = int(search.share * search.trials * search.epochs)
    return f"{search.share:.0%} of all epochs, {most}; what rungs leave of it goes to stopped trials"


def _confirm(search: SearchConfig) -> str:
    best = "the best setting runs" if search.confirm == 1 else f"the best {search.confirm} settings run"
    return f"{best} again at the end, for {SEEDS} seeds each, and are ranked by their mean"


def _range(distribution: Distribution) -> str:
    if isinstance(distribution, Choice):
        return " | ".join(short({"": value}).strip() for value in distribution.choice)
    if isinstance(distribution, LogUniform):
        return "{:g} to {:g} (log)".format(*distribution.log_uniform)
    return "{:g} to {:g}".format(*distribution.uniform)


def plural(count: int, noun: str) -> str:
    """A number of things; the noun takes an s."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
