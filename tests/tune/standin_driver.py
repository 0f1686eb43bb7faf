"""RUNS DATA TRIALS SECONDS: a real search, Ray and all, whose training function makes its curves up.

The training function resumes as the real one does: it reports what it had done before, then goes on. The
variable FAULT makes the first attempt at one trial meet a broken GPU (`gpu`) or no memory (`memory`), or all
a full disk (`disk`) or a mistake in the code (`code`); GPU_HOURS is the study's budget, CONFIRM how many of
its best are run again, SHARE the part of all epochs that it may train, WORKERS how many train at a time,
STUDIES the names of the studies.
"""

import errno
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pipeline import cli
from pipeline.config import Experiment, RunConfig
from pipeline.errors import DivergedError, InterruptedRunError
from pipeline.paths import RunPaths, Workspace, write_text_atomically
from pipeline.provenance import Purpose
from pipeline.train import Report
from tests.tune.standin import curve
from tune.driver import carry_out
from tune.local_ray import LocalRay
from tune.place import Workers
from tune.plan import Plan

SPACE = {"train.lr": {"log_uniform": (1e-4, 1e-2)}, "train.batch_size": {"choice": (8, 16)}}
SEARCH = {"epochs": 9, "grace": 1, "reduction": 3, "space": SPACE, "keep": 2}
DIVERGING_TRIAL, FAULTY_TRIAL = 3, 2
FLUSH_S = 0.2


def fit(
    config: RunConfig,
    data: Path,
    paths: RunPaths,
    report: Report,
    attempt: int,
    purpose: Purpose,
    asked_to_stop: Callable[[], bool],
    *,
    pause: float,
) -> None:
    paths.root.mkdir(parents=True, exist_ok=True)
    meet_fault(int(paths.root.name), attempt)
    done = int(paths.latest.read_text()) if paths.latest.exists() else 0
    try:
        for epoch in range(1, config.train.epochs + 1):
            if epoch > done:
                time.sleep(pause)
                write_text_atomically(paths.latest, str(epoch))
                if asked_to_stop():
                    raise InterruptedRunError("saved")
            if paths.root.name == f"{DIVERGING_TRIAL:04d}":
                raise DivergedError("the loss is nan at step 5; lower train.lr")
            report(epoch=epoch, rmse=curve(config, epoch), seconds=pause)
    finally:
        time.sleep(min(FLUSH_S, pause))  # the best weights take their time
        paths.best.write_text(str(attempt))


def meet_fault(trial: int, attempt: int) -> None:
    fault = os.environ.get("FAULT")
    if fault == "gpu" and (trial, attempt) == (FAULTY_TRIAL, 1):
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nand so on")
    if fault == "memory" and (trial, attempt) == (FAULTY_TRIAL, 1):
        raise MemoryError("no room for 3 GB")
    if fault == "code":
        raise RuntimeError(f"no such layer in trial {trial}")
    if fault == "disk" and trial >= FAULTY_TRIAL:
        raise OSError(errno.ENOSPC, "No space left on device")


def main() -> None:
    runs, data, trials, pause = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    limit = {"gpu_hours": os.environ.get("GPU_HOURS"), "confirm": os.environ.get("CONFIRM", 0)}
    limit |= {"share": os.environ["SHARE"]} if "SHARE" in os.environ else {}
    workers = Workers(int(os.environ.get("WORKERS", 2)), 1)
    experiment = Experiment.model_validate(
        {"model": {"name": "resnet50"}, "search": {"trials": trials, **SEARCH, **limit}}
    )
    plans = [
        Plan(Workspace(runs), name, experiment, "smoke", workers, data, ())
        for name in os.environ.get("STUDIES", "s").split()
    ]
    with LocalRay(workers) as here:
        carry_out(plans, partial(fit, pause=pause), here)


if __name__ == "__main__":
    cli.run(main)
