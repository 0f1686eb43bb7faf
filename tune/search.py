"""Searches for a model's best training configuration: one study, on this machine or on a cluster.

python -m tune.search --model NAME
"""

from __future__ import annotations

import argparse

from pipeline import cli

EXAMPLES = """\
  python -m tune.search --model resnet50                 what it can do here, explained first
  python -m tune.search --model resnet50 --dry-run       only the plan
  python -m tune.search --model all --profile smoke --trials 4
  python -m tune.search --model convnext --data packs/hand --set search.epochs=60
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
        "--workers", type=_positive, metavar="N", help="trials at a time (default: see the plan)"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="decides every draw of the study")
    cli.add_overrides(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the plan (and job scripts) and stop")
    parser.add_argument(
        "--follow", action="store_true", help="on a cluster: show its output; Ctrl-C leaves it running"
    )
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number of at least 1 is needed")
    return int(text)


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    args = build_parser().parse_args(argv)
    from tune.plan import choose_executor, make_plans, refuse_cluster, this_machine

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
    if args.dry_run:
        print("\n\n".join(plan.text() for plan in plans))
        return
    with LocalRay(plans[0].workers) as here:
        for plan in plans:
            print(plan.text(), flush=True)
            carry_out(plan, fit, here)


if __name__ == "__main__":
    cli.run(main)
