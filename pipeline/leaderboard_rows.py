"""The leaderboard's rows, read from run records and study journals; metres and seconds as recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean, median
from typing import Any, TypeVar

import yaml

from pipeline.config import Experiment, RunConfig, Strict
from pipeline.configfile import apply_values, read_yaml, validated
from pipeline.errors import PipelineError
from pipeline.models import arch
from pipeline.paths import RunPaths, StudyPaths, Workspace, write_text_atomically
from pipeline.progress import EpochRecord, Progress
from pipeline.records import read_journal
from pipeline.runrecord import read_epochs, read_json, read_run
from pipeline.schedule import label
from pipeline.spread import Spread, spreads
from pipeline.trials import TrialState, fold

SECONDS_PER_HOUR = 3600.0
SHORT_FINGERPRINT = 8

Row = dict[str, Any]
Result = TypeVar("Result")


class Best(Strict):
    """best.yaml: the winner's row, its checkpoint, data set and full configuration.

    `final_epochs` is how long its final run is to be; without it, as long as `config` says.
    """

    row: dict[str, Any]
    checkpoint: str
    data: str
    final_epochs: int | None
    config: RunConfig


class Reader:
    """Calls functions that read records, and keeps what could not be read."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def read(self, path: Path, function: Callable[..., Result], *arguments: Any) -> Result | None:
        """What `function` returns; None, with a line about `path`, if the records there are damaged."""
        try:
            return function(*arguments)
        except (PipelineError, OSError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
            self.problems.append(f"{path}: {type(error).__name__}: {error}")
            return None


def rows(workspace: Workspace) -> tuple[list[Row], list[str]]:
    """One row a run, the started trials of every study and the runs of their own; and what cannot be read."""
    reader = Reader()
    found = []
    for study in workspace.studies():
        trials = reader.read(study.journal, trials_of, study) or {}
        confirmed = spreads(trials)
        for trial in trials.values():
            if trial.attempts:
                spread = confirmed.get(trial.number)
                found.append(reader.read(study.trial(trial.number).root, trial_row, study, trial, spread))
    found += [reader.read(paths.root, single_row, paths) for paths in workspace.single_runs()]
    return [row for row in found if row is not None], reader.problems


def trials_of(study: StudyPaths) -> dict[int, TrialState]:
    """The fold of a study's journal."""
    return fold(read_journal(study.journal))


def trial_row(study: StudyPaths, trial: TrialState, spread: Spread | None = None) -> Row:
    """A trial: the journal decides what happened to it, the run's record tells what it was and cost.

    `spread`: that of its setting, if this trial has it (see spreads).
    """
    paths = study.trial(trial.number)
    row = run_row(paths) if paths.record.exists() else _planned_row(study, trial)
    row |= {
        "kind": "search" if trial.confirms is None else "confirm",
        "study": study.root.name,
        "trial": trial.number,
        "status": "running" if trial.unfinished else trial.status,
        "reason": trial.reason,
        "rmse": trial.best_rmse,
        "rmse_last": trial.last,
        "best_epoch": trial.best_epoch,
        "epochs": len(trial.epochs),
        "rung": trial.rung,
        "slurm_job": trial.attempts[-1].slurm_job,
        "node": trial.attempts[-1].node,
        "started": _utc(trial.started),
        "finished": _utc(trial.finished),
        "checkpoint": _checkpoint(paths, trial.best_epoch, trial.best_rmse),
    }
    if spread is not None:
        row |= {"rmse_mean": spread.mean, "rmse_std": spread.std, "n_seeds": spread.seeds}
    return row


def _planned_row(study: StudyPaths, trial: TrialState) -> Row:
    """A trial that ended before its run began: the study's request with the trial's values."""
    request = read_yaml(study.request)
    config = validated(Experiment, request["experiment"]).trial(trial.seed)
    config = apply_values(config, trial.values)
    return {
        **_request_cells(config),
        "profile": request["profile"],
        "arch": arch(config.model.name, config.model.small),
        "data": f"@{request['data'][:SHORT_FINGERPRINT]}",
        "precision": config.train.precision,
        "n_seeds": 1,
        "config_hash": config.hash(),
    }


def single_row(paths: RunPaths) -> Row:
    """A run that belongs to no study; it is running as long as no outcome is written."""
    progress = Progress.after(read_epochs(paths))
    outcome = read_json(paths.outcome)
    has_validation = progress.best_epoch > 0
    final = str(paths.final) if paths.final.exists() else None
    return {
        **run_row(paths),
        "status": outcome.get("status", "running"),
        "reason": outcome.get("reason", ""),
        "rmse": progress.best_rmse if has_validation else None,
        "rmse_last": progress.history[-1].score if progress.history else None,
        "best_epoch": progress.best_epoch if has_validation else None,
        "epochs": progress.epoch,
        "finished": outcome.get("finished"),
        "checkpoint": _checkpoint(paths, progress.best_epoch, progress.best_rmse)
        if has_validation
        else final,
    }


def run_row(paths: RunPaths) -> Row:
    """What a run's own record tells: its request, where it ran and what it cost."""
    record = read_run(paths)
    config = validated(RunConfig, record["config"])
    return {
        **_request_cells(config),
        **_cost_cells(read_epochs(paths), record),
        "kind": record["kind"],
        "profile": record["profile"],
        "arch": record["arch"],
        "params": record["params"],
        "precision": record["precision"],
        "data": f"{Path(record['data']).name}@{record['data_fingerprint'][:SHORT_FINGERPRINT]}",
        "n_seeds": 1,
        "slurm_job": record["slurm_job"],
        "node": record["node"],
        "started": record["started"],
        "commit": record["commit"],
        "config_hash": record["config_hash"],
    }


def _request_cells(config: RunConfig) -> Row:
    train = config.train
    return {
        "model": config.model.name,
        "pretrained": config.model.pretrained,
        "split": config.data.split,
        "lr": train.lr,
        "batch_size": train.batch_size,
        "weight_decay": train.weight_decay,
        "scheduler": label(train.scheduler),
        "optimizer": train.optimizer,
        "loss": train.loss,
        "seed": config.seed,
    }


def _cost_cells(epochs: list[EpochRecord], record: Row) -> Row:
    seconds = sum(epoch.seconds for epoch in epochs)
    return {
        "images_per_s": _over((epoch.images_per_s for epoch in epochs), median),
        "gpu_hours": 0.0 if record["device"] == "cpu" else seconds / SECONDS_PER_HOUR,
        "gpu_util": _over((epoch.gpu_util for epoch in epochs), fmean),
        "data_wait": _over((epoch.data_wait for epoch in epochs), fmean),
        "micro_batch": epochs[-1].micro_batch if epochs else record["micro_batch"],
        "peak_memory_gb": _over((epoch.peak_memory_gb for epoch in epochs), max),
    }


def _over(values: Iterable[float | None], reduce: Callable[[list[float]], float]) -> float | None:
    known = [value for value in values if value is not None]
    return reduce(known) if known else None


def _checkpoint(paths: RunPaths, best_epoch: int | None, best_rmse: float | None) -> str | None:
    """best.pt, if it is there and holds the weights that the row's RMSE was measured with."""
    holds = read_json(paths.best_epoch)
    is_that = holds == {"epoch": best_epoch, "rmse": best_rmse} and paths.best.exists()
    return str(paths.best) if is_that else None


def _utc(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def best_of_row(row: Row) -> Best:
    """best.yaml for the winning row."""
    record = read_run(RunPaths(Path(row["checkpoint"]).parent))
    return Best(
        row=row,
        checkpoint=row["checkpoint"],
        data=record["data"],
        final_epochs=record["final_epochs"],
        config=validated(RunConfig, record["config"]),
    )


def write_best(path: Path, best: Best) -> None:
    """Writes best.yaml, or a copy of it, in one step."""
    write_text_atomically(path, yaml.safe_dump(best.model_dump(mode="json"), sort_keys=False))
