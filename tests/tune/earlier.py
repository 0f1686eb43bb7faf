"""Earlier studies for others to start from."""

import math
from collections.abc import Callable
from typing import Any

from pipeline.config import Experiment
from pipeline.records import Drawn, Ended, Epoch, Record, Started, read_journal
from tune.request import Request
from tune.study import Study

MakeExperiment = Callable[..., Experiment]

DATA = 40 * "d"
SPACE = {"train.lr": {"log_uniform": (1e-4, 1e-2)}, "train.batch_size": {"choice": (8, 16)}}
CONFIGURED = {"train.lr": 1e-3, "train.batch_size": 32}


def setting(lr: float, **more: Any) -> dict[str, Any]:
    return {"train.lr": lr, "train.batch_size": 8, **more}


def trained(
    number: int, values: dict[str, Any], rmse: float | None = None, confirms: int | None = None, **end: Any
) -> list[Record]:
    """A trial's records; without an error it runs still, and has not reached a rung."""
    source = "random" if confirms is None else "confirm"
    drawn = Drawn(trial=number, values=values, seed=number, source=source, confirms=confirms)
    start = Started(trial=number, attempt=1, node="here", slurm_job=None, pid=1)
    if rmse is None and not end:
        return [drawn, start]
    epoch = Epoch(
        trial=number, attempt=1, epoch=9, rmse=rmse or math.nan, seconds=1.0, decision="continue", rung=None
    )
    return [drawn, start, *([epoch] if rmse else []), Ended(trial=number, **{"status": "completed"} | end)]


def three_trials() -> list[list[Record]]:
    return [
        trained(0, CONFIGURED, 0.004),
        trained(1, setting(2e-3), 0.005),
        trained(2, setting(3e-3), 0.003),
        trained(3, setting(4e-3)),
        trained(4, setting(5e-3), status="failed", reason="DIVERGED"),
        trained(5, setting(6e-3), status="failed", reason="CUDA_OOM"),
    ]


def request(experiment: Experiment, study: str = "s", profile: str = "smoke", data: str = DATA) -> Request:
    return Request(study, profile, data, None, experiment)


def take(study: Study, count: int) -> list[Drawn]:
    """The first trials as the journal has them; those that are new are given out."""
    while len(study.trials) < count and study.next_trial() is not None:
        pass
    records = read_journal(study.paths.journal)
    return [record for record in records if isinstance(record, Drawn)][:count]
