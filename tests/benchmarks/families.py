"""Families of made-up learning curves that tempt a search to stop the wrong trials.

    python tests/benchmarks/families.py --out DIR

writes a table for tune.replay for each. All errors are metres; all randomness comes from the seed.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tune.curves import Curve, Table, Values, make_table, write_table

EPOCHS, SETTINGS = 27, 200
EMA_EPOCHS = 2.0

Shape = Callable[[random.Random, float], Callable[[float], float]]
"""From a generator and a setting's end (metres) to its error at a time from 0 to 1, without noise."""


def power(end: float, start: float, bend: float) -> Callable[[float], float]:
    """From `start` at time 0 to `end` at 1; the larger `bend`, the earlier most of the way is done."""

    def error(time: float) -> float:
        return end + (start - end) * (1 - time) ** bend * math.exp(-bend * time)

    return error


def plain(draw: random.Random, end: float) -> Callable[[float], float]:
    """The order is there from the beginning."""
    return power(end, 0.02, 3.0)


def crossing(draw: random.Random, end: float) -> Callable[[float], float]:
    """Fast and slow learners, whatever their end: the curves cross."""
    return power(end, 0.02, math.exp(draw.uniform(math.log(0.8), math.log(8))))


def late_bloomers(draw: random.Random, end: float) -> Callable[[float], float]:
    """The better a setting ends, the longer it stays high, as with a large rate that is annealed at last."""
    quality = (end - 0.004) / 0.008
    bend = 1.0 + 4.0 * quality + draw.uniform(-0.5, 0.5)
    return power(end, 0.02, max(bend, 0.7))


FAMILIES: dict[str, tuple[Shape, float]] = {  # and the noise, relative to the error
    "plain": (plain, 0.02),
    "noisy": (plain, 0.15),
    "crossing": (crossing, 0.04),
    "late-bloomers": (late_bloomers, 0.04),
}
QUADRATIC = "quadratic"
NAMES = (*FAMILIES, QUADRATIC)


def family(name: str, settings: int = SETTINGS, epochs: int = EPOCHS, seed: int = 0) -> Table:
    """The table of a family; epochs take half a second to two, one setting in twelve diverges."""
    draw = random.Random(f"{name} {seed}")
    make = quadratic if name == QUADRATIC else partial(shaped, name)
    return make_table(name, [make(draw, number, epochs) for number in range(settings)])


def shaped(name: str, draw: random.Random, number: int, epochs: int) -> Curve:
    """A setting of one of the FAMILIES."""
    shape, noise = FAMILIES[name]
    curve = shape(draw, 0.004 + 0.008 * draw.random() ** 0.7)
    shakes = [draw.gauss(0, noise) * (1 - epoch / epochs) for epoch in range(epochs)]
    rmse = [curve((epoch + 1) / epochs) * math.exp(shake) for epoch, shake in enumerate(shakes)]
    return recorded({"number": number}, rmse, smoothed(rmse), draw, draw.random() < 1 / 12)


def quadratic(draw: random.Random, number: int, epochs: int) -> Curve:
    """The noisy quadratic model of training (Zhang et al., arXiv:1907.04164) under learning-rate schedules.

    The squared error is a floor, what is left along directions of falling curvature, and the gradient's
    noise, in proportion to the present rate. Averaged weights lose most of that noise.
    """
    lr, batch = 3e-4 * (2e-2 / 3e-4) ** draw.random(), draw.choice([8, 16, 32])
    decay, warmup = 1e-4 * 5e3 ** draw.random(), draw.choice([0, 0, 3, 6])
    scheduler = draw.choice(["constant", "cosine", "step"])
    floor = 2.4e-3 * (1 + 0.04 * math.log(decay / 0.01) ** 2 / 4)
    progress, lag, rmse, average = 0.0, 0.0, [], []
    for epoch in range(epochs):
        rate = lr * schedule_factor(scheduler, warmup, epoch / epochs, epochs)
        progress += rate * 350 / batch
        lag += (progress - lag) / EMA_EPOCHS
        noise = 2.2e-3 * rate / batch
        shake = math.exp(draw.gauss(0, 0.02))
        rmse.append(shake * math.sqrt(floor**2 + remainder(progress) + noise))
        average.append(math.sqrt(floor**2 + remainder(lag) + 0.15 * noise) * math.exp(draw.gauss(0, 0.005)))
    values = {"lr": lr, "batch_size": batch, "weight_decay": decay, "scheduler": scheduler, "warmup": warmup}
    return recorded(values, rmse, average, draw, diverges=lr > 1.4e-2 and warmup < draw.choice([1, 6]))


def remainder(progress: float) -> float:
    """What is left of the squared error along eight directions, each half as curved as the one before."""
    return sum(6e-5 * math.exp(-2 * progress * 12 * 0.5**index) for index in range(8))


def schedule_factor(name: str, warmup: int, time: float, epochs: int) -> float:
    """What the learning rate is multiplied by at a time from 0 to 1."""
    rise = min(1.0, (time * epochs + 1) / (warmup + 1))
    shape = {"constant": 1.0, "cosine": 0.5 + 0.5 * math.cos(math.pi * time), "step": 0.3 ** int(3 * time)}
    return rise * shape[name]


def recorded(
    values: Values, rmse: list[float], average: list[float], draw: random.Random, diverges: bool
) -> Curve:
    """The curve as a table has it, cut where it diverges."""
    second, epochs = draw.uniform(0.5, 2.0), len(rmse)
    if diverges:
        epochs = draw.randint(1, epochs)
        rmse[epochs - 1] = average[epochs - 1] = math.nan
    return Curve(values, tuple(rmse[:epochs]), tuple(average[:epochs]), (second,) * epochs)


def smoothed(errors: list[float]) -> list[float]:
    """What averaged weights would score: noise averaged out, a little behind."""
    average, found = errors[0] * 1.1, []
    for error in errors:
        average += (error - average) / EMA_EPOCHS
        found.append(average)
    return found


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the tables go")
    parser.add_argument("--settings", type=int, default=SETTINGS, metavar="N")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        write_table(args.out / f"{name}.csv", family(name, args.settings).curves)


if __name__ == "__main__":
    main()
