"""Learning-rate schedules: pure functions of the step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from pipeline.config import Constant, Cosine, MultiStep, Scheduler, Step

ROUNDING = 1e-9  # 30 of 200 epochs is 0.15 of the run, and 0.15 x steps may come out a hair above the step


def lr_factor(schedule: Scheduler, step: int, total_steps: int) -> float:
    """What the learning rate is multiplied by at `step` (from 0) of a run of `total_steps`.

    Warm-up rises linearly to the schedule's own value at its end, as in Goyal et al., arXiv:1706.02677.
    """
    progress = step / total_steps + ROUNDING
    warmup = min(1.0, (step + 1) / (schedule.warmup * total_steps)) if schedule.warmup else 1.0
    return warmup * SHAPES[schedule.name](schedule, progress)


def label(schedule: Scheduler) -> str:
    """A short text for tables, such as `multistep x0.5 @ 0.15 0.3 0.45`."""
    shape = LABELS[schedule.name](schedule)
    return f"{shape} warmup {schedule.warmup:.3g}" if schedule.warmup else shape


def _constant(schedule: Constant, progress: float) -> float:
    return 1.0


def _multistep(schedule: MultiStep, progress: float) -> float:
    return schedule.factor ** sum(progress >= milestone for milestone in schedule.milestones)


def _step(schedule: Step, progress: float) -> float:
    return schedule.factor ** math.floor(progress / schedule.every)


def _cosine(schedule: Cosine, progress: float) -> float:
    """SGDR without restarts, arXiv:1608.03983, over what the warm-up leaves of the run."""
    annealed = max(0.0, progress - schedule.warmup) / max(1.0 - schedule.warmup, ROUNDING)
    return schedule.floor + (1 - schedule.floor) * 0.5 * (1 + math.cos(math.pi * min(annealed, 1.0)))


SHAPES: dict[str, Callable[[Any, float], float]] = {
    "constant": _constant,
    "multistep": _multistep,
    "step": _step,
    "cosine": _cosine,
}

LABELS: dict[str, Callable[[Any], str]] = {
    "constant": lambda schedule: "constant",
    "multistep": lambda schedule: (
        f"multistep x{schedule.factor:g} @ {' '.join(f'{m:.3g}' for m in schedule.milestones)}"
    ),
    "step": lambda schedule: f"step x{schedule.factor:g} every {schedule.every:.3g}",
    "cosine": lambda schedule: f"cosine to {schedule.floor:g}" if schedule.floor else "cosine",
}
