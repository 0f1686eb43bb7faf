"""Plays searches over recorded learning curves on a virtual clock, to compare them; trains nothing.

python -m tune.replay --curves FILE.csv
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import cli

if TYPE_CHECKING:
    from tune.curves import Table
    from tune.policies import Policy
    from tune.scores import Score
    from tune.simulate import Cluster

EXAMPLES = """\
  python -m tune.replay --curves curves.csv
  python -m tune.replay --curves curves.csv --workers 100 --policy asha
  python -m tune.replay --curves curves.csv --policy asha ray-asha:metric=best
  python -m tune.replay --curves curves.csv --policy asha:grace=3,reduction=4
  python -m tune.replay --curves curves.csv --loss-rate 0.01 --queue-wait 600

the table: a row for each setting and epoch; columns epoch, rmse (metres),
seconds, rmse_ema where known, and the setting's own, of which warmup is
known (in epochs). A setting whose last rmse is nan has diverged.
tests/benchmarks/curves.py records one. 30 seeds of 256 settings take seconds,
with TPE (asha-tpe) two minutes of a core."""


def build_parser() -> argparse.ArgumentParser:
    """The arguments of `python -m tune.replay`."""
    parser = cli.parser("python -m tune.replay", "Compares searches on recorded learning curves.", EXAMPLES)
    parser.add_argument("--curves", type=Path, required=True, metavar="CSV", help="the table, see below")
    parser.add_argument(
        "--policy", nargs="+", default=["all"], metavar="P", help="NAME or NAME:key=value,... (default: all)"
    )
    parser.add_argument("--workers", type=cli.positive, default=8, metavar="N", help="trials at a time")
    parser.add_argument("--seeds", type=cli.positive, default=30, metavar="N", help="orders of the settings")
    parser.add_argument(
        "--loss-rate", type=_chance, default=0.0, metavar="P", help="chance to lose a worker in an epoch"
    )
    parser.add_argument(
        "--queue-wait", type=_seconds, default=0.0, metavar="S", help="mean wait for a worker, seconds"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the tables")
    return parser


def _chance(text: str) -> float:
    value = _seconds(text)
    if value >= 1:
        raise argparse.ArgumentTypeError(f"{text}: a chance is at least 0 and below 1")
    return value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: a number of at least 0 is needed")
    return value


def play(policy: Policy, table: Table, cluster: Cluster, seeds: int) -> Score:
    """A policy's score over seeds 0, 1, ..."""
    from tune.scores import score
    from tune.simulate import Simulation

    traces = [
        Simulation(policy.study(table, seed), table, policy.metric, cluster, seed).run()
        for seed in range(seeds)
    ]
    return score(policy.name, traces, table)


def report(table: Table, cluster: Cluster, scores: Sequence[Score]) -> Iterator[str]:
    """The tables for a person, at most 80 columns wide."""
    from pipeline.units import to_mm

    yield (
        f"{table.name}: {len(table.curves)} settings of up to {table.epochs} epochs, "
        f"{table.total_epochs} in all"
    )
    yield f"the best error {to_mm(table.lowest):.3f} mm; {cluster.workers} workers, {scores[0].seeds} seeds"
    yield ""
    yield "cost until within 2% of the best (quartiles; never: too few seeds got there)"
    yield f"  {'policy':<20}{'epochs':>18}{'worker-minutes':>21}{'minutes':>9}{'busy':>8}"
    for row in scores:
        epochs = "".join(f"{_count(value):>6}" for value in row.epochs_to_close)
        minutes = "".join(f"{_count(value / 60):>7}" for value in row.worker_seconds_to_close)
        clock = _count(row.seconds_to_close[1] / 60)
        yield f"  {row.policy:<19.19} {epochs}{minutes}{clock:>9}{row.busy:>8.0%}"
    yield ""
    yield "median regret after a part of all epochs; seeds without (a) an error within"
    yield "2%, (b) the best itself, after half of the epochs and at the search's end"
    heads = "".join(f"{head:>7}" for head in ("1/16", "1/8", "1/4", "1/2", "end"))
    yield f"  {'policy':<20}{heads}{'a 1/2':>6}{'end':>5}{'b 1/2':>7}{'end':>5}"
    for row in scores:
        regret = "".join(f"{_percent(value):>7}" for value in row.regret.values())
        missed = f"{row.missed_at_half:>6}{row.missed:>5}{row.lost_at_half:>7}{row.lost:>5}"
        yield f"  {row.policy:<19.19} {regret}{missed}"


def _count(value: float) -> str:
    if value == float("inf"):
        return "never"
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _percent(value: float) -> str:
    return "-" if value == float("inf") else f"{100 * value:.2f}%"


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    args = build_parser().parse_args(argv)
    import json

    from tune.curves import read_table
    from tune.policies import POLICIES, policy
    from tune.simulate import Cluster

    policies = [policy(name) for name in (POLICIES if args.policy == ["all"] else args.policy)]
    table = read_table(args.curves)
    cluster = Cluster(args.workers, args.loss_rate, args.queue_wait)
    scores = []
    for number, entry in enumerate(policies, start=1):
        print(f"{number}/{len(policies)}: {entry.name}, {args.seeds} seeds", file=sys.stderr, flush=True)
        scores.append(play(entry, table, cluster, args.seeds))
    if args.json:
        facts = {"curves": table.name, "settings": len(table.curves), "epochs": table.total_epochs}
        about = {**facts, "best_rmse": table.lowest, "workers": args.workers}
        print(json.dumps({**about, "policies": [row.as_tree() for row in scores]}, indent=2))
    else:
        print("\n".join(report(table, cluster, scores)))


if __name__ == "__main__":
    cli.run(main)
