"""The final run: the best row's configuration trained on all the data, and the submission it makes.

python -m pipeline.final --runs runs
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import cli
from pipeline.errors import StudyError
from pipeline.units import to_mm

if TYPE_CHECKING:
    from pipeline.config import RunConfig
    from pipeline.leaderboard_rows import Best
    from pipeline.paths import Workspace


TEST = "test"


@dataclass(frozen=True)
class Winner:
    """What best.yaml says: the row, its data set and the configuration of the final run."""

    row: dict[str, Any]
    data: Path
    config: RunConfig


def read_winner(
    workspace: Workspace, overrides: list[str], model: str | None = None, pin: Path | None = None
) -> Winner:
    """The winner, its configuration turned into the final run's: all the data, final epochs, overrides.

    With `model`, the best row of that model. The winner is written to `pin`, and taken from there once it is:
    a job that comes back trains what it began, even if a search has found a better row meanwhile.

    Raises StudyError if there is no winner yet, ConfigError for a bad override.
    """
    from pipeline.config import RunConfig
    from pipeline.configfile import read_yaml, validated, with_overrides, with_value
    from pipeline.leaderboard_rows import Best, write_best

    pinned = pin is not None and pin.exists()
    best = validated(Best, read_yaml(pin)) if pin is not None and pinned else _best(workspace, model)
    if pin is not None and not pinned:
        write_best(pin, best)
    tree = with_value(best.config.model_dump(mode="json"), "data.split", "full")
    tree = with_value(tree, "train.epochs", best.final_epochs or best.config.train.epochs)
    return Winner(best.row, Path(best.data), validated(RunConfig, with_overrides(tree, overrides)))


def _best(workspace: Workspace, model: str | None) -> Best:
    """The winner of the whole leaderboard, or of one model's rows, by the records as they are now.

    A search that was killed may have left best.yaml behind them.
    """
    from pipeline.leaderboard import table, winner, write
    from pipeline.leaderboard_rows import best_of_row

    frame = table(workspace)
    row = winner(frame if model is None else frame[frame["model"] == model])
    if row is not None:
        write(frame, workspace)
        return best_of_row(row)
    if model is None:
        return _kept(workspace)
    found = ", ".join(sorted(frame["model"].unique())) or "none"
    raise StudyError(
        f"{workspace.leaderboard}: no usable row of model {model!r} (models there: {found}); "
        f"search it first: python -m tune.search --model {model}"
    )


def _kept(workspace: Workspace) -> Best:
    """A best.yaml that was kept without the runs it is of."""
    from pipeline.configfile import read_yaml, validated
    from pipeline.leaderboard_rows import Best

    if not workspace.best.exists():
        search = "python -m tune.search --model NAME"
        raise StudyError(f"{workspace.best}: not there yet; run a search first: {search}")
    print(f"{workspace.best}: taken as it is, as no run with a rank and its weights is here", file=sys.stderr)
    return validated(Best, read_yaml(workspace.best))


def validation_of(row: dict[str, Any]) -> str:
    """What is known of a setting's error, in millimetres."""
    if row["rmse_mean"] is None:
        return f"{to_mm(row['rmse']):.3f} mm, of one run"
    mean, std = to_mm(row["rmse_mean"]), to_mm(row["rmse_std"])
    return f"{mean:.3f} mm, the mean of {row['n_seeds']} seeds that spread by {std:.3f}"


def build_parser() -> argparse.ArgumentParser:
    """The arguments of `python -m pipeline.final`."""
    parser = cli.parser(
        "python -m pipeline.final",
        "Trains the best row of the leaderboard on all the data and predicts the test\n"
        "split. The same command again resumes it.",
        "  python -m pipeline.final\n  python -m pipeline.final --model convnext --set train.epochs=300",
    )
    parser.add_argument("--model", metavar="NAME", help="the best row of this model, not of all")
    parser.add_argument("--out", type=Path, metavar="RUN", help="run folder (default: RUNS/final/MODEL-HASH)")
    parser.add_argument(
        "--pin", type=Path, metavar="FILE", help="keep the row in FILE, and take it from there next time"
    )
    cli.add_data(parser, "the data the winner was trained on")
    cli.add_runs(parser)
    cli.add_overrides(parser)
    return parser


def rank_again(workspace: Workspace) -> None:
    """Ranks the records with the final run among them; a best.yaml kept without the runs it is of stays."""
    from pipeline.leaderboard import table, winner, write

    frame = table(workspace)
    if winner(frame) is not None:
        write(frame, workspace)


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    arguments = build_parser().parse_args(argv)
    from pipeline import leaderboard
    from pipeline.data.pack import open_pack
    from pipeline.paths import RunPaths, Workspace
    from pipeline.predict import submit
    from pipeline.provenance import Purpose
    from pipeline.train import fit_aloud

    workspace = Workspace(arguments.runs.resolve())
    winner = read_winner(workspace, arguments.overrides, arguments.model, arguments.pin)
    config, row = winner.config, winner.row
    data = arguments.data or winner.data
    name = f"{config.model.name}-{config.hash()}"
    paths = RunPaths(arguments.out) if arguments.out else workspace.run("final", name)
    validation = f"validation RMSE {validation_of(row)}"
    source = f"{leaderboard.origin(row)} ({validation})"
    print(f"{config.model.name}, from {source}: {config.train.epochs} epochs on all of {data}")
    result = fit_aloud(config, data, paths, Purpose("final", row["profile"], config.train.epochs))
    rank_again(workspace)
    print(f"checkpoint {result.checkpoint}")
    if TEST in open_pack(data).splits:
        print(submit([result.checkpoint], data, TEST, paths.submission))
    else:
        print(f"no submission: {data} has no {TEST} split; predict another with python -m pipeline.predict")
    print(f"the row it came from: {validation} on split {row['split']}")


if __name__ == "__main__":
    cli.run(main)
