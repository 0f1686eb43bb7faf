"""Records the learning curves of many settings on a tiny rendered twin, as a table for tune.replay.

    python tests/benchmarks/curves.py --runs runs/curves --out curves.csv

Every setting is drawn by the search's own sampler and trained to its full length by `fit` in a process with
one thread; the same command again trains only what is missing. A run that diverges ends with an epoch whose
errors are nan. Cost: about 12 s of a core a setting (measured): 256 settings take 51 minutes of one core.
"""

from __future__ import annotations

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import nan
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # one core a run; before torch

from pipeline.config import RunConfig, SearchConfig
from pipeline.configfile import apply_values, load_experiment
from pipeline.data.source import data_set
from pipeline.errors import DivergedError
from pipeline.paths import RunPaths, Workspace
from pipeline.runrecord import read_epochs, read_json
from pipeline.schedule import label
from pipeline.train import fit
from tune.curves import Curve, write_table
from tune.space import Space, canonical

OVERRIDES = ("twin.size=32", "twin.train=500", "twin.test=2", "train.ema_epochs=2")
# Wide enough that its ends fail: that is what a search is for.
SPACE: dict[str, Any] = {
    "train.lr": {"log_uniform": [3.0e-4, 2.0e-2]},
    "train.batch_size": {"choice": [8, 16, 32]},
    "train.weight_decay": {"log_uniform": [1.0e-4, 0.5]},
    "train.scheduler": {
        "choice": [
            {"name": "constant"},
            {"name": "cosine"},
            {"name": "cosine", "warmup": "3 of 27"},
            {"name": "cosine", "warmup": "6 of 27", "floor": 0.01},
            {"name": "step", "every": "9 of 27", "factor": 0.3},
            {"name": "multistep", "milestones": "[18, 24] of 27", "factor": 0.1},
        ]
    },
}


@dataclass(frozen=True)
class Setting:
    """One configuration and the folder of its run."""

    config: RunConfig
    paths: RunPaths


def settings(model: str, count: int, epochs: int, root: Path) -> list[Setting]:
    """The first `count` settings of the space, the same whenever they are asked for."""
    base = load_experiment(model, "smoke", overrides=[*OVERRIDES, f"train.epochs={epochs}"]).run()
    space = Space(SearchConfig.model_validate({"space": SPACE}).space, base)
    taken: set[str] = set()
    found = []
    for number in range(1, count + 1):  # 0 is the configured one
        draw = space.draw("curves", number, taken)
        if draw is None:
            break
        taken.add(canonical(draw.values))
        config = apply_values(base, draw.values).model_copy(update={"seed": draw.seed})
        found.append(Setting(config, RunPaths(root / f"{model}-{config.hash()}")))
    return found


def train(setting: Setting, data: Path) -> float:
    """Trains a setting unless that is done; the CPU seconds that took."""
    start = time.process_time()
    if read_json(setting.paths.outcome).get("reason") == "DIVERGED":
        return 0.0
    with suppress(DivergedError):
        fit(setting.config, data, setting.paths)
    setting.paths.best.unlink(missing_ok=True)
    return time.process_time() - start


def train_all(todo: list[Setting], data: Path, processes: int) -> None:
    """Trains the settings, with a line for each as it ends."""
    start = time.monotonic()
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        running = [pool.submit(partial(train, data=data), setting) for setting in todo]
        for count, done in enumerate(as_completed(running), start=1):
            spent = time.monotonic() - start
            print(f"{count}/{len(todo)}  {done.result():.1f} s of a core; {spent:.0f} s so far", flush=True)


def curve(setting: Setting) -> Curve:
    """A setting's curve; one that diverged gets an epoch more, whose errors are nan."""
    train, records = setting.config.train, read_epochs(setting.paths)
    values = {
        "lr": f"{train.lr:.3g}",
        "batch_size": train.batch_size,
        "weight_decay": f"{train.weight_decay:.3g}",
        "scheduler": label(train.scheduler.model_copy(update={"warmup": 0.0})),
        "warmup": round(train.scheduler.warmup * train.epochs),
    }
    epochs = [(record.rmse or nan, record.rmse_ema or nan, record.seconds) for record in records]
    if len(records) < train.epochs:
        epochs.append((nan, nan, records[-1].seconds if records else 1.0))
    rmse, rmse_ema, seconds = zip(*epochs, strict=True)
    return Curve(values, rmse, rmse_ema, seconds)


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, required=True, metavar="DIR", help="folder of the runs")
    parser.add_argument("--out", type=Path, required=True, metavar="CSV", help="the table")
    parser.add_argument("--model", default="convnext", help="the backbone, as its small sibling")
    parser.add_argument("--settings", type=int, default=256, metavar="N")
    parser.add_argument("--epochs", type=int, default=27, metavar="N")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)), metavar="N")
    args = parser.parse_args()
    twin = load_experiment(args.model, "smoke", overrides=list(OVERRIDES)).twin
    data = data_set(None, Workspace(args.runs), twin)
    todo = settings(args.model, args.settings, args.epochs, args.runs)
    train_all(todo, data, args.processes)
    write_table(args.out, map(curve, todo))


if __name__ == "__main__":
    main()
