"""The comparisons that the report made, on the rendered twin: one change at a time, several seeds each.

    python tests/benchmarks/comparisons.py --out runs/comparisons
    python tests/benchmarks/comparisons.py --out runs/comparisons --pretrained weights.pt

Every run is one `fit` in a process of its own; the same command again trains only what is missing. The table
gives the validation RMSE at the end of training (the best epoch's, as the leaderboard does).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, stdev

os.environ["OMP_NUM_THREADS"] = "1"  # one core a run; before torch

from pipeline.configfile import load_experiment
from pipeline.data.source import data_set
from pipeline.errors import ConfigError
from pipeline.models import arch, require_weights
from pipeline.paths import RunPaths, Workspace
from pipeline.train import fit
from pipeline.units import to_mm

VARIANTS: dict[str, tuple[str, ...]] = {
    "baseline: MSE, depth clip, RGB statistics per view": (),
    "loss: SmoothL1": ("train.loss=smooth_l1",),
    "depth: report, [0, 1]": ("data.depth=report",),
    "depth: symmetric, [-1, 1]": ("data.depth=symmetric",),
    "depth: per image": ("data.depth=per_image",),
    "RGB statistics shared by the views": ("data.rgb_statistics=shared",),
    "inputs: RGB only": ("data.inputs=rgb",),
    "inputs: depth only": ("data.inputs=depth",),
    "PixDropout as published": ("data.augment.pix_dropout.probability=0.7",),
    "PixDropout, the report's variant": ("data.augment.report_dropout.probability=0.7",),
    "average of the weights over 2 epochs": ("train.ema_epochs=2",),
}
STEMS = ("adapted", "fresh")


@dataclass(frozen=True)
class Task:
    """One run: a variant, a seed, and where it goes."""

    model: str
    profile: str
    name: str
    changes: tuple[str, ...]
    seed: int
    epochs: int
    data: Path
    out: Path


def train(task: Task) -> float:
    """The best validation RMSE of a run, in millimetres."""
    overrides = ["model.pretrained=false", f"train.epochs={task.epochs}", f"seed={task.seed}", *task.changes]
    config = load_experiment(task.model, task.profile, overrides=overrides).run()
    result = fit(config, task.data, RunPaths(task.out / f"{task.model}-{config.hash()}"))
    if result.rmse is None:
        raise ValueError(f"{task.name}: no validation data")
    return to_mm(result.rmse)


def measure(tasks: list[Task], workers: int) -> dict[str, list[float]]:
    """The RMSE of every run by variant, in millimetres; a line for each as it ends."""
    found: dict[str, list[float]] = {}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(train, task): task for task in tasks}
        for done in as_completed(running):
            task, rmse_mm = running[done], done.result()
            found.setdefault(task.name, []).append(rmse_mm)
            count = sum(map(len, found.values()))
            print(f"{count}/{len(tasks)}  {task.name}, seed {task.seed}: {rmse_mm:.2f} mm", flush=True)
    return found


def with_pretrained(model: str, small: bool, pretrained: str) -> dict[str, tuple[str, ...]]:
    """VARIANTS and, where these weights are at hand, one with each kind of stem; else a line says why not."""
    try:
        require_weights(model, pretrained == "true" or pretrained, small)
    except ConfigError as error:
        print(f"without pretrained weights: {error}\n", flush=True)
        return VARIANTS
    rows = {
        f"pretrained weights, {stem} stem": (f"model.pretrained={pretrained}", f"model.stem={stem}")
        for stem in STEMS
    }
    return VARIANTS | rows


def table(found: dict[str, list[float]], names: Iterable[str]) -> Iterator[str]:
    """The lines of a Markdown table, in this order; the first is the baseline."""
    baseline = fmean(found[next(iter(VARIANTS))])
    yield "| what | RMSE, mm | beside the baseline | runs |"
    yield "|---|---|---|---|"
    for name in names:
        values = found[name]
        mean, spread = fmean(values), f" ± {stdev(values):.2f}" if len(values) > 1 else ""
        yield f"| {name} | {mean:.2f}{spread} | {mean / baseline - 1:+.0%} | {len(values)} |"


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--model", default="convnext", help="the backbone")
    parser.add_argument(
        "--profile", default="smoke", help="smoke: its small sibling; full: the network itself"
    )
    parser.add_argument("--pretrained", default="true", help="true: ImageNet's; or a checkpoint's path")
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--seeds", type=int, default=3, help="runs a variant")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    experiment = load_experiment(args.model, args.profile)
    twin, small = experiment.twin, experiment.model.small
    variants = with_pretrained(args.model, small, args.pretrained)
    data = data_set(None, Workspace(args.out), twin)
    tasks = [
        Task(args.model, args.profile, name, changes, seed, args.epochs, data, args.out)
        for seed in range(args.seeds)
        for name, changes in variants.items()
    ]
    found = measure(tasks, args.workers)
    what = f"{twin.train} samples of {twin.size} px, {args.epochs} epochs, seeds 0 to {args.seeds - 1}"
    print(f"\n{arch(args.model, small)}, {what}:\n")
    print("\n".join(table(found, variants)))


if __name__ == "__main__":
    main()
