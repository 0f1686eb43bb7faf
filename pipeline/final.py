"""The final run: the best row's configuration trained on all the data, and the submission it makes.

python -m pipeline.final --runs runs
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import cli
from pipeline.errors import StudyError
from pipeline.units import to_mm

if TYPE_CHECKING:
    from pipeline.config import RunConfig
    from pipeline.paths import Workspace


TEST = "test"


@dataclass(frozen=True)
class Winner:
    """What best.yaml says: the row, its data set and the configuration of the final run."""

    row: dict[str, Any]
    data: Path
    config: RunConfig


def read_winner(workspace: Workspace, overrides: list[str]) -> Winner:
    """The winner, its configuration turned into the final run's: all the data, final epochs, overrides.

    Raises StudyError if there is no winner yet, ConfigError for a bad override.
    """
    from pipeline.config import RunConfig
    from pipeline.configfile import read_yaml, validated, with_overrides, with_value
    from pipeline.leaderboard_rows import Best

    if not workspace.best.exists():
        raise StudyError(
            f"{workspace.best}: not there yet; run a search first: python -m tune.search --model NAME"
        )
    best = validated(Best, read_yaml(workspace.best))
    tree = with_value(best.config.model_dump(mode="json"), "data.split", "full")
    tree = with_value(tree, "train.epochs", best.final_epochs or best.config.train.epochs)
    return Winner(best.row, Path(best.data), validated(RunConfig, with_overrides(tree, overrides)))


def build_parser() -> argparse.ArgumentParser:
    """The arguments of `python -m pipeline.final`."""
    parser = cli.parser(
        "python -m pipeline.final",
        "Trains the best row of the leaderboard on all the data and predicts the test\n"
        "split. The same command again resumes it.",
        "  python -m pipeline.final\n  python -m pipeline.final --runs runs --set train.epochs=300",
    )
    parser.add_argument("--out", type=Path, metavar="RUN", help="run folder (default: RUNS/final/MODEL-HASH)")
    cli.add_data(parser, "the data the winner was trained on")
    cli.add_runs(parser)
    cli.add_overrides(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    arguments = build_parser().parse_args(argv)
    from pipeline import leaderboard
    from pipeline.data.pack import open_pack
    from pipeline.paths import RunPaths, Workspace
    from pipeline.predict import submit
    from pipeline.provenance import Purpose
    from pipeline.signals import interruptible
    from pipeline.train import ConsoleReport, fit, standing

    workspace = Workspace(arguments.runs.resolve())
    winner = read_winner(workspace, arguments.overrides)
    config, row = winner.config, winner.row
    data = arguments.data or winner.data
    name = f"{config.model.name}-{config.hash()}"
    paths = RunPaths(arguments.out) if arguments.out else workspace.run("final", name)
    origin = f"trial {row['trial']} of study {row['study']}" if row["study"] else f"run {row['config_hash']}"
    validation = f"validation RMSE {to_mm(row['rmse']):.3f} mm"
    print(f"{config.model.name}, from {origin} ({validation}): {config.train.epochs} epochs on all of {data}")
    print(f"run folder {paths.root}: {standing(paths)}", flush=True)
    purpose = Purpose("final", row["profile"], config.train.epochs)
    report = ConsoleReport(config.train.epochs)
    with interruptible() as interrupted:
        result = fit(config, data, paths, report, purpose=purpose, asked_to_stop=interrupted)
    leaderboard.refresh(workspace)
    print(f"checkpoint {result.checkpoint}")
    if TEST in open_pack(data).splits:
        print(submit([result.checkpoint], data, TEST, paths.submission))
    else:
        print(f"no submission: {data} has no {TEST} split; predict another with python -m pipeline.predict")
    print(f"the row it came from: {validation} on split {row['split']}")


if __name__ == "__main__":
    cli.run(main)
