"""Everything that is known about one trial, for a person and as plain values."""

from __future__ import annotations

import math
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.paths import StudyPaths
from pipeline.records import Lost, Started
from pipeline.trials import TrialState
from tune.progress import mm, short_value


def trial_text(study: StudyPaths, trial: TrialState) -> str:
    """A trial's values, results and attempts, a line each."""
    of = trial.confirms
    lines = [
        f"trial {trial.number} of study {study.root.name}: {trial.status} {trial.reason}".rstrip(),
        f"folder   {study.trial(trial.number).root}",
        f"seed     {trial.seed}; values from: {trial.source}{'' if of is None else f's trial {of}'}",
        *(f"  {key} = {short_value(value)}" for key, value in trial.values.items()),
        f"best     {mm(trial.best_rmse)} at epoch {trial.best_epoch or '-'}; rung {trial.rung or '-'}",
        f"time     {timedelta(seconds=round(trial.seconds))} in epochs",
        *(line for started in trial.attempts for line in attempt_lines(trial, started)),
        *(f"  epoch {epoch:4d}  {mm(rmse)}" for epoch, rmse in sorted(trial.epochs.items())),
    ]
    return "\n".join([*lines, trial.message.rstrip()]).rstrip()


def going_text(trial: TrialState, driven: bool) -> str:
    """A trial's status; one that runs needs a driver."""
    return "interrupted" if trial.status == "running" and not driven else str(trial.status)


def attempt_lines(trial: TrialState, started: Started) -> list[str]:
    """An attempt: where it ran, and why it ended if its worker was lost."""
    job = f", Slurm job {started.slurm_job}" if started.slurm_job else ""
    line = f"attempt {started.attempt}: {clock(started.time)}, {started.node}, process {started.pid}{job}"
    return [line, *(_loss(loss) for loss in trial.lost if loss.attempt == started.attempt)]


def _loss(loss: Lost) -> str:
    blame = "" if loss.counted else ", not held against it"
    return f"  lost {clock(loss.time)}, {loss.reason}{blame}: {loss.message}"


def clock(seconds: float) -> str:
    """Seconds since 1970 as UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def trial_json(trial: TrialState) -> dict[str, Any]:
    """A trial's state; an RMSE that is not finite is null."""
    epochs = {epoch: rmse if math.isfinite(rmse) else None for epoch, rmse in trial.epochs.items()}
    return {**asdict(trial), "epochs": epochs, "losses": trial.losses}
