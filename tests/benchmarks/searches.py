"""Compares this project's search with random search and with Ray's ASHA, on every table at hand.

    python tests/benchmarks/searches.py
    python tests/benchmarks/searches.py --curves FILE.csv --workers 8 --json

The tables: the two shipped, the made-up families, further ones by --curves. "ray-asha, best" is no policy
but the best that any of 18 settings of Ray's scheduler (GRID) reached in that column, each column by itself:
chosen in hindsight, which nobody can do in a search. 30 seeds with one number of workers take a table half a
minute of a core, and another minute or two for TPE, which --no-tpe leaves out.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from families import NAMES, family

from tune.curves import Table, read_table
from tune.policies import policy
from tune.replay import play
from tune.scores import Score
from tune.simulate import Cluster

DATA = Path(__file__).parents[1] / "tune" / "data"
SHIPPED = {"shipped": DATA / "curves.csv", "resnet50": DATA / "resnet50.csv"}
WORKERS = (1, 8, 100, 10_000)
GRID = [
    f"ray-asha:grace={grace},reduction={reduction},metric={metric}"
    for grace, reduction, metric in product((1, 3, 9), (2, 3, 4), ("rmse", "best"))
]
BEST = "ray-asha, best"
OWN = ("asha", "asha-tpe")
REGRETS = {1 / 8: "1/8", 1 / 4: "1/4", 1 / 2: "1/2", 1.0: "end"}
ABOUT = """Medians of the epochs and minutes until within 2% of the best, and of
the regret after a part of all epochs; seeds that found nothing within 2% at all
(missed), and not the best itself in half of all epochs (lost)"""

Row = dict[str, float]
"""What a policy is judged by: all the smaller the better but `busy`. Infinite: too few seeds got there."""


def row_of(score: Score) -> Row:
    """The figures of a policy: medians over seeds, seeds, and the part of the time that workers trained."""
    regrets = {name: score.regret[budget] for budget, name in REGRETS.items()}
    return {
        "epochs": score.epochs_to_close[1],
        "minutes": score.seconds_to_close[1] / 60,
        **regrets,
        "missed": score.missed,
        "lost": score.lost_at_half,
        "busy": score.busy,
    }


def best_of(rows: Sequence[Row]) -> Row:
    """The best of each column by itself."""
    return {key: (max if key == "busy" else min)(row[key] for row in rows) for key in rows[0]}


def compare(table: Table, workers: int, seeds: int, own: Sequence[str]) -> dict[str, Row]:
    """The row of each policy on a table."""
    names = ["random-full", *GRID, *own]
    rows = {name: row_of(play(policy(name), table, Cluster(workers), seeds)) for name in names}
    rays = best_of([rows.pop(name) for name in GRID])
    return {"random-full": rows.pop("random-full"), BEST: rays, **rows}


def lines(table: Table, workers: int, rows: dict[str, Row]) -> Iterator[str]:
    """A table for a person, at most 80 columns wide."""
    yield f"{table.name}, {workers} workers ({len(table.curves)} settings, {table.total_epochs} epochs)"
    regrets = "".join(f"{name:>8}" for name in REGRETS.values())
    yield f"  {'policy':<15}{'epochs':>7}{'minutes':>8}{regrets}{'missed':>7}{'lost':>5}{'busy':>5}"
    for name, row in rows.items():
        regrets = "".join(f"{percent(row[key]):>8}" for key in REGRETS.values())
        cost = f"{number(row['epochs']):>7}{number(row['minutes']):>8}"
        yield f"  {name:<15}{cost}{regrets}{row['missed']:>7}{row['lost']:>5}{row['busy']:>5.0%}"
    yield ""


def number(value: float) -> str:
    """Two digits or a whole number."""
    if math.isinf(value):
        return "never"
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def percent(value: float) -> str:
    """A share of one in percent."""
    return "-" if math.isinf(value) else f"{100 * value:.2f}%"


def finite(tree: Any) -> Any:
    """The same for JSON, where what is infinite becomes null."""
    if isinstance(tree, dict):
        return {key: finite(value) for key, value in tree.items()}
    return tree if math.isfinite(tree) else None


def tables(names: Sequence[str], files: Sequence[Path], seed: int) -> Iterator[Table]:
    """The tables, each made or read when it is needed."""
    for name in names:
        yield read_table(SHIPPED[name]) if name in SHIPPED else family(name, seed=seed)
    for path in files:
        yield read_table(path)


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    every = (*SHIPPED, *NAMES)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", nargs="*", choices=every, default=every, metavar="T", help=str(every))
    parser.add_argument("--curves", type=Path, nargs="*", default=[], metavar="CSV", help="further tables")
    parser.add_argument("--workers", type=int, nargs="+", default=WORKERS, metavar="N")
    parser.add_argument("--seeds", type=int, default=30, metavar="N", help="orders of the settings")
    parser.add_argument("--family-seed", type=int, default=0, metavar="N", help="other made-up curves")
    parser.add_argument("--no-tpe", action="store_true")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the tables")
    return parser


def main() -> None:
    """Runs the command."""
    args = build_parser().parse_args()
    found: dict[str, dict[int, dict[str, Row]]] = {}
    if not args.json:
        print(f"{args.seeds} seeds. {ABOUT}\n")
    for table in tables(args.tables, args.curves, args.family_seed):
        for workers in args.workers:
            rows = compare(table, workers, args.seeds, OWN[:1] if args.no_tpe else OWN)
            found.setdefault(table.name, {})[workers] = rows
            if not args.json:
                print("\n".join(lines(table, workers, rows)), flush=True)
    if args.json:
        print(json.dumps(finite(found), indent=2))


if __name__ == "__main__":
    main()
