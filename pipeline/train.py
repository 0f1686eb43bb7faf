"""Training: `fit` runs one configuration to its end, from wherever an earlier attempt left it.

Shapes: B batch, N samples; images are [B, 12, H, W], fingertips [B, 12] in millimetres inside the network.

    python -m pipeline.train --model NAME
"""

from __future__ import annotations

import argparse
import math
import traceback
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pipeline import cli
from pipeline.errors import InterruptedRunError, SupersededError, reason_of
from pipeline.provenance import Purpose
from pipeline.units import to_mm

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from pipeline.config import RunConfig
    from pipeline.data.pack import Pack
    from pipeline.paths import RunPaths
    from pipeline.progress import EpochRecord, Progress
    from pipeline.runrecord import RunRecord
    from pipeline.trainer import AskedToStop

TRAIN = Purpose()


class Report(Protocol):
    """Is told each epoch in order, also those that a restored run had already done.

    `rmse` is the validation RMSE in metres (NaN without validation data); epochs count from 1.
    """

    def __call__(self, *, epoch: int, rmse: float, seconds: float) -> None: ...  # noqa: D102


@dataclass(frozen=True)
class FitResult:
    """How a run ended: RMSE in metres, None without validation data."""

    rmse: float | None
    best_epoch: int
    epochs: int
    checkpoint: Path


def silent(*, epoch: int, rmse: float, seconds: float) -> None:
    """A report that nobody reads."""


def never() -> bool:
    """Nobody asks the run to stop."""
    return False


def fit(
    config: RunConfig,
    data: Path,
    paths: RunPaths,
    report: Report = silent,
    attempt: int | None = None,
    purpose: Purpose = TRAIN,
    asked_to_stop: AskedToStop = never,
) -> FitResult:
    """Trains `config` on the packed data set `data` and leaves its record and checkpoints in `paths`.

    Resumes exactly where an earlier attempt was saved; a completed run is only reported again. `attempt`
    fences the folder against earlier attempts (None: one more than the last). `purpose` is recorded.
    `asked_to_stop` is called after every step: once it is true, the run saves its state and ends.

    Raises PipelineError subclasses: ConfigError, DataError, CheckpointError (the folder holds another run, or
    another process trains it), DivergedError, SupersededError, InterruptedRunError (it was asked to stop).
    """
    from pipeline.data.pack import open_pack
    from pipeline.device import choose_device, limit_threads, make_deterministic
    from pipeline.progress import Progress
    from pipeline.runrecord import RunRecord

    def tell(epoch: EpochRecord) -> None:
        rmse = math.nan if epoch.score is None else epoch.score
        report(epoch=epoch.epoch, rmse=rmse, seconds=epoch.seconds)

    device = choose_device(config)
    make_deterministic(config)
    limit_threads(config)
    pack = open_pack(data)
    record = RunRecord(paths, config, pack, purpose, attempt)
    try:
        completed = record.completed_history()
        if completed is None:
            return _result(_train(config, pack, record, device, tell, asked_to_stop), paths)
        for epoch in completed:
            tell(epoch)
        return _result(Progress.after(completed), paths)
    finally:
        record.release()


def _train(
    config: RunConfig,
    pack: Pack,
    record: RunRecord,
    device: torch.device,
    tell: Callable[[EpochRecord], None],
    asked_to_stop: AskedToStop,
) -> Progress:
    """Trains what is left and records how it ends."""
    from pipeline.trainer import train_in_memory

    try:
        progress = train_in_memory(config, pack, record, device, tell, asked_to_stop)
    except (SupersededError, InterruptedRunError):
        raise
    except Exception as error:
        record.end("failed", reason_of(error), traceback.format_exc())
        raise
    record.end("completed")
    record.paths.latest.unlink(missing_ok=True)
    return progress


def standing(paths: RunPaths) -> str:
    """What the same command finds of an earlier one, for a person."""
    from pipeline.runrecord import read_json

    if read_json(paths.outcome).get("status") == "completed":
        return "complete already; nothing to train"
    return "goes on from its last checkpoint" if paths.latest.exists() else "starts"


def _result(progress: Progress, paths: RunPaths) -> FitResult:
    has_validation = progress.best_epoch > 0
    return FitResult(
        rmse=progress.best_rmse if has_validation else None,
        best_epoch=progress.best_epoch,
        epochs=progress.epoch,
        checkpoint=paths.best if has_validation else paths.final,
    )


class ConsoleReport:
    """Prints a line an epoch: RMSE in millimetres, the best so far, time per epoch and time left."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self._best = math.inf

    def __call__(self, *, epoch: int, rmse: float, seconds: float) -> None:
        """Prints one epoch."""
        self._best = min(self._best, rmse)  # a NaN on the right leaves the best as it is
        quality = "" if math.isnan(rmse) else f"  rmse {to_mm(rmse):7.3f} mm  best {to_mm(self._best):7.3f}"
        left = timedelta(seconds=round(seconds * (self._epochs - epoch)))
        print(f"epoch {epoch:4d}/{self._epochs}{quality}  {seconds:6.1f} s  left {left}", flush=True)


def fit_aloud(config: RunConfig, data: Path, paths: RunPaths, purpose: Purpose) -> FitResult:
    """`fit` as a command does it: says what it finds, prints every epoch, and ends when it is asked to."""
    from pipeline.signals import interruptible

    print(f"run folder {paths.root}: {standing(paths)}", flush=True)
    report = ConsoleReport(config.train.epochs)
    with interruptible() as interrupted:
        return fit(config, data, paths, report, purpose=purpose, asked_to_stop=interrupted)


def build_parser() -> argparse.ArgumentParser:
    """The arguments of `python -m pipeline.train`."""
    parser = cli.parser(
        "python -m pipeline.train",
        "Trains one configuration; the same command again resumes it.",
        "  python -m pipeline.train --model resnet50 --data packed\n"
        "  python -m pipeline.train --model convnext --profile smoke --set train.lr=3e-4",
    )
    parser.add_argument("--model", required=True, metavar="NAME", help="one of configs/model/NAME.yaml")
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML laid over the model's own")
    parser.add_argument(
        "--profile", default="full", metavar="NAME", help="of configs/profile (default: full)"
    )
    parser.add_argument("--out", type=Path, metavar="RUN", help="run folder (default: RUNS/train/MODEL-HASH)")
    cli.add_data(parser, "the rendered twin")
    cli.add_runs(parser)
    cli.add_overrides(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    arguments = build_parser().parse_args(argv)
    from pipeline.configfile import load_experiment
    from pipeline.data.source import data_set
    from pipeline.models import require_weights
    from pipeline.paths import RunPaths, Workspace

    experiment = load_experiment(arguments.model, arguments.profile, arguments.config, arguments.overrides)
    config, workspace = experiment.run(), Workspace(arguments.runs)
    model = config.model
    require_weights(model.name, model.pretrained, model.small)  # else data would be rendered in vain
    default = workspace.run("train", f"{config.model.name}-{config.hash()}")
    paths = RunPaths(arguments.out) if arguments.out else default
    data = data_set(arguments.data, workspace, experiment.twin)
    print(f"{config.model.name}: {config.train.epochs} epochs on {data}")
    result = fit_aloud(config, data, paths, Purpose("train", arguments.profile, experiment.final.epochs))
    if result.rmse is not None:
        print(f"best RMSE {to_mm(result.rmse):.3f} mm, epoch {result.best_epoch}")
    print(f"completed; checkpoint {result.checkpoint}")


if __name__ == "__main__":
    cli.run(main)
