"""What a plan tells: which study of which model on which data; how trials are judged, over which space."""

from __future__ import annotations

from pathlib import Path

from pipeline.config import Choice, Distribution, Experiment, LogUniform, SearchConfig, TwinConfig
from pipeline.data.source import twin_paths
from pipeline.paths import Workspace
from pipeline.spread import SEEDS
from tune.asha import milestones
from tune.progress import short


def data_line(given: Path | None, workspace: Workspace, twin: TwinConfig) -> str:
    """Where the data come from."""
    if given is not None:
        return f"{given} (--data or PIPELINE_DATA)"
    pack = twin_paths(workspace, twin)
    what = f"the rendered stand-in, {twin.train} + {twin.test} samples of {twin.size} px"
    return f"{pack.root} ({what}{'' if pack.meta.exists() else ', rendered on first use'}; no --data)"


def study_line(workspace: Workspace, study: str) -> str:
    """The study, and whether it is new."""
    exists = workspace.study(study).request.exists()
    return f"{study} ({'goes on where it was' if exists else 'new'})"


def model_line(experiment: Experiment) -> str:
    """The network that is trained."""
    from pipeline.models import arch

    model = experiment.model
    return f"{model.name}: {arch(model.name, model.small)}, pretrained {str(model.pretrained).lower()}"


def device_line(experiment: Experiment, gpus: int) -> str:
    """What it is trained on."""
    if gpus:
        return "GPU, one a trial"
    why = "device: cpu" if experiment.device == "cpu" else "no GPU here"
    return f"CPU ({why})"


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
    if search.confirm == 1:
        return f"the best setting is trained again at the end, with {SEEDS} other seeds; their mean counts"
    best = f"the best {search.confirm} settings"
    return f"{best} are trained again at the end, each with {SEEDS} other seeds, and ranked by their mean"


def _range(distribution: Distribution) -> str:
    if isinstance(distribution, Choice):
        return " | ".join(short({"": value}).strip() for value in distribution.choice)
    if isinstance(distribution, LogUniform):
        return "{:g} to {:g} (log)".format(*distribution.log_uniform)
    return "{:g} to {:g}".format(*distribution.uniform)


def plural(count: int, noun: str) -> str:
    """A number of things; the noun takes an s."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
