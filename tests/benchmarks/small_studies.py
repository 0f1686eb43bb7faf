"""What searches find in studies of ordinary size: some settings of a table, drawn anew for each seed.

    python tests/benchmarks/small_studies.py --trials 12 40 100

tests/benchmarks/searches.py plays searches until everything is trained; here each ends where it would end by
itself, and what it had found by then is shown, and for how much. 100 seeds take a policy and a table about
10 s of a core with 40 trials.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from statistics import fmean

from tune.curves import Table, read_table
from tune.policies import Policy, policy
from tune.simulate import Cluster, Simulation

DATA = Path(__file__).parents[1] / "tune" / "data"
SHIPPED = [DATA / "curves.csv", DATA / "resnet50.csv"]
OURS = Policy("this search, its defaults")
POLICIES = [
    OURS,
    Policy("the same, first rung at a 27th", search={"grace": 1}),
    Policy("the same, without second chances", search={"share": 0}),
    policy("ray-asha"),
    policy("ray-asha:grace=3,reduction=2,metric=best"),
]


def sample(table: Table, trials: int, seed: int) -> Table:
    """Some settings of a table."""
    curves = random.Random(seed).sample(list(table.curves), trials)
    return Table(table.name, tuple(curves), table.epochs)


def outcome(entry: Policy, table: Table, workers: int, seed: int) -> tuple[float, float, float]:
    """A search's regret, the part of all epochs that it trained, and the minutes it took."""
    trace = Simulation(entry.study(table, seed), table, entry.metric, Cluster(workers), seed).run()
    return trace.finds[-1].rmse / table.lowest - 1, trace.epochs / table.total_epochs, trace.clock / 60


def line(entry: Policy, table: Table, trials: int, workers: int, seeds: int) -> str:
    """The mean over seeds."""
    found = [outcome(entry, sample(table, trials, seed), workers, seed) for seed in range(seeds)]
    regrets, parts, minutes = zip(*found, strict=True)
    missed = sum(regret > 0 for regret in regrets)
    name = entry.name.replace("metric=", "")
    return f"  {name:<40}{fmean(regrets):>8.2%}{missed:>9}{fmean(parts):>9.0%}{fmean(minutes):>9.2f}"


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, nargs="+", default=[12, 40, 100], metavar="N")
    parser.add_argument("--workers", type=int, default=8, metavar="N")
    parser.add_argument("--seeds", type=int, default=100, metavar="N")
    parser.add_argument("--curves", type=Path, nargs="+", default=SHIPPED, metavar="CSV")
    args = parser.parse_args()
    for table in map(read_table, args.curves):
        for trials in args.trials:
            print(f"{table.name}: {trials} trials, {args.workers} workers, {args.seeds} seeds")
            print(f"  {'mean over seeds':<40}{'regret':>8}{'missed':>9}{'epochs':>9}{'minutes':>9}")
            for entry in POLICIES:
                print(line(entry, table, trials, args.workers, args.seeds), flush=True)


if __name__ == "__main__":
    main()
