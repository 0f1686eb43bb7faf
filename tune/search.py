"""Searches for a model's best training configuration: one study, on this machine or on a cluster.

python -m tune.search --model NAME
"""

from __future__ import annotations

import argparse
import math
from datetime import datetime

from pipeline import cli

EXAMPLES = """\
  python -m tune.search --model resnet50                 what it can do here, explained first
  python -m tune.search --model resnet50 --dry-run       only the plan
  python -m tune.search --model all --profile smoke --trials 4 --runs six
  python -m tune.search --model convnext --data packs/hand --set search.epochs=60
  python -m tune.search --model convnext --study two --warm-start convnext --sampler tpe
  python -m tune.search --model convnext --cluster greene --workers 8 --follow"""


def build_parser() -> argparse.ArgumentParser:
    """The arguments of `python -m tune.search`."""
    parser = cli.parser(
        "python -m tune.search",
        "Searches for a model's best configuration. The same command again resumes the study.",
        EXAMPLES,
    )
    parser.add_argument("--model", required=True, metavar="NAME", help="a model of configs/model, or all")
    parser.add_argument("--study", metavar="NAME", help="the study's name (default: the model)")
    parser.add_argument("--fresh", action="store_true", help="a new, numbered study instead of resuming")
    parser.add_argument("--trials", type=int, metavar="N", help="configurations to try; may be raised later")
    parser.add_argument("--epochs", type=int, metavar="N", help="epochs of a trial that is never stopped")
    cli.add_data(parser, "a rendered stand-in under RUNS/data")
    cli.add_runs(parser)
    parser.add_argument("--profile", choices=("smoke", "full"), help="default: full with a GPU, else smoke")
    _add_where(parser)
    _add_limits(parser)
    parser.add_argument("--sampler", choices=("random", "tpe"), help="how trials are drawn (default: random)")
    parser.add_argument(
        "--warm-start",
        metavar="STUDY",
        help="an earlier study of the backbone: its best settings follow the configured one, and tpe is told "
        "its results",
    )
    parser.add_argument("--seed", type=int, metavar="N", help="decides every draw of the study")
    cli.add_overrides(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the plan (and job scripts) and stop")
    parser.add_argument(
        "--follow", action="store_true", help="on a cluster: show its output; Ctrl-C leaves it running"
    )
    return parser


def _add_where(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--executor",
        choices=("local", "slurm"),
        help="where trials run (default: slurm if there is one here, else local)",
    )
    parser.add_argument(
        "--cluster",
        metavar="NAME",
        help="site profile of configs/cluster, or a file (default: PIPELINE_CLUSTER, else by Slurm's name)",
    )
    parser.add_argument(
        "--workers", type=cli.positive, metavar="N", help="trials at a time (default: see the plan)"
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--gpu-hours",
        type=positive_number,
        metavar="H",
        help="what all workers together may use, from when each is held (without GPUs: worker hours)",
    )
    parser.add_argument(
        "--deadline",
        type=moment,
        metavar="TIME",
        help="when the search has to be over: 2026-12-01T08:00, local time, or with an offset",
    )
    parser.add_argument(
        "--confirm",
        type=cli.positive,
        metavar="K",
        help="run the best K again with other seeds, to trust the winner; may be added later",
    )


def positive_number(text: str) -> float:
    """An argument that is a number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: a number above 0 is needed")
    return number


def moment(text: str) -> datetime:
    """An argument that is a moment, ISO 8601; local time if it has no offset."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r}: a moment is needed, such as 2026-12-01T08:00 or 2026-12-01T08:00+01:00"
        ) from None


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    args = build_parser().parse_args(argv)
    from tune.plan import choose_executor, make_plans, plans_text, refuse_cluster, this_machine

    executor = choose_executor(args.executor)
    if executor.value == "slurm":
        from slurm.search import search  # this command is where all parts come together

        search(args, executor)
        return
    refuse_cluster(args.cluster, executor)
    from pipeline.train import fit
    from tune.driver import carry_out
    from tune.local_ray import LocalRay

    plans = make_plans(args, this_machine(executor.reason))
    if args.follow:
        print("--follow changes nothing here: the search runs in this terminal")
    if args.dry_run:
        print(plans_text(plans))
        return
    with LocalRay(plans[0].workers) as here:
        print(plans_text(plans), flush=True)
        carry_out(plans, fit, here)


if __name__ == "__main__":
    cli.run(main)
