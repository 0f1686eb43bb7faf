"""RUNS DATA SEARCH: a real search of small networks (SEARCH: its settings as JSON), all but the memory real.

LIMIT images fit into it at once, and not even two where the network is of full size. Every epoch's number of
optimizer steps is written down beside the run.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from pipeline import cli, train
from pipeline.config import Experiment, RunConfig
from pipeline.paths import RunPaths, Workspace
from pipeline.provenance import Purpose
from pipeline.train import FitResult, Report
from tests.memory import memory_for
from tune.driver import carry_out
from tune.local_ray import LocalRay
from tune.place import Workers
from tune.plan import Plan

LIMIT = 10
STEPS = "steps.txt"


def fit(
    config: RunConfig,
    data: Path,
    paths: RunPaths,
    report: Report,
    attempt: int,
    purpose: Purpose,
    asked_to_stop: Callable[[], bool],
) -> FitResult:
    with memory_for(LIMIT if config.model.small else 1), counted(report, paths.root / STEPS) as counting:
        return train.fit(config, data, paths, counting, attempt, purpose, asked_to_stop)


@contextmanager
def counted(report: Report, path: Path) -> Iterator[Report]:
    """Adds a line for every epoch reported: the optimizer steps since the last one."""
    steps = 0

    def count(optimizer: torch.optim.Optimizer, *arguments: object) -> None:
        nonlocal steps
        steps += 1

    def counting(*, epoch: int, rmse: float, seconds: float) -> None:
        nonlocal steps
        with path.open("a") as file:
            file.write(f"{steps}\n")
        steps = 0
        report(epoch=epoch, rmse=rmse, seconds=seconds)

    handle = register_optimizer_step_post_hook(count)
    try:
        yield counting
    finally:
        handle.remove()


def main() -> None:
    runs, data, search = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    tree = {"model": {"name": "resnet50", "small": True}, "train": {"batch_size": 4}, "device": "cpu"}
    experiment = Experiment.model_validate(tree | {"search": search})
    plan = Plan(Workspace(runs), "s", experiment, "smoke", Workers(2, 1), data, ())
    with LocalRay(plan.workers) as here:
        carry_out([plan], fit, here)


if __name__ == "__main__":
    cli.run(main)
