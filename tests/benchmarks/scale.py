"""What the driver of a search costs: many trials that train nothing, through Ray and all.

    python tests/benchmarks/scale.py --runs DIR --trials 1000

Prints wall time, results a second, the driver's CPU time and memory, and what is left on disk.
"""

from __future__ import annotations

import argparse
import random
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipeline.config import Experiment, RunConfig
from pipeline.data.packwriter import PackWriter, Sample
from pipeline.paths import RunPaths, Workspace
from pipeline.provenance import Purpose
from pipeline.records import Epoch, read_journal
from pipeline.train import Report
from tune.driver import carry_out
from tune.local_ray import LocalRay
from tune.place import Workers
from tune.plan import Plan

SIZE, SAMPLES = 32, 96


def fit(
    config: RunConfig,
    data: Path,
    paths: RunPaths,
    report: Report,
    attempt: int,
    purpose: Purpose,
    asked_to_stop: Callable[[], bool],
) -> None:
    """Reports made-up epochs at once."""
    quality = random.Random(config.hash()).uniform(2e-3, 8e-3)
    for epoch in range(1, config.train.epochs + 1):
        report(epoch=epoch, rmse=quality * (1 + 1 / epoch), seconds=0.001)


def black_pack(root: Path) -> Path:
    """A packed data set without anything to see."""
    counts = {"train": SAMPLES, "test": 0}
    black, far = np.zeros((9, SIZE, SIZE), np.uint8), np.full((3, SIZE, SIZE), 900, np.uint16)
    with PackWriter(root, counts, SIZE, SIZE, labelled=("train",), source="made for a benchmark") as writer:
        for index in range(SAMPLES):
            writer.write("train", index, Sample(black, far, id=index, label_m_12=np.zeros(12)))
    return root


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, required=True, metavar="DIR", help="a folder that is not there")
    parser.add_argument("--trials", type=int, default=1000, metavar="N")
    parser.add_argument("--epochs", type=int, default=9, metavar="N")
    parser.add_argument("--workers", type=int, default=2, metavar="N")
    args = parser.parse_args()
    space = {"train.lr": {"log_uniform": (1e-5, 1e-1)}}
    search = {"trials": args.trials, "epochs": args.epochs, "space": space, "keep": 1}
    experiment = Experiment.model_validate({"model": {"name": "resnet50"}, "search": search})
    workspace, workers = Workspace(args.runs), Workers(args.workers, 1)
    plan = Plan(workspace, "scale", experiment, "smoke", workers, black_pack(args.runs / "pack"), ())
    start = time.monotonic()
    with LocalRay(workers) as here:
        carry_out([plan], fit, here)
    wall = time.monotonic() - start
    study = workspace.study("scale")
    results = sum(isinstance(record, Epoch) for record in read_journal(study.journal))
    cpu_ms = 1e3 * time.process_time() / results
    memory_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    files = sum(path.is_file() for path in study.root.rglob("*"))
    print(f"{args.trials} trials, {results} results: {wall:.0f} s, {results / wall:.1f} results/s")
    print(f"driver: {cpu_ms:.1f} ms of a core a result, its start included; {memory_mib:.0f} MiB")
    print(f"{files} files, journal {study.journal.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
