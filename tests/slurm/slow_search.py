"""NAME RUNS DATA CLUSTER SETTINGS: the driver of a search on the test cluster, with real but slowed training.

SETTINGS is the configuration's `search` section as JSON. Every new epoch takes as many seconds longer as
RUNS/pause says, so that faults have something to hit. Each attempt notes in RUNS/repeats how many epochs it
has to train again. Run by slurm.job, as a driver is.
"""

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pipeline import cli
from pipeline.config import Experiment, RunConfig
from pipeline.paths import RunPaths, Workspace
from pipeline.provenance import Purpose
from pipeline.train import Report

SPACE = {"train.lr": {"log_uniform": (1e-4, 1e-2)}, "train.batch_size": {"choice": (8, 16)}}
SEARCH = {"epochs": 30, "grace": 10, "reduction": 2, "space": SPACE, "keep": 2}


def slow_fit(
    config: RunConfig,
    data: Path,
    paths: RunPaths,
    report: Report,
    attempt: int,
    purpose: Purpose,
    asked_to_stop: Callable[[], bool],
    *,
    runs: Path,
) -> None:
    from pipeline.checkpoint import read_checkpoint
    from pipeline.errors import CheckpointError
    from pipeline.runrecord import read_epochs
    from pipeline.train import fit

    known = len(read_epochs(paths))
    try:
        saved = read_checkpoint(paths.latest)["progress"]["epoch"]
    except CheckpointError:
        saved = 0
    if attempt > 1 and not paths.outcome.exists():
        with (runs / "repeats").open("a") as handle:
            handle.write(f"{int(paths.root.name)} {attempt} {known - saved}\n")

    def slowly(*, epoch: int, rmse: float, seconds: float) -> None:
        if epoch > saved:
            time.sleep(float((runs / "pause").read_text()))
        report(epoch=epoch, rmse=rmse, seconds=seconds)

    fit(config, data, paths, slowly, attempt, purpose, asked_to_stop)


def main() -> None:
    from slurm.cluster import load_cluster
    from slurm.search import drive
    from tune.place import Workers
    from tune.plan import Plan

    name, runs, data, cluster = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), load_cluster(sys.argv[4])
    experiment = Experiment.model_validate(
        {
            "model": {"name": "resnet50", "small": True},
            "device": "cpu",
            "checkpoint_every_s": 0.5,
            "search": {**SEARCH, **json.loads(sys.argv[5])},
        }
    )
    workers = Workers(cluster.pool.workers, cluster.gpu.cpus)
    plan = Plan(Workspace(runs), name, experiment, "smoke", workers, data, ())
    drive(cluster, [plan], partial(slow_fit, runs=runs))


if __name__ == "__main__":
    cli.run(main)
